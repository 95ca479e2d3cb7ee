"""Inbox files staged to S3, so that workers on other machines can read them.

A staged document is at `<prefix>/<job id>/document`, with `job.json` beside it: a worker that cannot reach the folders
writes the commit there. The folders stay with their own machine, whose watcher closes the job's files. The staged
job.json names that machine, so that its watcher can remove what no job needs any more.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from tasks.folders.job_folder import JOB_FILE
from tasks.folders.job_json import JobFile, JobFileDamaged, JobFileTooNew, from_bytes, to_bytes
from tasks.model.document import Place
from tasks.model.errors import DocumentRefused, RetryLater
from tasks.model.job import Job
from tasks.sources.base import Located, OpenParts, OpenSource
from tasks.sources.documents import NOT_STAGING
from tasks.sources.objects import Objects, StorageFault

_DOCUMENT = "document"


class Staging:
    """`prefix` is the settings' `s3.stage_inbox`, such as `s3://bucket/prefix`."""

    def __init__(self, objects: Objects, prefix: str) -> None:
        self._objects = objects
        self._prefix = prefix.rstrip("/")

    def put(self, job_file: JobFile, path: Path, home: str) -> tuple[str, str]:
        """Copy a document of machine `home` and its job.json. Returns its address and identity. May be repeated.

        Raises StorageFault.
        """
        # job.json first: a job is opened for the address of a document, and its worker must find job.json beside it.
        self._write(job_file.with_document(home=home))
        address = self._address(job_file.job_id, _DOCUMENT)
        self._objects.put(address, path)
        return address, self._objects.identity(address)

    # --- the document, as `sources.documents` reads it -------------------------------------------------------------

    def locate(self, job_id: str) -> Located:
        return self._objects.locate(self._address(job_id, _DOCUMENT))

    def open(self, job_id: str, identity: str) -> OpenSource:
        return self._objects.open(self._address(job_id, _DOCUMENT), identity)

    def parts(self, job_id: str, identity: str) -> OpenParts:
        return self._objects.parts(self._address(job_id, _DOCUMENT), identity)

    # --- its job.json ----------------------------------------------------------------------------------------------

    def read_job_file(self, job_id: str) -> JobFile:
        """Raises DocumentRefused (`file_missing`), StorageFault, JobFileDamaged and JobFileTooNew."""
        return JobFile.from_json(from_bytes(self._objects.read(self._address(job_id, JOB_FILE))))

    def change_job_file(self, job_id: str, change: Callable[[JobFile], JobFile]) -> None:
        # Without a lock: only the worker that holds the job's lease writes it.
        self._write(change(self.read_job_file(job_id)))

    def remove(self, job_id: str) -> None:
        """Remove the document and its job.json; they may be gone already."""
        for name in (_DOCUMENT, JOB_FILE):
            self._objects.delete(self._address(job_id, name))

    def sweep(self, home: str, is_needed: Callable[[str], bool], *, older_than: timedelta) -> int:
        """Remove what machine `home` has staged for jobs that are no longer needed. Returns of how many jobs.

        After a wipe of Redis no job is left that would remove it. Raises StorageFault.
        """
        ages: dict[str, timedelta] = {}
        for address, age in self._objects.list(self._prefix + "/"):
            job_id = address.removeprefix(self._prefix + "/").partition("/")[0]
            # The youngest object counts: a document that is being staged is not to be removed.
            ages[job_id] = min(age, ages.get(job_id, age))
        swept = 0
        for job_id in (job_id for job_id, age in ages.items() if age > older_than):
            # Of an earlier version it names no machine, and stays: it may be another's.
            if not is_needed(job_id) and self._home_of(job_id) == home:
                self.remove(job_id)
                swept += 1
        return swept

    def probe(self) -> None:
        """Write, read, list and remove a small object. Raises StorageFault, which names what failed and why."""
        address = f"{self._prefix}/check-{uuid4()}"
        steps: tuple[tuple[str, Callable[[], object]], ...] = (
            ("written", lambda: self._objects.write(address, b"check")),
            ("read", lambda: self._objects.read(address)),
            ("listed", lambda: next(iter(self._objects.list(address)), None)),
            ("removed", lambda: self._objects.delete(address)),
        )
        for act, step in steps:
            try:
                step()
            except StorageFault as fault:
                raise StorageFault(f"no object can be {act} there, since {fault.why}") from None

    def _home_of(self, job_id: str) -> str | None:
        """The machine that has staged it; None for what another version has staged, or no one of ours."""
        with suppress(DocumentRefused, JobFileDamaged, JobFileTooNew):
            return self.read_job_file(job_id).document.home
        return None

    def _write(self, job_file: JobFile) -> None:
        self._objects.write(self._address(job_file.job_id, JOB_FILE), to_bytes(job_file.to_json()))

    def _address(self, job_id: str, name: str) -> str:
        return f"{self._prefix}/{job_id}/{name}"


def is_staged(job: Job) -> bool:
    """True for a document whose folders belong to the machine that staged it."""
    return job.document.place_of(job.id) is Place.STAGED


def staging_of(job: Job, staging: Staging | None) -> Staging | None:
    """Where the job's document is staged; None if it is not. Raises RetryLater if `staging` was needed and is None."""
    if not is_staged(job):
        return None
    if staging is None:
        raise RetryLater(NOT_STAGING)
    return staging
