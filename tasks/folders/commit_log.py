"""What `job.json` knows of a document's commit, wherever it lies: it is what a wiped Redis leaves us with.

A document that came by the inbox or by `chartpost send` has its `job.json` beside it in `processing/<job id>/`; once
it is staged to S3, the one beside the staged object counts. Documents that their sender keeps have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.folders.staging import Staging, is_staged
from tasks.model.errors import RetryLater
from tasks.model.job import Facts, Job, Record
from tasks.model.route import Step

_CREATING_STEPS = (Step.PRESIGN, Step.POST, Step.REGISTER)
"""The steps that may create something, in order."""


class CommitLog:
    """Reads and writes the commit in a job's `job.json`."""

    def __init__(self, folders: Folders, staging: Staging | None) -> None:
        self._folders = folders
        self._staging = staging

    def committed_on_disk(self, job: Job) -> bool | None:
        """Whether job.json says that this step's last block, or a later step's, may have left; None without one.

        Not if that was looked for long enough already.
        """
        job_file = self._job_file(job)
        if job_file is None:
            return None
        later = _CREATING_STEPS.index(job_file.committed_step) >= _CREATING_STEPS.index(job.step)
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
            return self._folders.read_job_file(job.id)
        return None

    def _note(self, job: Job, changes: Mapping[str, Any]) -> None:
        if self._staged(job):
            self._staging_of(job).update_job_file(job.id, changes)
        elif self._here(job):
            self._folders.update_job_file(job.id, **changes)

    def _here(self, job: Job) -> bool:
        return job.document.door.has_folder and self._folders.document(job.id) is not None

    def _staged(self, job: Job) -> bool:
        return is_staged(job) and job.document.source.startswith("s3://")

    def _staging_of(self, job: Job) -> Staging:
        if self._staging is None:
            raise RetryLater("The document is staged to S3, and this worker's settings have no s3.stage_inbox.")
        return self._staging


def _own_id(record: Record | None) -> str | None:
    """The id of a record that is the document's own, so that it may be gone on with."""
    return record.id if record and not record.shared else None
