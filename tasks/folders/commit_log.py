"""A document in our care: its bytes, and what its own `job.json` knows about it.

A document that came by the inbox or by `chartpost send` lies in `processing/<job id>/`, beside a `job.json` that
survives Redis; it may be staged to S3 besides. Others are read where their sender keeps them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.folders.staging import Staging, is_staged
from tasks.model.errors import RetryLater
from tasks.model.job import Facts, Job, Record
from tasks.model.route import Stage, Step
from tasks.sources.base import OpenSource
from tasks.sources.sources import Sources

_BLOCK_BYTES = 1024 * 1024
_CREATING = (Step.PRESIGN, Step.POST, Step.REGISTER)
"""The steps that may create something, in order."""


class Care:
    """`at_home` is set in the process that owns the folders of staged documents: their watcher."""

    def __init__(self, folders: Folders, sources: Sources, staging: Staging | None, *, at_home: bool = False) -> None:
        self.folders = folders
        self.sources = sources
        self._staging = staging
        self._at_home = at_home

    def open(self, job: Job) -> OpenSource:
        """A fresh stream of the document. Raises DocumentRefused (missing, changed) and RetryLater."""
        return self.sources.open(job.document.source, job.document.identity)

    def sha256(self, job: Job, beat: Callable[[], None]) -> str:
        """The digest of the document as it lies there now. `beat` is called at every block and may raise."""
        with self.open(job) as source:
            return _digest(source, beat)

    def digest(self, address: str) -> str:
        """The digest of what lies at a source's address now. Raises DocumentRefused and RetryLater."""
        with self.sources.open(address, self.sources.locate(address).identity) as source:
            return _digest(source, lambda: None)

    # --- job.json ----------------------------------------------------------------------------------------------

    def committed_on_disk(self, job: Job) -> bool | None:
        """Whether job.json says that this step's last block, or a later step's, may have left; None without one.

        Not if that was looked for long enough already.
        """
        job_file = self._job_file(job)
        if job_file is None:
            return None
        later = _CREATING.index(job_file.committed_step) >= _CREATING.index(job.step)
        return (
            job_file.committed and later and not (job.reconciled and job_file.unknown_since == job.reconciled_commit_at)
        )

    def committed_at(self, job: Job) -> datetime | None:
        """When job.json was told of the commit that is to be looked for; None if it was not."""
        job_file = self._job_file(job)
        return job_file.unknown_since if job_file and job_file.committed else None

    def record_on_disk(self, job: Job) -> Record | None:
        """The record that the provider has made for the document, as job.json knows it."""
        job_file = self._job_file(job)
        return Record(job_file.record_id) if job_file and job_file.record_id else None

    def note_commit(self, job: Job, facts: Facts) -> None:
        """Write down, before the last block leaves, what a look would need.

        Raises OSError, RetryLater and DocumentRefused: then nothing may leave.
        """
        self._note(
            job,
            {
                "committed": True,
                "committed_step": job.step,
                "record_id": _own_id(facts.record),
                "snapshot": facts.snapshot,
                "key": facts.key,
                "provider_facts": dict(facts.provider),
                "unknown_since": datetime.now(UTC),
            },
        )

    def note_commit_undone(self, job: Job) -> None:
        self._note(job, {"committed": False, "unknown_since": None})

    def note_record(self, job: Job, record: Record) -> None:
        """The provider has made its record, and the document is still to be uploaded to it."""
        self._note(job, {"committed": False, "unknown_since": None, "record_id": _own_id(record)})

    def note_record_lost(self, job: Job) -> None:
        """The record that was made is another job's: what became of this one's is to be looked for."""
        self._note(job, {"committed": True, "unknown_since": datetime.now(UTC), "record_id": None})

    def _job_file(self, job: Job) -> JobFile | None:
        if self._staged(job):
            return self._staging_of(job).read_job_file(job.id)
        if self._here(job):
            return self.folders.read_job_file(job.id)
        return None

    def _note(self, job: Job, changes: Mapping[str, Any]) -> None:
        if self._staged(job):
            self._staging_of(job).update_job_file(job.id, changes)
        elif self._here(job):
            self.folders.update_job_file(job.id, **changes)

    # --- closing -----------------------------------------------------------------------------------------------

    def close(self, job: Job, written: Mapping[str, Any]) -> None:
        """Move the document to `delivered/` or `failed/`, with its receipt or error file beside it.

        Raises RetryLater for a staged document whose folders are another process's.
        """
        if not job.document.door.has_folder:
            return
        if is_staged(job) and not self._at_home:
            raise RetryLater("The document's folders lie with the watcher that staged it; it closes the files.")
        place = self.folders.deliver if job.stage is Stage.DELIVERED else self.folders.fail
        place(job.id, job.account, job.document.patient_id, dict(written))

    def unstage(self, job: Job) -> None:
        """Remove a staged copy that nobody needs any more."""
        if self._staged(job):
            self._staging_of(job).remove(job.id)

    # --- where it lies -----------------------------------------------------------------------------------------

    def _here(self, job: Job) -> bool:
        return job.document.door.has_folder and self.folders.document(job.id) is not None

    def _staged(self, job: Job) -> bool:
        return is_staged(job) and job.document.source.startswith("s3://")

    def _staging_of(self, job: Job) -> Staging:
        if self._staging is None:
            raise RetryLater("The document is staged to S3, and this worker's settings have no s3.stage_inbox.")
        return self._staging


def _own_id(record: Record | None) -> str | None:
    """The id of a record that is the document's own, so that it may be gone on with."""
    return record.id if record and not record.shared else None


def _digest(source: OpenSource, beat: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    while block := source.read(_BLOCK_BYTES):
        beat()
        digest.update(block)
    return digest.hexdigest()
