"""A finished document's files: into delivered/ or failed/, and out of the staging bucket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.folders.outcomes import Outcomes
from tasks.folders.staging import Staging, is_staged
from tasks.model.errors import RetryLater
from tasks.model.job import Job
from tasks.model.route import Stage


class DocumentFiles:
    """`owns_folders` is true in the watcher, which alone has the folders of documents that it staged to S3."""

    def __init__(self, outcomes: Outcomes, staging: Staging | None, *, owns_folders: bool = False) -> None:
        self._outcomes = outcomes
        self._staging = staging
        self._owns_folders = owns_folders

    def close(self, job: Job, companion: Mapping[str, Any]) -> None:
        """Move the document to `delivered/` or `failed/`, with its receipt or error file beside it. May be repeated.

        Raises RetryLater for a staged document whose folders are another process's.
        """
        if not job.document.door.has_folder:
            return
        if is_staged(job) and not self._owns_folders:
            raise RetryLater("The document's folders lie with the watcher that staged it; it closes the files.")
        move = self._outcomes.deliver if job.stage is Stage.DELIVERED else self._outcomes.fail
        move(job.id, job.account, job.document.patient_id, dict(companion))

    def unstage(self, job: Job) -> None:
        """Remove the staged copy and its job.json, if the document was staged. May be repeated."""
        if not is_staged(job) or not job.document.source.startswith("s3://"):
            return
        if self._staging is None:
            raise RetryLater("The document is staged to S3, and this worker's settings have no s3.stage_inbox.")
        self._staging.remove(job.id)
