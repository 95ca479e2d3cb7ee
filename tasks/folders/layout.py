"""The folders of the public contract: inbox/, processing/, delivered/ and failed/, and waiting/ with its notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from config.data_dir import make_data_dir
from tasks.folders import durable
from tasks.folders.companions import CompanionFolder
from tasks.folders.evidence import Evidence
from tasks.folders.job_folder import JobFolder
from tasks.folders.job_json import JobFile, is_job_id
from tasks.folders.notes import Notes
from tasks.ledger.seal import Seal
from tasks.sources.entries import OpenFolder, opened_below


class Folders:
    """The folders below `data_dir`, and the jobs in `processing/`.

    `seal` signs receipts, error files and notes. Without it nothing can be closed, and nothing in delivered/ and
    failed/ is believed.
    """

    def __init__(self, data_dir: Path, seal: Seal | None = None) -> None:
        evidence = Evidence(seal) if seal else None
        self.inbox = data_dir / "inbox"
        self.processing = data_dir / "processing"
        self.delivered = data_dir / "delivered"
        self.failed = data_dir / "failed"
        # Holds notes and nothing else.
        self.waiting = data_dir / "waiting"
        self.receipts = CompanionFolder(self.delivered, "receipt", evidence)
        self.error_files = CompanionFolder(self.failed, "error", evidence)
        self.notes = Notes(seal)

    def create(self) -> None:
        """Make the folders that are missing."""
        make_data_dir(self.inbox.parent)
        # Senders and staff use these; the umask decides which of them may.
        for folder in (self.inbox, self.delivered, self.failed, self.waiting):
            durable.make_folder(folder, 0o770)
        # Nobody else has business here: a file that changes while it is sent would be refused, or sent half.
        durable.make_folder(self.processing, 0o700)

    def job_folder(self, job_id: str) -> JobFolder:
        """Raises ValueError for anything but a job id: it could lead out of `processing/`."""
        if not is_job_id(job_id):
            raise ValueError("a job id is a UUID, in lower case and with hyphens")
        return JobFolder(self.processing / job_id, self.open_folder)

    @contextmanager
    def open_folder(self, path: Path) -> Iterator[OpenFolder]:
        """A folder of the inbox or of `processing/`, reached from there without following a link.

        Raises ValueError for any other, FileNotFoundError, and NotADirectoryError for a link.
        """
        root = self.processing if path.is_relative_to(self.processing) else self.inbox
        with opened_below(root, path) as folder:
            yield folder

    def document(self, job_id: str) -> Path | None:
        """Where the job's document is in our care; None if it is not."""
        return self.job_folder(job_id).document

    def read_job_file(self, job_id: str) -> JobFile:
        """Raises FileNotFoundError, JobFileDamaged and JobFileTooNew, which are OSErrors."""
        return self.job_folder(job_id).read()

    def update_job_file(self, job_id: str, **changes: Any) -> JobFile:
        """Change fields of job.json, durably before this returns. Raises OSError."""
        return self.change_job_file(job_id, lambda job_file: replace(job_file, **changes))

    def update_document(self, job_id: str, **changes: Any) -> JobFile:
        """The same with fields of the document in it."""
        return self.change_job_file(job_id, lambda job_file: job_file.with_document(**changes))

    def update_commit(self, job_id: str, **changes: Any) -> JobFile:
        """The same with fields of the commit in it."""
        return self.change_job_file(job_id, lambda job_file: job_file.with_commit(**changes))

    def change_job_file(self, job_id: str, change: Callable[[JobFile], JobFile]) -> JobFile:
        """As `update_job_file`, by a function of what job.json says."""
        job = self.job_folder(job_id)
        # Under the lock, since another process may change other fields at the same time.
        with job.lock():
            job_file = change(job.read())
            job.write(job_file)
            return job_file

    def job_ids(self) -> list[str]:
        """The jobs that have a folder in our care."""
        entries = self.processing.iterdir() if self.processing.is_dir() else ()
        return sorted(entry.name for entry in entries if is_job_id(entry.name))
