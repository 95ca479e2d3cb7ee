"""The inbox's way into the ledger: a claimed file becomes a job, and what a wiped Redis forgot becomes one again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from tasks.accounts.account import Accounts
from tasks.folders.job_json import JobFile
from tasks.folders.machine_name import machine_name
from tasks.folders.staging import Staging
from tasks.intake.admission import Admission
from tasks.ledger.ledger import Ledger, MaybeSent
from tasks.ledger.redis import REDIS_ERRORS
from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.model.job import Facts, Record, outcome_open
from tasks.model.route import Stage, Step
from tasks.runtime import Runtime
from tasks.sources.sources import Sources
from worker.inbox.claim import LedgerAway

log = structlog.get_logger()


@contextmanager
def _or_away() -> Iterator[None]:
    """Redis, or the storage that files are staged to, cannot be reached: the watcher waits and comes back."""
    try:
        yield
    except REDIS_ERRORS as error:  # as the broker too: refused documents send their closing step
        raise LedgerAway(f"Redis cannot be asked ({type(error).__name__}).") from error
    except RetryLater as error:
        raise LedgerAway(str(error)) from error


class InboxOpening:
    """Implements `worker.inbox.claim.InboxLedger` over the ledger itself. Every call may be repeated."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        accounts: Accounts,
        admission: Admission,
        sources: Sources,
        staging: Staging | None,
        data_dir: Path,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._admission = admission
        self._sources = sources
        self._staging = staging
        self._data_dir = data_dir

    @classmethod
    def of(cls, runtime: Runtime) -> InboxOpening:
        return cls(
            ledger=runtime.ledger,
            accounts=runtime.accounts,
            admission=runtime.admission,
            sources=runtime.documents.sources,
            staging=runtime.staging,
            data_dir=runtime.settings.data_dir,
        )

    @_or_away()
    def is_known(self, job_id: str) -> bool:
        job = self._ledger.get(job_id)
        return job is not None and not (job.stage.final and job.step is Step.NONE)

    @_or_away()
    def earlier(self, job_file: JobFile, path: Path) -> str | None:
        document = replace(job_file.document(path), size_bytes=path.stat().st_size)
        with suppress(DocumentRefused):  # said again, and settled, when the document is opened
            job = self._admission.continued_job(document)
            return job.id if job else None
        return None

    def check(self, document: Document) -> None:
        self._accounts[document.account].provider.check(document)

    @_or_away()
    def open_inbox(self, job_id: str, job_file: JobFile, path: Path) -> None:
        job_file, document = self.placed(job_file, path)
        if not self._continued(job_id, document):
            self._open(job_id, job_file, document)

    recover = open_inbox
    """After a wipe: job.json says what is known, above all whether the document may have been sent."""

    @_or_away()
    def open_refused(self, job_id: str, job_file: JobFile, path: Path, refusal: DocumentRefused) -> None:
        self._admission.open_refused(job_id, job_file.document(path), refusal)

    def placed(self, job_file: JobFile, path: Path) -> tuple[JobFile, Document]:
        """The document as workers read it, and its job.json as they know it. Raises DocumentRefused, RetryLater."""
        return self._staged(job_file, path, self._located(job_file.document(path)))

    def _located(self, document: Document) -> Document:
        located = self._sources.locate(document.source)
        return replace(document, size_bytes=located.size_bytes, identity=located.identity)

    def _staged(self, job_file: JobFile, path: Path, document: Document) -> tuple[JobFile, Document]:
        """The document as workers elsewhere read it, and the job.json that they have written beside it."""
        staging = self._staging
        if staging is None:
            return job_file, document
        with suppress(DocumentRefused):  # not there yet
            job_file = staging.read_job_file(job_file.job_id)
        source = staging.put(job_file, path)
        identity = self._sources.locate(source).identity
        home = machine_name(self._data_dir)
        return job_file, replace(document, source=source, identity=identity, home=home)

    def _continued(self, job_id: str, document: Document) -> bool:
        """Whether this is a failed job's document that has come back."""
        job = self._ledger.get(job_id)
        if job is None or job.stage not in (Stage.FAILED, Stage.CANCELLED):
            return False
        again = self._ledger.retry_reconciling if outcome_open(job) else self._ledger.retry
        why = again(job, document, first=self._accounts[document.account].provider.route(document).first)
        log.info("job_continued", job=job_id, account=document.account, why=why)
        return True

    def _open(self, job_id: str, job_file: JobFile, document: Document) -> None:
        provider = self._accounts[document.account].provider
        maybe_sent = maybe_sent_of(job_file) if job_file.committed else None
        asked: dict[str, Any] = {"maybe_sent": maybe_sent, "route": provider.route(document)}
        opened = self._ledger.open(job_id, document, provider.kind, **asked)
        if opened.kind == "conflict":
            raise DocumentRefused(Code.INVALID_REQUEST, "This idempotency key was used for another document.")
        if opened.kind == "same":
            # The file is in our care and needs a job of its own, which will find out that it is a duplicate.
            self._ledger.unalias(job_id, opened.job_id)
            opened = self._ledger.open(job_id, document, provider.kind, reserve_key=False, **asked)
        log.info("job_opened", job=job_id, account=document.account, door=document.door, kind=opened.kind)


def maybe_sent_of(job_file: JobFile) -> MaybeSent:
    """What a look needs, as it was written down before the last block could leave."""
    record = Record(job_file.record_id) if job_file.record_id else None
    facts = Facts(snapshot=job_file.snapshot, key=job_file.key, record=record, provider=job_file.provider_facts)
    return MaybeSent(facts, job_file.committed_step)
