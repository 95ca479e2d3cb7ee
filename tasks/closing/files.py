"""The files of a job that has ended: the document's move to delivered/ or failed/, and its staged copy."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tasks.closing.notes import FailureNotes
from tasks.closing.receipts import error_file, receipt
from tasks.folders.job_json import JobFileDamaged
from tasks.folders.layout import Folders
from tasks.folders.notes import NoteText
from tasks.folders.outcomes import Outcomes
from tasks.folders.set_aside import SentDocument, remark_of
from tasks.folders.staging import Staging, is_staged, staging_of
from tasks.model.errors import DocumentRefused, RetryLater
from tasks.model.job import Facts, Job
from tasks.model.route import Stage


class DocumentFiles:
    """`owns_folders` is true in the watcher, which alone has the folders of documents that it staged to S3.

    Without `notes`, a document that has failed gets no notes for people.
    """

    def __init__(
        self,
        folders: Folders,
        outcomes: Outcomes,
        staging: Staging | None,
        notes: FailureNotes | None = None,
        *,
        owns_folders: bool = False,
    ) -> None:
        self._folders = folders
        self._outcomes = outcomes
        self._staging = staging
        self._notes = notes
        self._owns_folders = owns_folders

    def close(self, job: Job) -> Facts:
        """Move the document to delivered/ or failed/, with its receipt or error file beside it.

        Returns the job's facts, with a remark if the document had changed after it was sent.
        Raises RetryLater for a staged document whose folders are another process's.
        """
        document = job.document
        if not document.door.has_folder:
            return job.facts
        self._check_folders(job)
        if job.stage is Stage.DELIVERED:
            sent = SentDocument(document.size_bytes, document.identity, job.sha256)
            closed = self._outcomes.deliver(job.id, job.account, document.patient_id, receipt(job), sent)
            return _with_remark(job, closed.content)
        self._bring_commit_home(job)
        self._outcomes.fail(job.id, job.account, document.patient_id, error_file(job), lambda name: self._of(job, name))
        return job.facts

    def tell_of_dismissal(self, job: Job) -> bool:
        """Let a failed document's error file and notes say who has dealt with it; False if they do not lie here."""
        error = error_file(job)
        patient_id = job.document.patient_id
        return self._outcomes.tell(job.id, job.account, patient_id, error, lambda name: self._of(job, name))

    def _of(self, job: Job, disk_name: str) -> Mapping[str, NoteText]:
        return self._notes.of(job, disk_name) if self._notes else {}

    def earlier_receipt(self, job: Job) -> Mapping[str, Any] | None:
        """The receipt of a job that has failed in the ledger and was delivered on disk; None if there is none.

        Then Redis was restored from an older copy: it knows nothing of the delivery. Raises RetryLater as `close` does.
        """
        if job.stage is not Stage.FAILED or not job.document.door.has_folder:
            return None
        self._check_folders(job)
        # What is still in our care was not delivered; searching would read all of the patient's receipts.
        if self._folders.document(job.id):
            return None
        return self._outcomes.find_receipt(job.id, job.account, job.document.patient_id)

    def _bring_commit_home(self, job: Job) -> None:
        """Note what the staged job.json knows of a commit in the one here, which goes into the error file."""
        staging = staging_of(job, self._staging)
        if staging is None:
            return
        # Either is gone: this was done before. A damaged one says nothing.
        with suppress(DocumentRefused, FileNotFoundError, JobFileDamaged):
            staged = staging.read_job_file(job.id)
            self._folders.update_job_file(job.id, commit=staged.commit)

    def _check_folders(self, job: Job) -> None:
        if is_staged(job) and not self._owns_folders:
            raise RetryLater("The document's folders lie with the watcher that staged it; it closes the files.")

    def unstage(self, job: Job) -> None:
        """Remove the staged copy and its job.json, if there are any."""
        # A search that goes on may find that the document never arrived, and send it again: from the staged copy.
        if job.still_reconciling:
            return
        staging = staging_of(job, self._staging)
        if staging:
            staging.remove(job.id)


def _with_remark(job: Job, written: Mapping[str, Any]) -> Facts:
    """The job's facts, with the remark that the receipt on disk has got when it was written."""
    remark = remark_of(job.id, job.document.size_bytes)
    if remark in job.facts.content_remarks or remark not in written.get("remarks", ()):
        return job.facts
    return replace(job.facts, content_remarks=(*job.facts.content_remarks, remark))
