"""The commit in job.json: what is noted there, and what is read when the ledger has forgotten everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.folders.commit_log import CommitLog
from tasks.folders.layout import Folders
from tasks.model.document import Door
from tasks.model.job import Facts, Job, Record
from tasks.model.route import Step
from tests.tasks.folders.documents import JOB, claim, drop
from tests.tasks.providers.doubles import job as made_job


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "data")
    made.create()
    return made


@pytest.fixture
def commit_log(folders: Folders) -> CommitLog:
    return CommitLog(folders, None)


@pytest.fixture
def job(folders: Folders) -> Job:
    path = claim(folders, drop(folders))
    made = made_job()
    return replace(made, id=JOB, document=replace(made.document, door=Door.INBOX, source=path.as_uri()))


def test_a_record_that_was_made_is_known_again(commit_log: CommitLog, job: Job) -> None:
    commit_log.note_commit(job, Facts())
    assert commit_log.committed_on_disk(job)
    commit_log.note_record(job, Record("7"))
    assert (commit_log.committed_on_disk(job), commit_log.record_on_disk(job)) == (False, Record("7"))
    commit_log.note_commit(job, Facts(record=Record("7")))
    assert (commit_log.committed_on_disk(job), commit_log.record_on_disk(job)) == (True, Record("7"))


def test_a_record_that_others_share_is_never_reused(commit_log: CommitLog, job: Job) -> None:
    shared = Record("7", shared=True)
    commit_log.note_record(job, shared)
    assert commit_log.record_on_disk(job) is None
    commit_log.note_commit(job, Facts(record=shared))
    assert commit_log.record_on_disk(job) is None


def test_after_its_record_went_to_another_job_it_must_be_searched_for(commit_log: CommitLog, job: Job) -> None:
    assert job.step is Step.PRESIGN
    commit_log.note_record(job, Record("7"))
    commit_log.note_record_lost(job)
    assert (commit_log.committed_on_disk(job), commit_log.record_on_disk(job)) == (True, None)
