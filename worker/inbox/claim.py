"""One file of the inbox at a time: judged, claimed, and opened as a job in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import structlog

from tasks.folders.claims import ClaimedDocument, Claims
from tasks.folders.disk_names import clean
from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused
from tasks.model.job import Failure
from tasks.model.names import check_file_name, check_patient_id
from worker.inbox.scan import Candidate
from worker.inbox.sidecar import Sidecar

log = structlog.get_logger()


class LedgerAway(Exception):
    """The ledger cannot be reached now; everything is to be tried again later."""


class InboxLedger(Protocol):
    """What the inbox needs of the ledger. Each of these may raise LedgerAway.

    Opening is idempotent: a job that is there already stays as it is. It may raise DocumentRefused, whereupon the
    job is opened as refused.
    """

    def is_known(self, job_id: str) -> bool:
        """Whether the ledger will by itself bring this job's folder to an end.

        False also for a job that has ended and was closed: a document that is in our care again is to be opened.
        """
        ...

    def earlier(self, job_file: JobFile, path: Path) -> str | None:
        """The failed job that this document continues (same bytes, name and patient), if there is one."""
        ...

    def check(self, document: Document) -> None:
        """Raises DocumentRefused for what the document's account cannot send: too large, no patient, such a type."""
        ...

    def open_inbox(self, job_id: str, job_file: JobFile, path: Path) -> None:
        """Open the job of a document that lies at `path` now."""
        ...

    def open_refused(self, job_id: str, job_file: JobFile, path: Path, refusal: DocumentRefused) -> None:
        """Open the job of a document that fails at once; closing it brings the file to failed/."""
        ...

    def recover(self, job_id: str, job_file: JobFile, path: Path) -> None:
        """Open a job that the ledger has forgotten, as of unknown outcome if `job_file.committed`."""
        ...


class InboxClaims:
    """Takes documents into our care."""

    def __init__(
        self,
        folders: Folders,
        claims: Claims,
        ledger: InboxLedger,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folders = folders
        self._claims = claims
        self._ledger = ledger
        self._now = now

    def claim(self, candidate: Candidate) -> None:
        """Take a document out of the inbox and open its job.

        Raises LedgerAway, before the claim or after it: a document that is ours already is left to `recover`.
        Raises ChangedMeanwhile and FileNotFoundError when there is another file now, or none, AlreadyInCare when an
        earlier document of the job is on its way, and OSError.
        """
        judged = self._judged(candidate)
        earlier = None if judged.refused else self._earlier(judged, candidate.path)
        job_id = earlier or judged.job_id
        path = self._claims.claim(
            candidate.path,
            job_id,
            judged,
            seen=candidate.identity,
            sidecar=candidate.sidecar if candidate.sidecar_identity else None,
            continues=earlier is not None,
        )
        log.info("document_claimed", job=job_id, account=candidate.account, size=candidate.identity.size_bytes)
        self._open(self._folders.read_job_file(job_id), path, self._ledger.open_inbox)

    def recover(self, held: ClaimedDocument) -> None:
        """Open the job of a document in our care that the ledger does not know. Raises LedgerAway and OSError."""
        log.info("document_recovered", job=held.job_id, account=held.job_file.account, sent=held.job_file.committed)
        try:
            held = self.reread(held) if held.job_file.round else held
        except DocumentRefused as refusal:
            held = replace(held, job_file=self._folders.update_job_file(held.job_id, refused=_failure(refusal)))
        self._open(held.job_file, held.document, self._ledger.recover)

    def reread(self, held: ClaimedDocument) -> ClaimedDocument:
        """What the sidecar of a reopened document asks for now; somebody may have corrected it in failed/.

        What may have been sent already stays as it was. Raises DocumentRefused for a sidecar that is still faulty,
        so that its document is not sent without what it asked for.
        """
        if held.sidecar is None or held.job_file.committed:
            return held
        sidecar = Sidecar.read(held.sidecar)
        asked = _asked(sidecar, held.job_file.disk_name)
        return replace(held, job_file=self._folders.update_job_file(held.job_id, **asked))

    def _judged(self, candidate: Candidate) -> JobFile:
        """What the document is and, if it cannot be sent, why."""
        try:
            sidecar = Sidecar.read(candidate.sidecar) if candidate.sidecar else Sidecar()
        except DocumentRefused as refusal:
            return replace(self._job_file(candidate, Sidecar()), refused=_failure(refusal))
        job_file = self._job_file(candidate, sidecar)
        try:
            self._check(job_file.document(candidate.path))
        except DocumentRefused as refusal:
            return replace(job_file, refused=_failure(refusal))
        return job_file

    def _check(self, document: Document) -> None:
        if document.size_bytes == 0:
            raise DocumentRefused(Code.FILE_EMPTY, "The file is empty.", hint="Scan or export it again.")
        check_patient_id(document.patient_id)
        check_file_name(document.file_name)
        self._ledger.check(document)

    def _earlier(self, job_file: JobFile, path: Path) -> str | None:
        return self._ledger.earlier(job_file, path)

    def _open(self, job_file: JobFile, path: Path, opened: Callable[[str, JobFile, Path], None]) -> None:
        refused = job_file.refused
        if refused is None:
            try:
                opened(job_file.job_id, job_file, path)
                return
            except DocumentRefused as refusal:
                refused = _failure(refusal)
                job_file = self._folders.update_job_file(job_file.job_id, refused=refused)
        again = DocumentRefused(refused.code, refused.message, hint=refused.hint, detail=refused.detail)
        self._ledger.open_refused(job_file.job_id, job_file, path, again)

    def _job_file(self, candidate: Candidate, sidecar: Sidecar) -> JobFile:
        return JobFile(
            job_id=str(uuid4()),
            account=candidate.account,
            patient_id=candidate.patient_id,
            disk_name=candidate.path.name,
            size_bytes=candidate.identity.size_bytes,
            received_at=self._now(),
            **_asked(sidecar, candidate.path.name),
        )


def _asked(sidecar: Sidecar, disk_name: str) -> dict[str, Any]:
    """The fields of job.json that a sidecar decides."""
    return {
        "file_name": sidecar.file_name or clean(disk_name),
        "content_type": sidecar.content_type,
        "description": sidecar.description,
        "options": sidecar.options,
        "idempotency_key": sidecar.idempotency_key,
    }


def _failure(refusal: DocumentRefused) -> Failure:
    return Failure(refusal.code, refusal.message, refusal.hint, refusal.detail)
