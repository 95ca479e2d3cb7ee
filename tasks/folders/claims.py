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
from tasks.folders.companions import SIDECAR_ENDING, Ending, Place, round_of
from tasks.folders.disk_names import clean
from tasks.folders.durable import ChangedMeanwhile, FileIdentity
from tasks.folders.job_folder import JobFolder
from tasks.folders.job_json import JobFile, _known_by
from tasks.folders.layout import Folders
from tasks.folders.outcomes import drop_stale
from tasks.model.errors import Code


class AlreadyInCare(Exception):
    """The job has a document in our care already."""


@dataclass(frozen=True, slots=True)
class ClaimedDocument:
    """A document in our care, and the sidecar that came with it."""

    job_id: str
    job_file: JobFile
    document: Path
    sidecar: Path | None


@dataclass(frozen=True, slots=True)
class Damaged:
    """A folder in our care that cannot be understood or settled; it is left for a human. `reason` is safe for logs."""

    job_id: str
    reason: str


class Claims:
    """Takes documents into `processing/`, and settles what kills have left there. Every step may be repeated."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._delivered = folders.receipt_companions
        self._failed = folders.error_companions

    def claim(
        self,
        path: Path,
        job_id: str,
        job_file: JobFile,
        *,
        seen: FileIdentity | None = None,
        sidecar: Path | None = None,
        continues: bool = False,
    ) -> Path:
        """Take a file and its sidecar out of the inbox into `processing/<job id>/`; returns where it lies now.

        `seen` is the file that was judged: another one under its name is not taken. With `continues` the job had
        failed and its document came back by the inbox: what its error file knows about the earlier try, which a
        look at the provider needs, is carried over.
        Raises ChangedMeanwhile, AlreadyInCare and OSError; the file is then where it was.
        """
        job = self._folders.job_folder(job_id)
        with job.lock(make=True):
            if job.document:
                raise AlreadyInCare(job_id)
            failed = self._failed.find(job_id, job_file.account, job_file.patient_id) if continues else None
            earlier = self._failed.read(failed) if failed else {}
            try:
                seen = _same_file(path, seen)
                job.write(_carried_over(replace(job_file, job_id=job_id, disk_name=path.name), earlier))
                if sidecar is not None:
                    job.take_sidecar(sidecar)
                held = job.take(path, seen)
            except (OSError, ChangedMeanwhile):
                self._settle(job)
                raise
            drop_stale(failed, job)
            return held

    def adopt_copy(self, source: Path | BinaryIO, job_id: str, job_file: JobFile) -> Path:
        """Copy a regular file into our care, durably; `job.json` gets the size that was copied. Repeatable.

        Raises DocumentRefused (`file_missing`, `not_a_regular_file`, `file_changed`) and OSError.
        """
        job = self._folders.job_folder(job_id)
        with job.lock(make=True):
            try:
                return job.adopt(source, job_file)
            finally:
                self._settle(job)

    def finish_claims(self) -> list[Damaged]:
        """Settle, from the disk alone, what kills have left of claims; call it before the inbox is first read.

        Until then a sidecar may be away from its document. Folders that others work on are passed over; returned
        are those that could not be settled.
        """
        settled = (self._unless_busy(job_id, self._settle) for job_id in self._folders.job_ids())
        return [found for found in settled if isinstance(found, Damaged)]

    def orphans(self, known: Callable[[str], bool]) -> Iterator[ClaimedDocument | Damaged]:
        """Documents in our care whose jobs the ledger does not know, to be opened again under the same id.

        What a kill left is settled on the way: an unfinished claim is finished or undone, and an end that stands in
        delivered/ or failed/ is completed. Folders that others work on are passed over. Whatever `known` raises ends
        the iteration.
        """
        for job_id in self._folders.job_ids():
            if not known(job_id):
                found = self._unless_busy(job_id, self._orphan)
                if found:
                    yield found

    def reopen_failed(self, job_id: str, account: str, patient_id: str | None) -> ClaimedDocument:
        """Bring a failed document back into our care; repeatable. To reopen the job in the ledger is the caller's.

        job.json is written first and counts a new round: so the error file, which goes last, is known to be stale
        once the document has moved. Raises FileNotFoundError if the document or its error file has gone from failed/.
        """
        job = self._folders.job_folder(job_id)
        with job.lock(make=True):
            failed = self._failed.find(job_id, account, patient_id)
            try:
                if failed and failed.document.exists() and not job.document:
                    job.write(_reopened(job_id, account, patient_id, failed, self._failed.read(failed)))
                    durable.move_new(failed.document, job.place_for(job.read().disk_name), job.draft)
                drop_stale(failed, job)
                if job.document is None:
                    raise FileNotFoundError(errno.ENOENT, "The document is not in failed/ any more.")
                return ClaimedDocument(job_id, job.read(), job.document, job.sidecar)
            finally:
                self._settle(job)

    def _unless_busy(
        self, job_id: str, act: Callable[[JobFolder], ClaimedDocument | None]
    ) -> ClaimedDocument | Damaged | None:
        job = self._folders.job_folder(job_id)
        try:
            with job.lock(wait=False):
                return act(job)
        except BlockingIOError:  # somebody is at work on it
            return None
        except (OSError, ChangedMeanwhile) as error:
            return Damaged(job_id, _reason(error))

    def _settle(self, job: JobFolder) -> None:
        """Go on with a copy that was interrupted, and remove a folder that has no document.

        The document is in the inbox still, or in failed/, or has got its end, of which only the last step is missing.
        """
        job.finish_copy()
        if job.document:
            return
        if job.sidecar:
            job_file = job.read()
            if not self._completed(job, job_file):
                job.return_sidecar(_inbox_path(self._folders.inbox, job_file, SIDECAR_ENDING))
        job.remove()

    def _orphan(self, job: JobFolder) -> ClaimedDocument | None:
        """The document in a folder that the ledger does not know; None if there is none, or its job had ended."""
        self._settle(job)
        document = job.document
        if document is None:
            return None
        job_file = job.read()
        if self._completed(job, job_file):
            return None
        drop_stale(self._failed.find(job.job_id, job_file.account, job_file.patient_id), job)
        return ClaimedDocument(job.job_id, _with_size(job_file, document), document, job.sidecar)

    def _completed(self, job: JobFolder, job_file: JobFile) -> bool:
        """Complete the end of this round if one stands; False if none does."""
        name, lap = job_file.disk_name, job_file.round
        end = Ending(job.job_id, job_file.account, job_file.patient_id, name, {}, job.document, job.sidecar, lap)
        if self._delivered.standing(end):
            self._delivered.put(replace(end, sidecar=None))
        elif self._failed.standing(end):
            self._failed.put(end)
        else:
            return False
        job.remove()
        return True


def _same_file(path: Path, seen: FileIdentity | None) -> FileIdentity:
    """The file's identity. Raises ChangedMeanwhile if it is another than was seen, or no regular file."""
    status = path.lstat()
    identity = FileIdentity.of(status)
    if not S_ISREG(status.st_mode) or identity != (seen or identity):
        raise ChangedMeanwhile("Under this name there is another file than was looked at.")
    return identity


def _carried_over(job_file: JobFile, error: Mapping[str, Any]) -> JobFile:
    """With what the error file of an earlier round knows of what was sent."""
    earlier = _known_by(error)
    if earlier is None:
        return replace(job_file, round=round_of(error) + 1, committed=_perhaps_sent(error)) if error else job_file
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
        sent_at=earlier.sent_at,
    )


def _reopened(job_id: str, account: str, patient_id: str | None, failed: Place, error: Mapping[str, Any]) -> JobFile:
    """A failed document's job.json of the next round; made anew if its error file does not hold one."""
    name, size_bytes = failed.document.name, failed.document.stat().st_size
    earlier = _known_by(error)
    if earlier:
        return replace(earlier, job_id=job_id, size_bytes=size_bytes, round=earlier.round + 1, refused=None)
    file_name = str(error.get("file_name") or clean(name))
    made = JobFile(job_id, account, patient_id, file_name, name, size_bytes, received_at=datetime.now(UTC))
    return replace(made, round=round_of(error) + 1, committed=_perhaps_sent(error))


def _perhaps_sent(error: Mapping[str, Any]) -> bool:
    return error.get("code") in (Code.NOT_CONFIRMED, Code.OUTCOME_UNKNOWN)


def _with_size(job_file: JobFile, document: Path) -> JobFile:
    """With the size on disk, unless a document of the noted size may have been sent already."""
    return job_file if job_file.committed else replace(job_file, size_bytes=document.stat().st_size)


def _inbox_path(inbox: Path, job_file: JobFile, ending: str) -> Path:
    folder = inbox / job_file.account
    return (folder / job_file.patient_id if job_file.patient_id else folder) / (job_file.disk_name + ending)


def _reason(error: Exception) -> str:
    """What is wrong, without the paths that an OSError tells."""
    if isinstance(error, FileNotFoundError):
        return "job.json is missing"
    if isinstance(error, OSError) and error.errno:
        return errno.errorcode.get(error.errno, "OSError")
    return str(error)
