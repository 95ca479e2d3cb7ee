"""The folders of the public contract: a document's way from the inbox through our care into delivered/ or failed/.

Every step may be repeated after a SIGKILL at any moment. What the order of steps rests on is said where it stands.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from tasks.folders import durable
from tasks.folders.companions import CompanionFolder
from tasks.folders.job_folder import JobFolder
from tasks.folders.job_json import JobFile


class Folders:
    """`inbox/`, `processing/`, `delivered/` and `failed/` below the data folder; each is made when first needed."""

    def __init__(self, data_dir: Path) -> None:
        self.inbox = data_dir / "inbox"
        self.processing = data_dir / "processing"
        self.delivered = data_dir / "delivered"
        self.failed = data_dir / "failed"
        self.receipt_companions = CompanionFolder(self.delivered, ".receipt.json")
        self.error_companions = CompanionFolder(self.failed, ".error.json")

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

    def job_ids(self) -> list[str]:
        """The jobs that have a folder in our care."""
        entries = self.processing.iterdir() if self.processing.is_dir() else ()
        return sorted(entry.name for entry in entries if _is_job_id(entry.name))


def _is_job_id(text: str) -> bool:
    with suppress(ValueError):
        return str(UUID(text)) == text
    return False
