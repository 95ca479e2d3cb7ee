"""Documents on their way into our care: from the inbox, by `chartpost send`, back from failed/, or after a kill."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO

from tasks.folders import durable
from tasks.folders.companions import ClosedDocument, Outcome, read_companion
from tasks.folders.disk_names import SIDECAR_ENDING, clean
from tasks.folders.durable import ChangedMeanwhile, FileIdentity
from tasks.folders.job_folder import JobFolder
from tasks.folders.job_json import JobFile, job_file_in, round_of
from tasks.folders.layout import Folders
from tasks.folders.outcomes import drop_stale_error_file
from tasks.folders.set_aside import set_aside
from tasks.model.errors import UNCERTAIN_CODES


class AlreadyInCare(Exception):
    """The job has a document in our care already."""


@dataclass(frozen=True, slots=True)
class ClaimedDocument:
    """A document in our care, and the sidecar that came with it."""

    job_id: str
    job_file: JobFile
    path: Path
    sidecar: Path | None


@dataclass(frozen=True, slots=True)
class Damaged:
    """A job's folder that cannot be read or tidied; it is left to a person."""

    job_id: str
    reason: str  # safe for logs


class Claims:
    """Takes documents into `processing/`, and tidies up what a kill has left there. Every step may be repeated."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    def claim(
        self,
        path: Path,
        job_id: str,
        job_file: JobFile,
        *,
        seen: FileIdentity | None = None,
        sidecar: Path | None = None,
        continues: bool = False,
        has_writer: Callable[[Path], bool] = lambda _: False,
    ) -> Path:
        """Move a file and its sidecar from the inbox into `processing/<job id>/`; returns where the file is now.

        `seen` is the file that was checked; another file of its name is not taken. `continues`: the document belongs
        to a job that has failed, and came back by the inbox. `has_writer` tells whether a program has the file open for
        writing.
        Raises ChangedMeanwhile, StillWritten, AlreadyInCare and OSError; the file is then where it was.
        """
        folder = self._folders.job_folder(job_id)
        with folder.lock(make=True):
            if folder.document:
                raise AlreadyInCare(job_id)
            account, patient_id = job_file.account, job_file.patient_id
            failed = self._folders.error_files.find(job_id, account, patient_id) if continues else None
            try:
                seen = _identity_if_same(path, seen)
                job_file = replace(job_file, job_id=job_id, disk_name=path.name)
                if failed:
                    job_file = _with_earlier_commit(job_file, read_companion(failed.companion))
                # In this order: see what a kill leaves after each step, in job_folder.
                folder.write(job_file)
                if sidecar is not None:
                    folder.take_sidecar(sidecar)
                document = folder.take(path, seen, has_writer)
            except (OSError, ChangedMeanwhile):
                self._tidy(folder)
                raise
            drop_stale_error_file(failed, folder)
            return document

    def adopt_copy(self, source: Path | BinaryIO, job_id: str, job_file: JobFile) -> Path:
        """Copy a regular file into our care, durably; job.json gets the size that was copied.

        Raises DocumentRefused (`file_missing`, `not_a_regular_file`, `file_changed`) and OSError.
        """
        folder = self._folders.job_folder(job_id)
        with folder.lock(make=True):
            try:
                return folder.adopt(source, job_file)
            finally:
                self._tidy(folder)

    def reopen_failed(self, job_id: str, account: str, patient_id: str | None) -> ClaimedDocument:
        """Move a failed document back into our care; the caller then reopens the job in the ledger.

        Raises FileNotFoundError if the document or its error file is not in failed/ any more.
        """
        folder = self._folders.job_folder(job_id)
        with folder.lock(make=True):
            failed = self._folders.error_files.find(job_id, account, patient_id)
            try:
                if failed and failed.document.exists() and not folder.document:
                    job_file = _next_round(job_id, account, patient_id, failed)
                    # job.json goes first: its new round makes the error file stale, which is removed last.
                    folder.write(job_file)
                    durable.move_new(failed.document, folder.document_path(job_file.disk_name), folder.draft)
                drop_stale_error_file(failed, folder)
                if folder.document is None:
                    raise FileNotFoundError(errno.ENOENT, "The document is not in failed/ any more.")
                return ClaimedDocument(job_id, folder.read(), folder.document, folder.sidecar)
            finally:
                self._tidy(folder)

    # --- after a kill ----------------------------------------------------------------------------------------------

    def finish_claims(self) -> list[Damaged]:
        """Tidy up what kills have left of claims, from the disk alone. Returns the folders that it could not tidy.

        Call it before the inbox is first read: until then a sidecar may be away from its document, which would be
        claimed without it.
        """
        results = (self._unless_busy(job_id, self._tidy) for job_id in self._folders.job_ids())
        return [result for result in results if isinstance(result, Damaged)]

    def orphans(self, known: Callable[[str], bool]) -> Iterator[ClaimedDocument | Damaged]:
        """Documents in our care whose jobs the ledger does not know, to be opened again under the same id.

        An unfinished claim is finished or undone on the way, an unfinished closing is finished. Passes over folders
        in which another process is at work. An error that `known` raises ends the iteration.
        """
        for job_id in self._folders.job_ids():
            if not known(job_id):
                result = self._unless_busy(job_id, self._orphan)
                if result:
                    yield result

    def _unless_busy(
        self, job_id: str, act: Callable[[JobFolder], ClaimedDocument | None]
    ) -> ClaimedDocument | Damaged | None:
        folder = self._folders.job_folder(job_id)
        try:
            with folder.lock(wait=False):
                return act(folder)
        except BlockingIOError:
            return None
        except FileNotFoundError:
            return Damaged(job_id, "job.json is missing")
        except (OSError, ChangedMeanwhile) as error:
            # An errno's name instead of the system's own words: these hold the path, and so the patient.
            number = error.errno if isinstance(error, OSError) else None
            return Damaged(job_id, errno.errorcode.get(number, "OSError") if number else str(error))

    def _tidy(self, folder: JobFolder) -> None:
        """Finish a copy that was interrupted, and remove a folder that has no document."""
        folder.finish_copy()
        if folder.document:
            return
        # The document is still in the inbox or in failed/; or it is closed, and only the last step is missing.
        if folder.sidecar:
            job_file = folder.read()
            if not self._finish_closing(folder, job_file):
                patient_folder = "" if job_file.in_account_folder else job_file.patient_id or ""
                inbox_folder = self._folders.inbox / job_file.account / patient_folder
                folder.return_sidecar(inbox_folder / (job_file.disk_name + SIDECAR_ENDING))
        folder.remove()

    def _orphan(self, folder: JobFolder) -> ClaimedDocument | None:
        """The document of a job that the ledger does not know; None if there is none, or its job had ended."""
        self._tidy(folder)
        document = folder.document
        if document is None:
            return None
        job_file = folder.read()
        if self._finish_closing(folder, job_file):
            return None
        failed = self._folders.error_files.find(folder.job_id, job_file.account, job_file.patient_id)
        drop_stale_error_file(failed, folder)
        # A person may have put another file in its place. Once a document may have been sent its size stays as noted,
        # since the search is for what was sent.
        if not job_file.committed:
            job_file = replace(job_file, size_bytes=document.stat().st_size)
        return ClaimedDocument(folder.job_id, job_file, document, folder.sidecar)

    def _finish_closing(self, folder: JobFolder, job_file: JobFile) -> bool:
        """Finish the closing of this round if it was begun; False if it was not."""
        outcome = Outcome(
            folder.job_id,
            job_file.account,
            job_file.patient_id,
            job_file.disk_name,
            {},  # not written: the companion is there
            folder.document,
            folder.sidecar,
            job_file.round,
        )
        # A receipt ends the job in every round, and does not carry a number: after it no job is taken up again.
        delivery = replace(outcome, sidecar=None, round=0)
        if self._folders.receipts.find_begun(delivery):
            self._folders.receipts.put(replace(delivery, document=None) if job_file.set_aside else delivery)
            if job_file.set_aside and folder.document:
                set_aside(self._folders, job_file, folder.document)
        elif self._folders.error_files.find_begun(outcome):
            self._folders.error_files.put(outcome)
        else:
            return False
        folder.remove()
        return True


def _identity_if_same(path: Path, seen: FileIdentity | None) -> FileIdentity:
    """The file's identity. Raises ChangedMeanwhile if it is not the file that was seen, or not a regular one."""
    status = path.lstat()
    identity = FileIdentity.of(status)
    if not S_ISREG(status.st_mode) or identity != (seen or identity):
        raise ChangedMeanwhile("Another file has taken its name since it was seen.")
    return identity


def _with_earlier_commit(job_file: JobFile, error_file: Mapping[str, Any]) -> JobFile:
    """The job.json of the next round, with what the error file tells of what was sent before."""
    earlier = job_file_in(error_file)
    if earlier is None:
        # A person or another version wrote the error file. Its code alone says whether a search must come first.
        perhaps_sent = error_file.get("code") in UNCERTAIN_CODES
        return replace(job_file, round=round_of(error_file) + 1, committed=perhaps_sent)
    return replace(
        job_file,
        round=earlier.round + 1,
        committed=earlier.committed,
        committed_step=earlier.committed_step,
        record_id=earlier.record_id,
        unknown_since=earlier.unknown_since,
        snapshot=earlier.snapshot,
        key=earlier.key,
        provider_facts=earlier.provider_facts,
        content_remarks=earlier.content_remarks,
    )


def _next_round(job_id: str, account: str, patient_id: str | None, failed: ClosedDocument) -> JobFile:
    """The job.json with which a failed document is taken up again."""
    error_file = read_companion(failed.companion)
    disk_name, size_bytes = failed.document.name, failed.document.stat().st_size
    earlier = job_file_in(error_file)
    if earlier:
        return replace(
            earlier, job_id=job_id, size_bytes=size_bytes, round=earlier.round + 1, refused=None, sent_identity=None
        )
    file_name = str(error_file.get("file_name") or clean(disk_name))
    job_file = JobFile(job_id, account, patient_id, file_name, disk_name, size_bytes, received_at=datetime.now(UTC))
    return _with_earlier_commit(job_file, error_file)
