"""The four folders of the public contract: inbox/, processing/, delivered/ and failed/."""

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
    """The folders below `data_dir`, and the jobs in `processing/`."""

    def __init__(self, data_dir: Path) -> None:
        self.inbox = data_dir / "inbox"
        self.processing = data_dir / "processing"
        self.delivered = data_dir / "delivered"
        self.failed = data_dir / "failed"
        self.receipts = CompanionFolder(self.delivered, ".receipt.json")
        self.error_files = CompanionFolder(self.failed, ".error.json")

    def create(self) -> None:
        """Make the folders that are missing."""
        # Senders and staff use these three; the umask decides which of them may.
        for folder in (self.inbox, self.delivered, self.failed):
            durable.make_folder(folder, 0o770)
        # Nobody else has business here: a file that changes while it is sent would be refused, or sent half.
        durable.make_folder(self.processing, 0o700)

    def job_folder(self, job_id: str) -> JobFolder:
        """Raises ValueError for anything but a job id: it could lead out of `processing/`."""
        if not _is_job_id(job_id):
            raise ValueError("a job id is a UUID, in lower case and with hyphens")
        return JobFolder(self.processing / job_id)

    def document(self, job_id: str) -> Path | None:
        """Where the job's document is in our care; None if it is not."""
        return self.job_folder(job_id).document

    def read_job_file(self, job_id: str) -> JobFile:
        """Raises FileNotFoundError and JobFileDamaged, which are OSErrors."""
        return self.job_folder(job_id).read()

    def update_job_file(self, job_id: str, **changes: Any) -> JobFile:
        """Change fields of job.json, durably before this returns. Raises OSError."""
        job = self.job_folder(job_id)
        # Under the lock, since another process may change other fields at the same time.
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
