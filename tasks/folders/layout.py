"""The folders of the public contract: a document's way from the inbox through our care into delivered/ or failed/.

Every step may be repeated after a SIGKILL at any moment. What the order of steps rests on is said where it stands.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from tasks.folders import durable
from tasks.folders.claims import (
    AlreadyInCare,
    ClaimedDocument,
    Damaged,
    _carried_over,
    _inbox_path,
    _reason,
    _reopened,
    _same_file,
    _with_size,
)
from tasks.folders.companions import SIDECAR_ENDING, Ending, Outcomes, Place
from tasks.folders.disk_names import clean
from tasks.folders.durable import ChangedMeanwhile, FileIdentity
from tasks.folders.job_folder import JobFolder
from tasks.folders.job_json import JobFile, _known_by
from tasks.folders.outcomes import _existing, _folder_of, _readable


class Folders:
    """`inbox/`, `processing/`, `delivered/` and `failed/` below the data folder; each is made when first needed."""

    def __init__(self, data_dir: Path) -> None:
        self.inbox = data_dir / "inbox"
        self.processing = data_dir / "processing"
        self.delivered = data_dir / "delivered"
        self.failed = data_dir / "failed"
        self._receipts = Outcomes(self.delivered, ".receipt.json")
        self._errors = Outcomes(self.failed, ".error.json")

    def create(self) -> None:
        """Make the four folders. `processing/` is ours alone; who else may use the others is up to the umask."""
        for folder in (self.inbox, self.delivered, self.failed):
            durable.make_folder(folder, 0o770)
        durable.make_folder(self.processing, 0o700)

    def job_folder(self, job_id: str) -> JobFolder:
        """Raises ValueError for what is no job id, and so might lead elsewhere."""
        if not _is_job_id(job_id):
            raise ValueError("a job id is a UUID, in lower case and with hyphens")
        return JobFolder(self.processing / job_id)

    def document(self, job_id: str) -> Path | None:
        """Where the job's document lies in our care, if it does."""
        return self.job_folder(job_id).document

    # --- into our care -----------------------------------------------------------------------------------------

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
        job = self.job_folder(job_id)
        with job.lock(make=True):
            if job.document:
                raise AlreadyInCare(job_id)
            failed = self._errors.find(job_id, job_file.account, job_file.patient_id) if continues else None
            earlier = self._errors.read(failed) if failed else {}
            try:
                seen = _same_file(path, seen)
                job.write(_carried_over(replace(job_file, job_id=job_id, disk_name=path.name), earlier))
                if sidecar is not None:
                    job.take_sidecar(sidecar)
                held = job.take(path, seen)
            except (OSError, ChangedMeanwhile):
                self._settle(job)
                raise
            self._drop_stale(failed, job)
            return held

    def adopt_copy(self, source: Path | BinaryIO, job_id: str, job_file: JobFile) -> Path:
        """Copy a regular file into our care, durably; `job.json` gets the size that was copied. Repeatable.

        Raises DocumentRefused (`file_missing`, `not_a_regular_file`, `file_changed`) and OSError.
        """
        job = self.job_folder(job_id)
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
        settled = (self._unless_busy(job_id, self._settle) for job_id in self._job_ids())
        return [found for found in settled if isinstance(found, Damaged)]

    def orphans(self, known: Callable[[str], bool]) -> Iterator[ClaimedDocument | Damaged]:
        """Documents in our care whose jobs the ledger does not know, to be opened again under the same id.

        What a kill left is settled on the way: an unfinished claim is finished or undone, and an end that stands in
        delivered/ or failed/ is completed. Folders that others work on are passed over. Whatever `known` raises ends
        the iteration.
        """
        for job_id in self._job_ids():
            if not known(job_id):
                found = self._unless_busy(job_id, self._orphan)
                if found:
                    yield found

    # --- job.json ----------------------------------------------------------------------------------------------

    def read_job_file(self, job_id: str) -> JobFile:
        """Raises FileNotFoundError and JobFileDamaged, which are OSErrors."""
        return self.job_folder(job_id).read()

    def update_job_file(self, job_id: str, **changes: Any) -> JobFile:
        """Change fields of job.json, durably before this returns. Raises OSError if that cannot be.

        Another process may change other fields at the same time; none of the changes is lost.
        """
        job = self.job_folder(job_id)
        with job.lock():
            job_file = replace(job.read(), **changes)
            job.write(job_file)
            return job_file

    # --- out of our care ---------------------------------------------------------------------------------------

    def deliver(self, job_id: str, account: str, patient_id: str | None, receipt: Mapping[str, Any]) -> Path:
        """Write the receipt into delivered/ and bring the document beside it; repeatable.

        A document that lies in failed/ is brought from there, and its error file removed. When a human has moved it
        away the receipt is written alone. Returns where the document lies, or would lie.
        """
        job = self.job_folder(job_id)
        with job.lock():
            patient_id = _folder_of(job, patient_id)
            failed = self._failed_before(job, account, patient_id)
            document = job.document or _existing(failed.document if failed else None)
            name = self._disk_name(job, failed, receipt)
            place = self._end(self._receipts, job, Ending(job_id, account, patient_id, name, receipt, document))
            self._drop_stale(failed, job)
            job.remove()
            return place.document

    def fail(self, job_id: str, account: str, patient_id: str | None, error: Mapping[str, Any]) -> Path:
        """Write the error file into failed/ and bring the document and its sidecar beside it; repeatable.

        An error file of this round that stands already gets the new content. It also holds `job_file`, which
        `reopen_failed` needs once the job has left Redis. Returns where the document lies, or would lie.
        """
        job = self.job_folder(job_id)
        with job.lock():
            job_file = _readable(job)
            content = {**error, "job_file": job_file.to_json()} if job_file else error
            name, lap = self._disk_name(job, None, error), job_file.round if job_file else 0
            folder = _folder_of(job, patient_id)
            end = Ending(job_id, account, folder, name, content, job.document, job.sidecar, lap)
            place = self._end(self._errors, job, end)
            self._errors.amend(place, error, job_id)
            job.remove()
            return place.document

    # --- failed documents --------------------------------------------------------------------------------------

    def find_error_file(self, job_id: str, account: str, patient_id: str | None) -> Place | None:
        """Where a failed job's error file lies, and its document unless a human has moved that."""
        return self._errors.find(job_id, account, patient_id)

    def receipts(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        """Every receipt in delivered/, with what it says."""
        return self._receipts.all()

    def error_files(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        """Every error file in failed/, with what it says."""
        return self._errors.all()

    def reopen_failed(self, job_id: str, account: str, patient_id: str | None) -> ClaimedDocument:
        """Bring a failed document back into our care; repeatable. To reopen the job in the ledger is the caller's.

        job.json is written first and counts a new round: so the error file, which goes last, is known to be stale
        once the document has moved. Raises FileNotFoundError if the document or its error file has gone from failed/.
        """
        job = self.job_folder(job_id)
        with job.lock(make=True):
            failed = self._errors.find(job_id, account, patient_id)
            try:
                if failed and failed.document.exists() and not job.document:
                    job.write(_reopened(job_id, account, patient_id, failed, self._errors.read(failed)))
                    durable.move_new(failed.document, job.place_for(job.read().disk_name), job.draft)
                self._drop_stale(failed, job)
                if job.document is None:
                    raise FileNotFoundError(errno.ENOENT, "The document is not in failed/ any more.")
                return ClaimedDocument(job_id, job.read(), job.document, job.sidecar)
            finally:
                self._settle(job)

    # --- inside ------------------------------------------------------------------------------------------------

    def _job_ids(self) -> list[str]:
        entries = self.processing.iterdir() if self.processing.is_dir() else ()
        return sorted(entry.name for entry in entries if _is_job_id(entry.name))

    def _unless_busy(
        self, job_id: str, act: Callable[[JobFolder], ClaimedDocument | None]
    ) -> ClaimedDocument | Damaged | None:
        job = self.job_folder(job_id)
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
                job.return_sidecar(_inbox_path(self.inbox, job_file, SIDECAR_ENDING))
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
        self._drop_stale(self._errors.find(job.job_id, job_file.account, job_file.patient_id), job)
        return ClaimedDocument(job.job_id, _with_size(job_file, document), document, job.sidecar)

    def _completed(self, job: JobFolder, job_file: JobFile) -> bool:
        """Complete the end of this round if one stands; False if none does."""
        name, lap = job_file.disk_name, job_file.round
        end = Ending(job.job_id, job_file.account, job_file.patient_id, name, {}, job.document, job.sidecar, lap)
        if self._receipts.standing(end):
            self._receipts.put(replace(end, sidecar=None))
        elif self._errors.standing(end):
            self._errors.put(end)
        else:
            return False
        job.remove()
        return True

    def _end(self, outcomes: Outcomes, job: JobFolder, end: Ending) -> Place:
        """Put the end where it belongs; once all of it is done, find it whatever the document was called."""
        done = not job.path.exists() and end.document is None
        found = outcomes.find(end.job_id, end.account, end.patient_id) if done else None
        return found or outcomes.put(end)

    def _failed_before(self, job: JobFolder, account: str, patient_id: str | None) -> Place | None:
        """Where the job has failed before; not looked for in the first round of a document that is here."""
        job_file = _readable(job)
        if job.document and job_file and not job_file.round:
            return None
        return self._errors.find(job.job_id, account, patient_id)

    def _disk_name(self, job: JobFolder, failed: Place | None, content: Mapping[str, Any]) -> str:
        """The document's name as it came, from the best witness that there is."""
        job_file = _readable(job)
        if job_file:
            return job_file.disk_name
        if failed:
            kept = _known_by(self._errors.read(failed))
            return kept.disk_name if kept else failed.document.name
        document = job.document
        return document.name if document else clean(str(content["file_name"])).replace("/", "_")

    def _drop_stale(self, failed: Place | None, job: JobFolder) -> None:
        """Remove an error file whose document has left failed/, or is here too: a human copied it, a kill doubled it.

        Its sidecar follows the document if that is here.
        """
        if failed is None:
            return
        if failed.document.exists():
            if not (job.document and durable.same_content(failed.document, job.document)):
                return
            failed.document.unlink()
        if job.document and not job.sidecar:
            with suppress(FileNotFoundError):
                job.take_sidecar(failed.sidecar)
        failed.sidecar.unlink(missing_ok=True)
        failed.companion.unlink(missing_ok=True)


def _is_job_id(text: str) -> bool:
    with suppress(ValueError):
        return str(UUID(text)) == text
    return False
