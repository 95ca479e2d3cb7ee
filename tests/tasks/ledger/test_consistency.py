"""What belongs to nothing is found, and mended where that does no harm."""

from __future__ import annotations

from uuid import uuid4

import pytest
import redis

from tasks.ledger import keys, moves
from tasks.ledger.consistency import Consistency
from tasks.ledger.keys import CLOSING_LANE, PREFIX
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.document import Document, Door
from tasks.model.errors import Code
from tasks.model.job import Failure
from tasks.model.route import Step


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    return Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)


@pytest.fixture
def consistency(valkey: redis.Redis, ledger: Ledger) -> Consistency:
    return Consistency(valkey, ledger)


def opened(ledger: Ledger, door: Door = Door.CELERY) -> str:
    job = str(uuid4())
    ledger.open(job, Document("north", "1", "file:///x", f"{job}.pdf", 1, door=door), "pracsuite")
    return job


def found(consistency: Consistency, *, mend: bool = False) -> set[tuple[str, str]]:
    return {(orphan.what, orphan.id) for orphan in consistency.inconsistencies(mend=mend)}


def test_a_ledger_in_order_has_no_orphans(consistency: Consistency, ledger: Ledger) -> None:
    done, failed = opened(ledger), opened(ledger)
    opened(ledger)
    for job in (done, failed):
        [lease] = ledger.start(job, Step.PRESIGN)  # type: ignore[misc]
        ledger.apply(lease, moves.failed(Failure(Code.FILE_MISSING, "Gone."), calls=0))
    [lease] = ledger.start(done, Step.NOTIFY)  # type: ignore[misc]
    ledger.apply(lease, moves.finished(lease.job, moves.ClosingDone()))
    assert found(consistency) == set()


def test_a_job_that_lost_its_due_entry_gets_one_again(consistency: Consistency, ledger: Ledger) -> None:
    job = opened(ledger)
    ledger.redis.zrem(f"{PREFIX}due:north", job)
    assert found(consistency) == {("job without due", job)}
    assert ledger.redis.zscore(f"{PREFIX}due:north", job) is None, "checking changes nothing"
    found(consistency, mend=True)
    assert ledger.redis.zscore(f"{PREFIX}due:north", job) is not None
    assert found(consistency) == set()


def test_a_due_entry_without_its_job_is_removed(consistency: Consistency, ledger: Ledger) -> None:
    gone, job = str(uuid4()), opened(ledger)
    ledger.redis.zadd(f"{PREFIX}due:north", {gone: 1})
    ledger.redis.zadd(f"{PREFIX}due:{CLOSING_LANE}", {job: 1})  # of another lane than its job's
    assert found(consistency, mend=True) == {("due without job", gone), ("due without job", job)}
    assert found(consistency) == set()


def test_lists_and_names_of_jobs_that_are_gone_are_removed(consistency: Consistency, ledger: Ledger) -> None:
    job = opened(ledger)
    there = ledger.get(job)
    assert there is not None
    ledger.reserve_name(there)
    ledger.redis.delete(f"{PREFIX}job:{job}")
    wrong = found(consistency, mend=True)
    left = {"due without job", "listed without job", "name held without job", "sealed without job"}
    assert {what for what, _ in wrong} == left
    assert not ledger.redis.exists(keys.sealed("document", job))
    assert found(consistency) == set()


def test_a_job_that_has_ended_is_listed_again_among_those_that_have(consistency: Consistency, ledger: Ledger) -> None:
    job = opened(ledger)
    [lease] = ledger.start(job, Step.PRESIGN)  # type: ignore[misc]
    ledger.apply(lease, moves.failed(Failure(Code.FILE_MISSING, "Gone."), calls=0))
    ended_at = ledger.redis.zscore(keys.FINISHED, job)
    ledger.redis.delete(keys.FINISHED)
    assert found(consistency, mend=True) == {("job not among those that have ended", job)}
    assert ledger.redis.zscore(keys.FINISHED, job) == ended_at
    assert found(consistency) == set()
