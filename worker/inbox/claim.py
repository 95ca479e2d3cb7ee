"""Takes a document from the inbox to an open job. What happens to one document, and what a kill leaves at each point:

1.  A document that is not whole waits (`NotWhole`). Its sidecar is read, and the document is checked as far as that
    goes without its provider. A document that cannot be sent goes through the same points as any other: its reason is
    noted in job.json.
2.  The ledger is asked whether the document continues a failed job of unknown outcome (same bytes, name and patient).
    It then goes on under that job's id. Up to here nothing has changed: after a kill the file is still in the inbox.
3.  `Claims.claim` writes job.json into processing/<job id>/, moves the sidecar there, and then the document. A kill
    before the document has moved leaves it in the inbox. The next start brings its sidecar back and removes the
    folder (`finish_claims`), before the inbox is scanned: otherwise the document would go out without its sidecar.
4.  The job is opened in the ledger. A kill before that leaves an orphan: a document in processing/ whose job the
    ledger does not know. `orphans` finds it, and `open_orphan` opens its job under the same id. A document that
    continues a failed job has a later round in job.json than the job has in the ledger, until the job has gone on. So
    it is an orphan too, whatever the failed job still has to do, and `open_orphan` lets the job go on.
5.  If the ledger refuses the job, the reason is noted in job.json first, and then a failed job is opened. Its closing
    brings the file to failed/. After a kill in between, `open_orphan` finds the reason and does not send the
    document.
6.  After a wipe of Redis every document in processing/ is an orphan. job.json says whether it may have been sent:
    such a job is opened with an unknown outcome.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import structlog

from tasks.folders.claims import ClaimedDocument, Claims, Damaged
from tasks.folders.disk_names import check_is_text, clean
from tasks.folders.durable import StillWritten
from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.folders.notes import note_on
from tasks.model.document import Document, Door
from tasks.model.errors import About, Code, DocumentRefused, invalid_request
from tasks.model.job import Failure
from tasks.model.names import check_file_name, check_patient_id
from tasks.sources.base import incomplete
from tasks.sources.entries import OpenFolder, Place
from tasks.sources.writers import Writers
from worker.inbox.filter import Reason
from worker.inbox.name_patterns import NameReader, NameReading
from worker.inbox.opening import JobOpener, LedgerAway
from worker.inbox.scan import Candidate
from worker.inbox.sidecar import Sidecar
from worker.inbox.wholeness import NotWhole, has_writer, missing_end

log = structlog.get_logger()

_LARGEST_REFUSED_COPY = 1 << 30


class InboxClaims:
    """Claims documents and opens their jobs. Each call may be repeated."""

    def __init__(
        self,
        folders: Folders,
        claims: Claims,
        opener: JobOpener,
        *,
        writers: Writers,
        name_readers: Mapping[str, NameReader] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folders = folders
        self._claims = claims
        self._opener = opener
        self._writers = writers
        self._name_readers = name_readers or {}
        self._now = now

    def finish_claims(self) -> list[Damaged]:
        """Finish or undo interrupted claims, before the first scan. Returns the folders where that failed."""
        return self._claims.finish_claims()

    def claim(self, candidate: Candidate, *, if_incomplete: bool = False) -> None:
        """Claim a settled document and open its job. With `if_incomplete`, one whose end is missing fails.

        Raises NotWhole for a document that must wait, ChangedMeanwhile and FileNotFoundError when another file or none
        is there now, AlreadyInCare while an earlier document of the same job is on its way, and OSError. LedgerAway may
        come before or after the claim; a document that was claimed by then is an orphan, and waits for `open_orphan`.
        """
        with self._folders.open_folder(candidate.path.parent) as folder:
            # Whatever people have made of its name: a note of ours is never sent.
            if note_on(folder.entry(candidate.path.name)):
                raise NotWhole(Reason.OUTCOME_FILE)
            files = [folder.entry(path.name) for path in (candidate.path, candidate.sidecar) if path]
            if any(has_writer(file, self._writers) for file in files):
                raise NotWhole(Reason.OPEN_FOR_WRITING)
            job_file = self._checked(candidate, folder, if_incomplete=if_incomplete)
        self._check_copy(candidate, job_file)
        earlier = None if job_file.refused else self._opener.continued(job_file, candidate.path)
        job_file = earlier or job_file
        job_id = job_file.job_id
        try:
            path = self._claims.claim(
                candidate.path,
                job_id,
                job_file,
                seen=candidate.identity,
                # A sidecar that is not a regular file stays where it is: it is not ours to move.
                sidecar=candidate.sidecar if candidate.sidecar_identity else None,
                continues=earlier is not None,
                notes=candidate.notes,
                # Again after the move: a program may have opened it since.
                has_writer=self._has_writer,
            )
        except StillWritten:
            raise NotWhole(Reason.OPEN_FOR_WRITING) from None
        log.info("document_claimed", job=job_id, account=candidate.account, size=candidate.identity.size_bytes)
        if earlier:
            # Read back from disk: what its error file knew of the earlier try has been added.
            job_file = self._folders.read_job_file(job_id)
        self._open(ClaimedDocument(job_id, job_file, path, None), new=earlier is None)

    def drop_note(self, path: Path) -> None:
        """Remove a note of ours from the inbox, if it is as we wrote it."""
        with suppress(OSError, ValueError), self._folders.open_folder(path.parent) as folder:
            self._folders.notes.remove_note(folder.entry(path.name))

    def is_tried_already(self, candidate: Candidate) -> bool:
        """True if the document continues an earlier job whose own document is still in our care.

        Reads the whole document. False also if that cannot be found out now.
        """
        try:
            with self._folders.open_folder(candidate.path.parent) as folder:
                job_file = self._checked(candidate, folder, if_incomplete=True)
            earlier = None if job_file.refused else self._opener.continued(job_file, candidate.path)
            return earlier is not None and self._folders.document(earlier.job_id) is not None
        except (LedgerAway, OSError):
            return False

    def orphans(self) -> Iterator[ClaimedDocument | Damaged]:
        """Documents in our care whose jobs the ledger does not know, or which have not gone on with them.

        The iteration raises LedgerAway and OSError.
        """
        return self._claims.orphans(self._opener.is_known)

    def settle_orphan(self, orphan: ClaimedDocument) -> None:
        """Close the files of a document whose job has ended, or open its job. Raises LedgerAway and OSError."""
        if not self._opener.close_ended(orphan.job_file):
            self.open_orphan(orphan)

    def open_orphan(self, orphan: ClaimedDocument) -> None:
        """Open the job of a document in our care, under the id in its job.json. Raises LedgerAway and OSError.

        One that was claimed just before a kill may still be open for writing: it stays an orphan until it is not.
        """
        if not orphan.job_file.committed and self._has_writer(orphan.path):
            log.info("document_not_recovered_yet", job=orphan.job_id, reason=Reason.OPEN_FOR_WRITING)
            return
        log.info(
            "document_recovered",
            job=orphan.job_id,
            account=orphan.job_file.document.account,
            sent=orphan.job_file.committed,
        )
        try:
            # Only a reopened document's sidecar can have been corrected, in failed/.
            orphan = self.reread_sidecar(orphan) if orphan.job_file.document.round else orphan
        except DocumentRefused as refusal:
            orphan = self._refused(orphan, refusal)
        self._open(orphan)

    def reread_sidecar(self, document: ClaimedDocument) -> ClaimedDocument:
        """The reopened document with what its sidecar asks for now: a person may have corrected it in failed/.

        Raises DocumentRefused for a sidecar that is still faulty, and for a name that still tells no patient: the
        document must not go out without them.
        """
        job_file = document.job_file
        # What may have been sent is searched for as it was sent.
        if job_file.committed:
            return document
        if document.sidecar is not None:
            sidecar, name = Sidecar.read(document.sidecar), job_file.name_by_pattern or job_file.disk_name
            job_file = self._folders.change_job_file(
                document.job_id, lambda noted: replace(noted, document=sidecar.applied_to(noted.document, name))
            )
            document = replace(document, job_file=job_file)
        self.check_names(document.job_file)
        return document

    def check_names(self, job_file: JobFile) -> None:
        """Raises DocumentRefused for a file whose name must tell its patient and does not, or is not text."""
        if job_file.committed:  # what may have been sent is searched for, whatever its name
            return
        document = job_file.document
        reader = self._name_readers.get(document.account)
        if reader and document.patient_id is None and document.door is Door.INBOX:
            reader.read(job_file.disk_name)
            # It fits by now; but the job is that of a document without a patient.
            raise invalid_request("The patterns for file names have changed.", "Move the file back to the inbox.")
        if document.file_name == clean(job_file.disk_name):
            check_is_text(job_file.disk_name)

    def _has_writer(self, place: Place) -> bool:
        return has_writer(place, self._writers)

    def _checked(self, candidate: Candidate, folder: OpenFolder, *, if_incomplete: bool) -> JobFile:
        """The job.json of a candidate, which says why it cannot be sent if that is so. Raises NotWhole."""
        refused: Failure | None = None
        reading: NameReading | None = None
        sidecar = Sidecar()
        try:
            reading = self._read_name(candidate)
            if candidate.sidecar:
                sidecar = Sidecar.read(folder.entry(candidate.sidecar.name))
        except DocumentRefused as refusal:
            refused = _failure(refusal)
        found = None if sidecar.as_it_is else missing_end(folder.entry(candidate.path.name))
        if found and not if_incomplete:
            raise NotWhole(Reason.INCOMPLETE)
        if found and not refused:
            refused = _failure(incomplete(found))
        job_file = self._as_found(candidate, reading, sidecar)
        if refused:
            return replace(job_file, refused=refused)
        try:
            self.check_names(job_file)
            self._check(job_file.document_at(candidate.path))
        except DocumentRefused as refusal:
            return replace(job_file, refused=_failure(refusal))
        return job_file

    def _as_found(self, candidate: Candidate, reading: NameReading | None, sidecar: Sidecar) -> JobFile:
        """Its job.json, without a check."""
        name = reading.file_name if reading else candidate.path.name
        document = Document(
            account=candidate.account,
            patient_id=reading.patient_id if reading else candidate.patient_id,
            source="",
            file_name=name,
            size_bytes=candidate.identity.size_bytes,
            door=Door.INBOX,
        )
        return JobFile(
            job_id=str(uuid4()),
            document=sidecar.applied_to(document, name),
            disk_name=candidate.path.name,
            received_at=self._now(),
            name_by_pattern=reading.file_name if reading else None,
            in_account_folder=candidate.patient_id is None,
        )

    def _check_copy(self, candidate: Candidate, job_file: JobFile) -> None:
        """What is much too large to be sent stays in an inbox on another disk. Raises OSError.

        A sparse file costs its sender nothing, and its copy would cost us the disk, and everybody the time.
        """
        too_large = job_file.refused is not None and job_file.refused.code == Code.FILE_TOO_LARGE
        size, device = candidate.identity.size_bytes, candidate.identity.device
        if too_large and size > _LARGEST_REFUSED_COPY and device != self._folders.processing.stat().st_dev:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    def _read_name(self, candidate: Candidate) -> NameReading | None:
        """What the account's patterns find in the file's name; None without patterns.

        Raises DocumentRefused where the name must tell the patient and does not.
        """
        reader = self._name_readers.get(candidate.account)
        if reader is None:
            return None
        if candidate.patient_id is None:
            return reader.read(candidate.path.name)
        # A file that came back from failed/<account>/<patient id>/ has the name there that it had in inbox/<account>/.
        # It is the same document only under the same name in the chart.
        with suppress(DocumentRefused):
            reading = reader.read(candidate.path.name)
            return reading if reading.patient_id == candidate.patient_id else None
        return None

    def _check(self, document: Document) -> None:
        if document.size_bytes == 0:
            raise DocumentRefused(Code.FILE_EMPTY, "The file is empty.", hint="Scan or export it again.")
        try:
            check_patient_id(document.patient_id)
        except DocumentRefused as refusal:
            hint = "Put the file into a folder named by the patient's id, as the provider's web addresses show it."
            raise invalid_request(refusal.message, hint, about=About.PATIENT) from None
        check_file_name(document.file_name)
        self._opener.check(document)

    def _open(self, document: ClaimedDocument, *, new: bool = False) -> None:
        if document.job_file.refused is None:
            try:
                self._opener.open(document.job_file, document.path, new=new)
                return
            except DocumentRefused as refusal:
                document = self._refused(document, refusal)
        self._opener.open_refused(document.job_file, document.path)

    def _refused(self, document: ClaimedDocument, refusal: DocumentRefused) -> ClaimedDocument:
        """Note in job.json that a document cannot be sent, so that no later attempt sends it."""
        job_file = self._folders.update_job_file(document.job_id, refused=_failure(refusal))
        return replace(document, job_file=job_file)


def _failure(refusal: DocumentRefused) -> Failure:
    return Failure(refusal.code, refusal.message, refusal.hint, refusal.detail, refusal.about)
