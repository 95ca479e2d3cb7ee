"""Documents on their way out of our care: into delivered/ with a receipt, or into failed/ with an error file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.folders import durable
from tasks.folders.companions import CompanionFolder, Ending, Place
from tasks.folders.disk_names import clean
from tasks.folders.job_folder import JobFolder
from tasks.folders.job_json import JobFile, _known_by
from tasks.folders.layout import Folders


class Outcomes:
    """Brings a job's document to its end and finds it there. Every step may be repeated."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._delivered = folders.receipt_companions
        self._failed = folders.error_companions

    def deliver(self, job_id: str, account: str, patient_id: str | None, receipt: Mapping[str, Any]) -> Path:
        """Write the receipt into delivered/ and bring the document beside it; repeatable.

        A document that lies in failed/ is brought from there, and its error file removed. When a human has moved it
        away the receipt is written alone. Returns where the document lies, or would lie.
        """
        job = self._folders.job_folder(job_id)
        with job.lock():
            patient_id = _folder_of(job, patient_id)
            failed = self._failed_before(job, account, patient_id)
            document = job.document or _existing(failed.document if failed else None)
            name = self._disk_name(job, failed, receipt)
            place = self._end(self._delivered, job, Ending(job_id, account, patient_id, name, receipt, document))
            drop_stale(failed, job)
            job.remove()
            return place.document

    def fail(self, job_id: str, account: str, patient_id: str | None, error: Mapping[str, Any]) -> Path:
        """Write the error file into failed/ and bring the document and its sidecar beside it; repeatable.

        An error file of this round that stands already gets the new content. It also holds `job_file`, which
        `reopen_failed` needs once the job has left Redis. Returns where the document lies, or would lie.
        """
        job = self._folders.job_folder(job_id)
        with job.lock():
            job_file = _readable(job)
            content = {**error, "job_file": job_file.to_json()} if job_file else error
            name, lap = self._disk_name(job, None, error), job_file.round if job_file else 0
            folder = _folder_of(job, patient_id)
            end = Ending(job_id, account, folder, name, content, job.document, job.sidecar, lap)
            place = self._end(self._failed, job, end)
            self._failed.amend(place, error, job_id)
            job.remove()
            return place.document

    def find_error_file(self, job_id: str, account: str, patient_id: str | None) -> Place | None:
        """Where a failed job's error file lies, and its document unless a human has moved that."""
        return self._failed.find(job_id, account, patient_id)

    def receipts(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        """Every receipt in delivered/, with what it says."""
        return self._delivered.all()

    def error_files(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        """Every error file in failed/, with what it says."""
        return self._failed.all()

    def _end(self, companions: CompanionFolder, job: JobFolder, end: Ending) -> Place:
        """Put the end where it belongs; once all of it is done, find it whatever the document was called."""
        done = not job.path.exists() and end.document is None
        found = companions.find(end.job_id, end.account, end.patient_id) if done else None
        return found or companions.put(end)

    def _failed_before(self, job: JobFolder, account: str, patient_id: str | None) -> Place | None:
        """Where the job has failed before; not looked for in the first round of a document that is here."""
        job_file = _readable(job)
        if job.document and job_file and not job_file.round:
            return None
        return self._failed.find(job.job_id, account, patient_id)

    def _disk_name(self, job: JobFolder, failed: Place | None, content: Mapping[str, Any]) -> str:
        """The document's name as it came, from the best witness that there is."""
        job_file = _readable(job)
        if job_file:
            return job_file.disk_name
        if failed:
            kept = _known_by(self._failed.read(failed))
            return kept.disk_name if kept else failed.document.name
        document = job.document
        return document.name if document else clean(str(content["file_name"])).replace("/", "_")


def drop_stale(failed: Place | None, job: JobFolder) -> None:
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


def _readable(job: JobFolder) -> JobFile | None:
    with suppress(OSError):
        return job.read()
    return None


def _folder_of(job: JobFolder, patient_id: str | None) -> str | None:
    """The patient's folder as it was found: it may be no text, and then the job knows another."""
    job_file = _readable(job)
    return job_file.patient_id if job_file else patient_id


def _existing(path: Path | None) -> Path | None:
    return path if path is not None and path.exists() else None
