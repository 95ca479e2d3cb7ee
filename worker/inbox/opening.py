"""Opens the jobs of documents in our care: newly claimed ones, and those that a wiped Redis has forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import redis
import structlog

from tasks.accounts.account import Accounts
from tasks.closing.files import DocumentFiles
from tasks.folders.job_json import Commit, JobFile
from tasks.folders.layout import Folders
from tasks.folders.machine_name import machine_name
from tasks.folders.staging import Staging, is_staged
from tasks.intake.admission import Admission
from tasks.ledger import moves
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.ledger import Ledger, MaybeSent
from tasks.ledger.redis import REDIS_ERRORS, error_code, is_outage, log_redis_error
from tasks.model.document import Document, Place
from tasks.model.errors import UNCERTAIN_CODES, Code, DocumentRefused, RetryLater
from tasks.model.job import Facts, Job, Record
from tasks.model.route import Stage, Step
from tasks.sources.documents import Documents, sha256_of
from tasks.sources.files import open_place
from tasks.sources.objects import StorageFault

log = structlog.get_logger()

_TAKEN_UP_AGAIN = (Stage.FAILED, Stage.CANCELLED)


class LedgerAway(Exception):
    """Redis, or the storage that documents are staged to, cannot be used now: try again later.

    `reason` says which, for the log.
    """

    def __init__(self, message: str = "", *, reason: str = "the ledger is away") -> None:
        super().__init__(message)
        self.reason = reason


@contextmanager
def as_ledger_away() -> Iterator[None]:
    """Raise LedgerAway for an outage, so that the watcher waits instead of failing a document."""
    try:
        yield
    except REDIS_ERRORS as error:  # includes the broker's error: the job of a refused document sends its closing step
        if error_code(error) == "WRONGTYPE":
            raise  # a key of this document or of its account: the others go on
        if not is_outage(error):
            log_redis_error(error, part="inbox")
        raise LedgerAway(f"Redis cannot be asked ({type(error).__name__}).") from error
    except StorageFault as error:
        raise LedgerAway(str(error), reason=f"staging: {error.why}") from error
    except (RetryLater, LedgerRefused) as error:
        raise LedgerAway(str(error), reason=str(error)) from error


class JobOpener:
    """Each call may be repeated: a job that is already open stays as it is.

    Each method but `check` and `locate` raises LedgerAway. `staging` is None unless `s3.stage_inbox` is set.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        accounts: Accounts,
        admission: Admission,
        documents: Documents,
        staging: Staging | None,
        folders: Folders,
        files: DocumentFiles,
        data_dir: Path,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._admission = admission
        self._documents = documents
        self._staging = staging
        self._folders = folders
        self._files = files
        self._data_dir = data_dir

    @as_ledger_away()
    def is_known(self, job_id: str) -> bool:
        """True while the job goes on with the document in our care.

        False for a closed job whose file is here, and for one that `has_come_back`, whatever work it has left.
        """
        try:
            job = self._ledger.get(job_id)
        except redis.ResponseError as error:
            if error_code(error) != "WRONGTYPE":
                raise
            return True  # nothing can be said of it until a person has mended its key
        if job is None or (job.stage.final and job.step is Step.NONE) or self._has_come_back(job):
            return False
        # The files are here, whatever the ledger says of them: these folders may have been renamed, or the job is of an
        # earlier version.
        here = machine_name(self._data_dir)
        if job.document.home != here and not is_staged(job) and self._ledger.bind(job_id, here):
            log.info("job_bound_here", job=job_id, account=job.account)
        return True

    @as_ledger_away()
    def has_come_back(self, job_id: str) -> bool:
        """True if the document is in our care again, and its failed job has not gone on yet.

        Another process may be about to let it go on. If none is, a kill or an outage came in between.
        """
        job = self._ledger.get(job_id)
        return self._folders.document(job_id) is not None if job is None else self._has_come_back(job)

    def _has_come_back(self, job: Job) -> bool:
        if job.stage not in _TAKEN_UP_AGAIN:  # most jobs: job.json need not be read
            return False
        # Without a job.json that can be read nothing is known of a later round.
        with suppress(OSError):
            return _is_later_round(self._folders.read_job_file(job.id), job)
        return False

    @as_ledger_away()
    def close_ended(self, job_file: JobFile) -> bool:
        """Close the files of a job that has ended and whose document still lies here. False if it has not ended.

        The ledger says that its files are closed: another machine has done that, or the document is back. May be
        repeated. Raises OSError.
        """
        job = self._ledger.get(job_file.job_id)
        if job is None or not job.stage.final or _is_later_round(job_file, job):
            return False
        self._files.close(job)
        log.info("document_closed", job=job.id, account=job.account, state=job.stage, code=job.code)
        return True

    @as_ledger_away()
    def continued(self, job_file: JobFile, path: Path) -> JobFile | None:
        """As which the document continues a failed job (same bytes, name and patient); None if it continues none.

        That is its job.json with that job's id, with the next round, by which a kill before the job goes on is noticed,
        and with what was sent, which an error file may know better.
        """
        document = replace(job_file.document_at(path), size_bytes=path.stat().st_size)
        # The same refusal comes again when the document is opened, and is settled there.
        with suppress(DocumentRefused):
            job = self._admission.continued_job(document, lambda: _sha256_at(path))
            if job:
                next_round = job_file.with_document(round=job.document.round + 1)
                remarks = job.facts.content_remarks
                return replace(next_round, job_id=job.id, commit=commit_of(job), content_remarks=remarks)
        return None

    def check(self, document: Document) -> None:
        """Raises DocumentRefused for what the account's provider does not take: its size, its type, no patient."""
        self._accounts[document.account].provider.check(document)

    @as_ledger_away()
    def open(self, job_file: JobFile, path: Path, *, new: bool = False) -> None:
        """Open the job of the document at `path`, or continue it if it had failed. Raises DocumentRefused.

        A document that may have been sent, as its job.json says, is opened with an unknown outcome. `new`: its job's id
        was made just now, so there is no job to be continued.
        """
        job_file, document = self.locate(job_file, path)
        job = None if new else self._ledger.get(job_file.job_id)
        if job and job.stage in _TAKEN_UP_AGAIN:
            self._continue(job, document)
        else:
            self._open(job_file, document)

    @as_ledger_away()
    def open_refused(self, job_file: JobFile, path: Path) -> None:
        """Open the job of a document that fails at once. Its closing brings the file to failed/.

        The file of a job that had failed before goes back there, beside the earlier failure.
        """
        job = self._ledger.get(job_file.job_id)
        if job and _is_later_round(job_file, job):
            self._files.close(job)
            log.warning("document_not_continued", job=job.id, account=job.account)
            return
        refused = job_file.refused
        assert refused is not None  # noqa: S101
        refusal = DocumentRefused(
            refused.code, refused.message, hint=refused.hint, detail=refused.detail, about=refused.about
        )
        document = replace(job_file.document_at(path), home=machine_name(self._data_dir))
        self._admission.open_refused(job_file.job_id, document, refusal)

    def locate(self, job_file: JobFile, path: Path) -> tuple[JobFile, Document]:
        """The document as workers read it, staged if need be, and its job.json. Raises DocumentRefused, RetryLater."""
        document = job_file.document_at(path)
        located = self._documents.locate(job_file.job_id, document)
        document = replace(document, size_bytes=located.size_bytes, identity=located.identity)
        home = machine_name(self._data_dir)
        document = replace(document, home=home)
        if job_file.committed and job_file.sent_identity and self._staging is None:
            # It is searched for as it was sent, and not sent again if it has changed since.
            document = replace(document, size_bytes=job_file.document.size_bytes, identity=job_file.sent_identity)
        if self._staging is None:
            return job_file, document
        # Workers elsewhere note the commit in the staged job.json, since they cannot reach processing/ here.
        with suppress(DocumentRefused):  # it has not been staged yet
            job_file = self._staging.read_job_file(job_file.job_id)
        source, identity = self._staging.put(job_file, path, home)
        return job_file, replace(document, source=source, identity=identity, place=Place.STAGED)

    def _continue(self, job: Job, document: Document) -> None:
        # After an unknown outcome the provider is searched before anything is sent.
        retry = moves.retry_reconciling if job.outcome_open else moves.retry
        first = self._accounts[document.account].provider.route(document).first
        why = self._ledger.take_over(job, retry(job, document, first=first))
        log.info("job_continued", job=job.id, account=document.account, why=why)

    def _open(self, job_file: JobFile, document: Document) -> None:
        job_id, provider = job_file.job_id, self._accounts[document.account].provider
        maybe_sent = maybe_sent_of(job_file) if job_file.committed else None
        route = provider.route(document)
        open_job = partial(self._ledger.open, job_id, document, provider.kind, maybe_sent=maybe_sent, route=route)
        opened = open_job()
        if opened.kind == "conflict":
            raise DocumentRefused(Code.INVALID_REQUEST, "This idempotency key was used for another document.")
        if opened.kind == "same":
            # The file in our care needs a job of its own to be closed. That job finds out that it is a duplicate.
            self._ledger.unalias(job_id, opened.job_id)
            opened = open_job(reserve_key=False)
        log.info("job_opened", job=job_id, account=document.account, door=document.door, kind=opened.kind)


def _is_later_round(job_file: JobFile, job: Job) -> bool:
    """True if the document was taken up again after the failure that the job still tells of.

    A delivery ends the job in every round.
    """
    return job.stage in _TAKEN_UP_AGAIN and job_file.document.round > job.document.round


def _sha256_at(path: Path) -> str:
    with open_place(path) as file:
        return sha256_of(file)


def commit_of(job: Job) -> Commit:
    """What job.json should know of what a failed job has sent, by what the ledger knows."""
    facts = job.facts
    return Commit(
        stands=job.code in UNCERTAIN_CODES,
        record_id=facts.record.id if facts.record and not facts.record.shared else None,
        noted_at=job.uncertainty.unknown_since,
        snapshot=facts.snapshot,
        key=facts.key,
        provider_facts=facts.provider,
    )


def maybe_sent_of(job_file: JobFile) -> MaybeSent:
    """What a search at the provider needs, as job.json had it before the last block could leave."""
    commit = job_file.commit
    facts = Facts(
        snapshot=commit.snapshot,
        key=commit.key,
        record=Record(commit.record_id) if commit.record_id else None,
        provider=commit.provider_facts,
        content_remarks=job_file.content_remarks,
    )
    return MaybeSent(facts, commit.step)
