"""One try at a creating step: when its commit stands, and when it is taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from tasks.folders.commit_log import CommitLog
from tasks.folders.layout import Folders
from tasks.ledger import moves
from tasks.ledger.keys import PREFIX
from tasks.ledger.lease import Lease, NotStarted
from tasks.ledger.ledger import Ledger
from tasks.ledger.renewal import Renewal
from tasks.ledger.seal import Seal
from tasks.model.document import Door
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, LeaseLost, OutcomeUnknown, RetryLater, StepError
from tasks.model.job import Facts, Job
from tasks.model.route import Step
from tasks.pipeline.commit_point import CommitPoint
from tests.tasks.folders.documents import JOB, claim, drop
from tests.tasks.ledger.test_ledger import document, expire_lease, start
from tests.tasks.ledger.test_routes import ONE, opened
from tests.tasks.pipeline.runners import documents_of

NO_DOCUMENTS = documents_of(Path("/nowhere"))


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    return Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@pytest.fixture
def commit_log(folders: Folders) -> CommitLog:
    return CommitLog(folders, None)


def begun(ledger: Ledger, commit_log: CommitLog, job_id: str) -> CommitPoint:
    started = ledger.start(job_id, Step.REGISTER)
    assert not isinstance(started, NotStarted)
    lease: Lease = started[0]
    return CommitPoint(
        ledger, commit_log, NO_DOCUMENTS, lease=lease, renewal=Renewal([lease], 30), stopping=threading.Event()
    )


def end(commit_point: CommitPoint, error: StepError) -> None:
    """A creating call that passes its commit point and ends in this error."""

    def called() -> None:
        with commit_point.taking_back():
            commit_point.commit()
            raise error

    with pytest.raises(type(error)):
        called()


def now(ledger: Ledger, job_id: str) -> Job:
    job = ledger.get(job_id)
    assert job is not None
    return job


@pytest.mark.parametrize(
    ("error", "stands"),
    [
        (OutcomeUnknown("no answer"), True),
        (LeaseLost("another has it"), True),
        (AccountBlocked("a success that is not understood", outcome_unknown=True), True),
        (AccountBlocked("refused", credentials=True), False),
        (RetryLater("too many requests"), False),
        (DocumentRefused(Code.REFUSED_BY_PROVIDER, "refused"), False),
    ],
)
def test_a_commit_stands_unless_the_error_says_for_certain_that_nothing_was_created(
    ledger: Ledger, commit_log: CommitLog, error: StepError, stands: bool
) -> None:
    job_id = opened(ledger, ONE)
    end(begun(ledger, commit_log, job_id), error)
    assert now(ledger, job_id).uncertainty.committed is stands


def test_what_may_have_been_created_by_an_earlier_try_is_not_taken_back_by_a_later_one(
    ledger: Ledger, commit_log: CommitLog
) -> None:
    job_id = opened(ledger, ONE)
    end(begun(ledger, commit_log, job_id), LeaseLost("killed"))
    ledger.redis.hset(f"chartpost:job:{job_id}", "lease_until", 1)
    end(begun(ledger, commit_log, job_id), RetryLater("too many requests"))
    assert now(ledger, job_id).uncertainty.committed


def test_what_went_before_under_the_same_ids_is_still_noted_when_a_later_try_was_certainly_not_taken(
    ledger: Ledger, commit_log: CommitLog, folders: Folders
) -> None:
    folders.create()
    job = in_our_care(ledger, folders)
    end(begun(ledger, commit_log, job.id), OutcomeUnknown("no answer"))
    ledger.redis.hset(f"{PREFIX}job:{job.id}", "lease_until", 1)
    lease = start(ledger, job.id, Step.REGISTER)
    ledger.apply(lease, moves.repeated(lease, 0, calls=1))
    end(begun(ledger, commit_log, job.id), RetryLater("too many requests"))
    assert folders.read_job_file(job.id).committed, "known after Redis was wiped"


# --- a worker that was stopped for longer than its lease, and goes on ------------------------------------------------


class Stopping(Ledger):
    """Its process stands still for a lease just after the commit in the ledger; `meanwhile` is what others do then."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def commit(self, lease: Lease, facts: Facts | None = None, run_mark: str = "") -> int | None:
        number = super().commit(lease, facts, run_mark)
        self.lease_seconds = 0.0  # whatever time has passed is longer than it
        expire_lease(self, lease.job.id)
        self.meanwhile()
        return number


@pytest.fixture
def stopping(valkey: redis.Redis) -> Stopping:
    return Stopping(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)


def in_our_care(ledger: Ledger, folders: Folders) -> Job:
    """A document that lies in our care, to be registered."""
    path = claim(folders, drop(folders))
    asked = replace(document(), source=path.as_uri(), door=Door.INBOX)
    ledger.open(JOB, asked, "any", route=ONE)
    return now(ledger, JOB)


def test_a_worker_that_wakes_up_behind_another_does_not_change_what_that_has_noted(
    stopping: Stopping, commit_log: CommitLog, folders: Folders
) -> None:
    folders.create()
    job = in_our_care(stopping, folders)
    sleeper = begun(stopping, commit_log, job.id)
    theirs = Facts(provider={"at": "later"})

    def another_sends_it() -> None:
        Ledger.commit(stopping, start(stopping, job.id, Step.REGISTER), theirs)
        commit_log.note_commit(now(stopping, job.id), theirs)

    stopping.meanwhile = another_sends_it
    with pytest.raises(LeaseLost), sleeper.taking_back():
        sleeper.commit()
    noted = folders.read_job_file(job.id)
    assert (noted.committed, noted.commit.provider_facts) == (True, {"at": "later"})
    assert now(stopping, job.id).uncertainty.committed


def test_a_worker_that_wakes_up_with_its_lease_takes_its_commit_back_and_tries_again(
    stopping: Stopping, commit_log: CommitLog, folders: Folders
) -> None:
    folders.create()
    job = in_our_care(stopping, folders)
    sleeper = begun(stopping, commit_log, job.id)
    with pytest.raises(RetryLater), sleeper.taking_back():
        sleeper.commit()
    assert not folders.read_job_file(job.id).committed
    assert not now(stopping, job.id).uncertainty.committed
