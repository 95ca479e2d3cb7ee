"""What `job.json` knows of a document's commit. If Redis is wiped, this is all that is left of it.

A document that came by the inbox or by `chartpost send` has its `job.json` beside it in `processing/<job id>/`; once it
is staged to S3, the `job.json` beside the staged copy counts. Documents that stay with their senders have none: their
commits are in the `commit_journal`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from tasks.folders.commit_journal import CommitJournal
from tasks.folders.job_folder import JOB_FILE
from tasks.folders.job_json import Commit, JobFile, JobFileTooNew
from tasks.folders.layout import Folders
from tasks.folders.staging import Staging, is_staged, staging_of
from tasks.model.document import Place
from tasks.model.errors import RetryLater
from tasks.model.job import Facts, Job, Record
from tasks.model.route import Step

_CREATING_STEPS = (Step.PRESIGN, Step.POST, Step.REGISTER)
"""The steps that may create something at the provider, in order."""
_NEWER_VERSION_SECONDS = 60.0


class CommitLog:
    """Reads and writes the commit in a job's `job.json`."""

    def __init__(self, folders: Folders, staging: Staging | None, journal: CommitJournal | None = None) -> None:
        self._folders = folders
        self._staging = staging
        self._journal = journal

    def needs_journal(self, job: Job) -> bool:
        """True for a document without a `job.json`. Labels are simply set again."""
        return not (is_staged(job) or self._in_folder(job) or job.document.relabeling)

    def folder_is_missing(self, job: Job) -> bool:
        """True if the document's own folder in `processing/` is not on this machine, so that nothing may be sent."""
        return _in_own_folder(job) and not (self._folders.job_folder(job.id).path / JOB_FILE).exists()

    def require_staging(self, job: Job) -> None:
        """Raises RetryLater for a staged document, if these settings stage nothing."""
        staging_of(job, self._staging)

    def committed_on_disk(self, job: Job) -> bool | None:
        """True if job.json says that the last block of this step or of a later one may have left; None without one.

        False for a commit that was searched for long enough already, and found to have led to nothing.
        """
        job_file = self._read(job)
        if job_file is None:
            return None
        this_step_or_later = _CREATING_STEPS.index(job_file.commit.step) >= _CREATING_STEPS.index(job.step)
        # The ledger names the commit that was searched for by its time: job.json may hold a later one, of which a
        # Redis that was restored from a backup does not know.
        searched_for = job.uncertainty.has_reconciled(job_file.commit.noted_at)
        return job_file.committed and this_step_or_later and not searched_for

    def committed_at(self, job: Job) -> datetime | None:
        """When the commit was noted that must be searched for; None if none was."""
        job_file = self._read(job)
        return job_file.commit.noted_at if job_file and job_file.committed else None

    def record_on_disk(self, job: Job) -> Record | None:
        """The record that the provider has made for the document, as job.json knows it."""
        job_file = self._read(job)
        return Record(job_file.commit.record_id) if job_file and job_file.commit.record_id else None

    def note_commit(self, job: Job, facts: Facts, number: int = 0, run: str = "") -> None:
        """Write down, before the last block leaves, what a search would need.

        `number` and `run` are the commit's number and the mark of the run of its Redis. Raises OSError, RetryLater and
        DocumentRefused: then nothing may leave.
        """
        if self._journal and self.needs_journal(job):
            self._journal.note(number, run, job.id, job.step, replace(facts, form=None))
            return
        commit = Commit(
            stands=True,
            step=job.step,
            record_id=_own_id(facts.record),
            noted_at=datetime.now(UTC),
            snapshot=facts.snapshot,
            key=facts.key,
            provider_facts=dict(facts.provider),
        )
        identity, remarks = job.document.identity, facts.content_remarks
        self._write(
            job,
            lambda job_file: replace(job_file, commit=commit, sent_identity=identity, content_remarks=remarks),
        )

    def note_commit_undone(self, job: Job, number: int = 0, run: str = "") -> None:
        """It is certain that nothing was created."""
        if self._journal and self.needs_journal(job):
            self._journal.note(number, run, job.id, job.step, Facts(), undone=True)
            return
        self._write(job, lambda job_file: job_file.with_commit(stands=False, noted_at=None))

    def note_record(self, job: Job, record: Record) -> None:
        """The provider has made its record, and the document is still to be uploaded to it."""
        record_id = _own_id(record)
        self._write(job, lambda job_file: job_file.with_commit(stands=False, noted_at=None, record_id=record_id))

    def note_record_lost(self, job: Job) -> None:
        """The record turned out to be another job's: this job's own record must be searched for."""
        noted_at = datetime.now(UTC)
        self._write(job, lambda job_file: job_file.with_commit(stands=True, noted_at=noted_at, record_id=None))

    def _read(self, job: Job) -> JobFile | None:
        staging = staging_of(job, self._staging)
        with _left_to_the_newer_version():
            if staging:
                return staging.read_job_file(job.id)
            return self._folders.read_job_file(job.id) if self._in_folder(job) else None

    def _write(self, job: Job, change: Callable[[JobFile], JobFile]) -> None:
        staging = staging_of(job, self._staging)
        with _left_to_the_newer_version():
            if staging:
                staging.change_job_file(job.id, change)
            elif self._in_folder(job):
                self._folders.change_job_file(job.id, change)

    def _in_folder(self, job: Job) -> bool:
        return job.document.door.has_folder and self._folders.document(job.id) is not None


@contextmanager
def _left_to_the_newer_version() -> Iterator[None]:
    """Raise RetryLater for a job.json of a newer version, with a wait that costs nothing of the job's budget."""
    try:
        yield
    except JobFileTooNew as error:
        raise RetryLater(str(error), after_seconds=_NEWER_VERSION_SECONDS) from error


def _in_own_folder(job: Job) -> bool:
    """True for a document in our care. One that continues a failed job may also be a copy that lies with its sender."""
    return job.document.place_of(job.id) is Place.FOLDER


def _own_id(record: Record | None) -> str | None:
    """The id of a record that is this document's alone, so that a later try may go on with it."""
    return record.id if record and not record.shared else None
