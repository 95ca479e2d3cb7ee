"""Inbox files staged to S3, so that workers on other machines can read them.

A staged document lies under `<prefix>/<job id>/`, `job.json` beside it: a worker that cannot reach the folders writes
down there what a look would need. The folders stay with their own machine, whose watcher closes the job's files.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.folders.job_json import JobFile, from_bytes, to_bytes
from tasks.model.job import Job
from tasks.sources.objects import Objects

_DOCUMENT, _JOB_FILE = "document", "job.json"


class Staging:
    """`prefix` is the settings' `s3.stage_inbox`, such as `s3://bucket/prefix`."""

    def __init__(self, objects: Objects, prefix: str) -> None:
        self._objects = objects
        self._prefix = prefix.rstrip("/")

    def put(self, job_file: JobFile, path: Path) -> str:
        """Copy a document and its job.json; returns the document's address. May be repeated."""
        self._write(job_file)
        address = self._address(job_file.job_id, _DOCUMENT)
        self._objects.put(address, path)
        return address

    def read_job_file(self, job_id: str) -> JobFile:
        """Raises DocumentRefused (`file_missing`), RetryLater and JobFileDamaged."""
        return JobFile.from_json(from_bytes(self._objects.read(self._address(job_id, _JOB_FILE))))

    def update_job_file(self, job_id: str, changes: Mapping[str, Any]) -> None:
        self._write(replace(self.read_job_file(job_id), **changes))

    def remove(self, job_id: str) -> None:
        """Remove both; they may be gone already."""
        for name in (_DOCUMENT, _JOB_FILE):
            self._objects.delete(self._address(job_id, name))

    def _write(self, job_file: JobFile) -> None:
        self._objects.write(self._address(job_file.job_id, _JOB_FILE), to_bytes(job_file.to_json()))

    def _address(self, job_id: str, name: str) -> str:
        return f"{self._prefix}/{job_id}/{name}"


def is_staged(job: Job) -> bool:
    return job.document.home is not None


def machine(data_dir: Path) -> str:
    """This machine's name in the ledger: made once, kept in `data_dir`, the same after a change of host name."""
    path = data_dir / "machine"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        data_dir.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"machine.{uuid.uuid4()}")
        draft.write_text(f"{uuid.uuid4()}\n")
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path.read_text().strip()
