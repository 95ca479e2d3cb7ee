"""Documents on their way into our care: from the inbox, by `chartpost send`, back from failed/, or after a kill."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from tasks.folders import durable
from tasks.folders.companions import ClosedDocument, Outcome
from tasks.folders.disk_names import SIDECAR_ENDING, clean
from tasks.folders.durable import ChangedMeanwhile, FileIdentity
from tasks.folders.job_folder import JobFolder
from tasks.folders.job_json import JobFile, JobFileTooNew, job_file_in, round_of
from tasks.folders.layout import Folders
from tasks.folders.outcomes import drop_notes_left_behind, drop_stale_error_file
from tasks.folders.set_aside import set_aside
from tasks.model.document import Document, Door
from tasks.model.errors import UNCERTAIN_CODES
from tasks.sources.entries import Entry, Place

_MOST_ROUNDS = 1_000_000


class AlreadyInCare(Exception):
    """The job has a document in our care already."""


class NotBelieved(OSError):
    """An error file does not bear our signature for the folder it lies in: its document is left to a person.

    The words are the end of a sentence.
    """

    def __init__(self) -> None:
        super().__init__(
            "its error file does not bear this installation's signature for the folder it lies in: it was edited or "
            "moved, or an earlier version or another key wrote it. Look into the chart, then move the file back to the "
            "inbox of the patient to whom it belongs."
        )


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
    # A newer version wrote it, and goes on with it.
    is_too_new: bool = False


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
        notes: Sequence[str] = (),
        has_writer: Callable[[Place], bool] = lambda _: False,
    ) -> Path:
        """Move a file and its sidecar from the inbox into `processing/<job id>/`; returns where the file is now.

        `seen` is the file that was checked; another file of its name is not taken. `continues`: the document belongs
        to a job that has failed, and came back by the inbox. `notes` are the names of our notes that came with it, and
        of its error file: they go, as the notes that were left behind in failed/ do. `has_writer` tells whether a
        program has the file open for writing. The folder of the file is reached without following a link.
        Raises ChangedMeanwhile, StillWritten, AlreadyInCare and OSError; the file is then where it was.
        """
        folder = self._folders.job_folder(job_id)
        with folder.lock(make=True):
            if folder.document:
                raise AlreadyInCare(job_id)
            account, patient_id = job_file.document.account, job_file.document.patient_id
            failed = self._folders.error_files.find(job_id, account, patient_id) if continues else None
            try:
                with self._folders.open_folder(path.parent) as place:
                    seen = _identity_if_same(place.entry(path.name), seen)
                    job_file = replace(job_file, job_id=job_id, disk_name=path.name)
                    if failed:
                        job_file = _with_earlier_commit(job_file, failed)
                    # In this order: see what a kill leaves after each step, in job_folder.
                    folder.write(job_file)
                    if sidecar is not None:
                        folder.take_sidecar(place.entry(sidecar.name))
                    document = folder.take(place, path.name, seen, has_writer)
                    for entry in map(place.entry, notes):
                        with suppress(OSError):  # not worth holding the document up for
                            if not self._folders.notes.remove_note(entry):
                                self._folders.error_files.remove_if_ours(entry)
            except (OSError, ChangedMeanwhile):
                self._tidy(folder)
                raise
            drop_stale_error_file(self._folders, failed, folder)
            drop_notes_left_behind(self._folders, account, patient_id, path.name)
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

    def reopen_failed(
        self, job_id: str, account: str, patient_id: str | None, known: JobFile | None = None
    ) -> ClaimedDocument:
        """Move a failed document back into our care; the caller then reopens the job in the ledger.

        `known` is what the ledger knows of the job: it counts if the error file is not believed. Raises NotBelieved,
        and FileNotFoundError if the document or its error file is not in failed/ any more.
        """
        folder = self._folders.job_folder(job_id)
        with folder.lock(make=True):
            failed = self._folders.error_files.find(job_id, account, patient_id)
            try:
                if failed and not folder.document:
                    with suppress(FileNotFoundError), self._folders.error_files.opened(failed) as place:
                        self._bring_back(folder, place.entry(failed.document.name), account, patient_id, failed, known)
                drop_stale_error_file(self._folders, failed, folder)
                if folder.document is None:
                    raise FileNotFoundError(errno.ENOENT, "The document is not in failed/ any more.")
                return ClaimedDocument(job_id, folder.read(), folder.document, folder.sidecar)
            finally:
                self._tidy(folder)

    def _bring_back(
        self,
        folder: JobFolder,
        document: Entry,
        account: str,
        patient_id: str | None,
        failed: ClosedDocument,
        known: JobFile | None,
    ) -> None:
        if not document.is_file():
            return
        size_bytes = document.status().st_size
        job_file = _next_round(folder.job_id, account, patient_id, size_bytes, failed, known)
        # job.json goes first: its new round makes the error file stale, which is removed last.
        folder.write(job_file)
        durable.move_new(document, folder.document_path(job_file.disk_name), folder.draft)

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
            reason = errno.errorcode.get(number, "OSError") if number else str(error)
            return Damaged(job_id, reason, is_too_new=isinstance(error, JobFileTooNew))

    def _tidy(self, folder: JobFolder) -> None:
        """Finish a copy that was interrupted, and remove a folder that has no document."""
        folder.finish_copy()
        if folder.document:
            return
        # The document is still in the inbox or in failed/; or it is closed, and only the last step is missing.
        if folder.sidecar:
            job_file = folder.read()
            if not self._finish_closing(folder, job_file):
                patient_folder = "" if job_file.in_account_folder else job_file.document.patient_id or ""
                inbox_folder = self._folders.inbox / job_file.document.account / patient_folder
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
        account, patient_id = job_file.document.account, job_file.document.patient_id
        failed = self._folders.error_files.find(folder.job_id, account, patient_id)
        drop_stale_error_file(self._folders, failed, folder)
        # A person may have put another file in its place. Once a document may have been sent its size stays as noted,
        # since the search is for what was sent.
        if not job_file.committed:
            job_file = job_file.with_document(size_bytes=document.stat().st_size)
        return ClaimedDocument(folder.job_id, job_file, document, folder.sidecar)

    def _finish_closing(self, folder: JobFolder, job_file: JobFile) -> bool:
        """Finish the closing of this round if it was begun; False if it was not."""
        outcome = Outcome(
            folder.job_id,
            job_file.document.account,
            job_file.document.patient_id,
            job_file.disk_name,
            {},  # not written: the companion is there
            folder.document,
            folder.sidecar,
            job_file.document.round,
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


def _identity_if_same(place: Entry, seen: FileIdentity | None) -> FileIdentity:
    """The file's identity. Raises ChangedMeanwhile if it is not the file that was seen, or not a regular one."""
    status = place.status()
    identity = FileIdentity.of(status)
    if not S_ISREG(status.st_mode) or identity != (seen or identity):
        raise ChangedMeanwhile("Another file has taken its name since it was seen.")
    return identity


def _with_earlier_commit(job_file: JobFile, failed: ClosedDocument) -> JobFile:
    """The job.json of the next round, with what the error file tells of what was sent before."""
    earlier = job_file_in(failed.content) if failed.believed else None
    number = max(_round_after(failed), job_file.document.round)
    if earlier is None:
        # Job.json was damaged: the code alone says whether a search must come first. What someone else may have written
        # says nothing. The document is then searched for: it may have been sent.
        perhaps_sent = not failed.believed or failed.content.get("code") in UNCERTAIN_CODES
        return job_file.with_commit(stands=perhaps_sent).with_document(round=number)
    job_file = job_file.with_document(round=number)
    return replace(job_file, commit=earlier.commit, content_remarks=earlier.content_remarks)


def _round_after(failed: ClosedDocument) -> int:
    """Later than the round of the error file, so that this one does not end it."""
    return min(max(round_of(failed.content), 0), _MOST_ROUNDS) + 1


def _next_round(
    job_id: str, account: str, patient_id: str | None, size_bytes: int, failed: ClosedDocument, known: JobFile | None
) -> JobFile:
    """The job.json with which a failed document is taken up again. Raises NotBelieved."""
    disk_name = failed.document.name
    if failed.believed:
        earlier = job_file_in(failed.content)
        if earlier:
            again = earlier.with_document(size_bytes=size_bytes, round=earlier.document.round + 1)
            return replace(again, job_id=job_id, refused=None, sent_identity=None)
        if "job_file" in failed.content:
            raise NotBelieved
        file_name = str(failed.content.get("file_name") or clean(disk_name))
        document = Document(account, patient_id, "", file_name, size_bytes, door=Door.INBOX)
        job_file = JobFile(job_id, document, disk_name, received_at=datetime.now(UTC))
        return _with_earlier_commit(job_file, failed)
    if known is None or (known.document.account, known.document.patient_id) != (account, patient_id):
        raise NotBelieved
    file_name = known.document.file_name
    again = known.with_document(size_bytes=size_bytes, round=max(known.document.round + 1, _round_after(failed)))
    return replace(
        again,
        job_id=job_id,
        disk_name=disk_name,
        # A name that is not the file's own was found by the account's patterns, or in the sidecar.
        name_by_pattern=None if file_name == clean(disk_name) else file_name,
    )
