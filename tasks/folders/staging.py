"""Inbox files staged to S3, so that workers on other machines can read them.

A staged document is at `<prefix>/<job id>/document`, with `job.json` beside it: a worker that cannot reach the folders
writes the commit there. The folders stay with their own machine, whose watcher closes the job's files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.folders.job_folder import JOB_FILE
from tasks.folders.job_json import JobFile, from_bytes, to_bytes
from tasks.model.errors import RetryLater
from tasks.model.job import Job
from tasks.sources.objects import Objects

_DOCUMENT = "document"


class Staging:
    """`prefix` is the settings' `s3.stage_inbox`, such as `s3://bucket/prefix`."""

    def __init__(self, objects: Objects, prefix: str) -> None:
        self._objects = objects
        self._prefix = prefix.rstrip("/")

    def put(self, job_file: JobFile, path: Path) -> str:
        """Copy a document and its job.json; returns the document's address. May be repeated."""
        # job.json first: a job is opened for the address of a document, and its worker must find job.json beside it.
        self._write(job_file)
        address = self._address(job_file.job_id, _DOCUMENT)
        self._objects.put(address, path)
        return address

    def read_job_file(self, job_id: str) -> JobFile:
        """Raises DocumentRefused (`file_missing`), RetryLater and JobFileDamaged."""
        return JobFile.from_json(from_bytes(self._objects.read(self._address(job_id, JOB_FILE))))

    def update_job_file(self, job_id: str, changes: Mapping[str, Any]) -> None:
        # Without a lock: only the worker that holds the job's lease writes it.
        self._write(replace(self.read_job_file(job_id), **changes))

    def remove(self, job_id: str) -> None:
        """Remove the document and its job.json; they may be gone already."""
        for name in (_DOCUMENT, JOB_FILE):
            self._objects.delete(self._address(job_id, name))

    def _write(self, job_file: JobFile) -> None:
        self._objects.write(self._address(job_file.job_id, JOB_FILE), to_bytes(job_file.to_json()))

    def _address(self, job_id: str, name: str) -> str:
        return f"{self._prefix}/{job_id}/{name}"


def is_staged(job: Job) -> bool:
    """True for a document whose folders belong to the machine that staged it."""
    return job.document.home is not None and job.document.source.startswith("s3://")


def staging_of(job: Job, staging: Staging | None) -> Staging | None:
    """Where the job's document is staged; None if it is not. Raises RetryLater if `staging` was needed and is None."""
    if not is_staged(job):
        return None
    if staging is None:
        raise RetryLater("The document is staged to S3, and this worker's settings have no s3.stage_inbox.")
    return staging
