"""One try at a creating step: when its commit stands, and when it is taken back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import redis

from tasks.attempt import Attempt
from tasks.care import Care
from tasks.errors import AccountBlocked, Code, DocumentRefused, LeaseLost, OutcomeUnknown, RetryLater, StageError
from tasks.folders import Folders
from tasks.job import Job, Step
from tasks.keeper import Grip
from tasks.ledger import Hold, Ledger, NotStarted
from tasks.seal import Seal
from tasks.sources import Files, Objects, Sources
from tests.tasks.ledger.test_routes import ONE, opened


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    return Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)


@pytest.fixture
def care(tmp_path: Path) -> Care:
    return Care(Folders(tmp_path), Sources(Files([tmp_path]), Objects([], "")), None)


def begun(ledger: Ledger, care: Care, job_id: str) -> Attempt:
    started = ledger.start(job_id, Step.REGISTER)
    assert not isinstance(started, NotStarted)
    hold: Hold = started[0]
    return Attempt(ledger, care, hold, Grip([hold], 30), threading.Event())


def end(attempt: Attempt, error: StageError) -> None:
    """A creating call that passes its commit point and ends in this error."""

    def called() -> None:
        with attempt.taking_back():
            attempt.commit()
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
        (AccountBlocked("a success that is not understood", unseen=True), True),
        (AccountBlocked("refused", credentials=True), False),
        (RetryLater("too many requests"), False),
        (DocumentRefused(Code.REFUSED_BY_PROVIDER, "refused"), False),
    ],
)
def test_a_commit_stands_unless_the_error_says_for_certain_that_nothing_was_created(
    ledger: Ledger, care: Care, error: StageError, stands: bool
) -> None:
    job_id = opened(ledger, ONE)
    end(begun(ledger, care, job_id), error)
    assert now(ledger, job_id).committed is stands


def test_what_may_have_been_created_by_an_earlier_try_is_not_taken_back_by_a_later_one(
    ledger: Ledger, care: Care
) -> None:
    job_id = opened(ledger, ONE)
    end(begun(ledger, care, job_id), LeaseLost("killed"))
    ledger.redis.hset(f"chartpost:job:{job_id}", "lease_until", 1)
    end(begun(ledger, care, job_id), RetryLater("too many requests"))
    assert now(ledger, job_id).committed
