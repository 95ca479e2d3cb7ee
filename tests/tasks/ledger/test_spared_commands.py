"""What the scripts leave out because Redis holds it already, and what they write all the same."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
import redis

from tasks.ledger import moves
from tasks.ledger.keys import CLOSING_LANE, PREFIX
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.ledger.moves import ClosingDone
from tasks.ledger.script_loader import load_script
from tasks.ledger.seal import Seal
from tasks.model.errors import Code
from tasks.model.job import Facts, Failure, Record
from tasks.model.route import Stage, Step
from tasks.model.times import steady_seconds
from tests.tasks.ledger.test_ledger import PRESIGNED, STORED, document, start

LEASE_MS = 30_000
ACCOUNT = f"{PREFIX}account:north"


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    return Ledger(valkey, Seal("a secret"), lease_seconds=LEASE_MS / 1000, jobs_days=30)


@pytest.fixture
def job_id(ledger: Ledger) -> str:
    job = str(uuid4())
    ledger.open(job, document(), "pracsuite")
    return job


def feed(ledger: Ledger) -> None:
    lanes = json.dumps(
        [{"lane": lane, "slots": 8, "has_breaker": lane == "north", "group": "g"} for lane in ("north", CLOSING_LANE)]
    )
    load_script(ledger.redis, "take_due")(args=[PREFIX, LEASE_MS, 32, "queue", lanes, "", "", 0, "boot", 1])


def lease_times(ledger: Ledger, job_id: str) -> set[int]:
    """When the lease, the due entry and the slot of a job end: one time if they agree."""
    of_row = ledger.redis.hget(f"{PREFIX}job:{job_id}", "lease_until")
    listed = [ledger.redis.zscore(f"{PREFIX}{family}:north", job_id) for family in ("due", "flying")]
    return {int(each or 0) for each in (of_row, *listed)}


def to_closing(ledger: Ledger, job_id: str) -> Lease:
    """Delivered by workers that go on with it as far as they can, and are sent the rest by a feeder."""
    feed(ledger)
    lease = ledger.go_on(start(ledger, job_id, Step.PRESIGN), moves.presigned(PRESIGNED, "run", calls=2))
    assert lease
    ledger.commit(lease)
    ledger.apply(lease, moves.stored(Facts(snapshot=("1",), stored=STORED), Step.CONFIRM, 0, calls=1))
    feed(ledger)
    lease = start(ledger, job_id, Step.CONFIRM)
    closing = ledger.go_on(lease, moves.delivered(lease.job, Record("77"), 1, STORED.sha256))
    assert closing
    return closing


def commands(ledger: Ledger) -> int:
    return int(ledger.redis.info("stats")["total_commands_processed"])


def test_the_scripts_of_a_document_send_a_bounded_number_of_commands(ledger: Ledger, job_id: str) -> None:
    closing = to_closing(ledger, job_id)
    ledger.apply(closing, moves.finished(closing.job, ClosingDone()))
    another = str(uuid4())
    before = commands(ledger)
    ledger.open(another, document(patient_id="4712"), "pracsuite")
    ledger.reserve_name(ledger.get(another))  # type: ignore[arg-type]
    closing = to_closing(ledger, another)
    ledger.apply(closing, moves.finished(closing.job, ClosingDone()))
    assert commands(ledger) - before <= 125, "calls of scripts, and what they send"


def test_a_lease_takes_over_the_time_that_came_with_the_message(ledger: Ledger, job_id: str) -> None:
    feed(ledger)
    moment = int(ledger.redis.zscore(f"{PREFIX}due:north", job_id) or 0) - 1000  # as if it had been sent a second ago
    ledger.redis.hset(f"{PREFIX}job:{job_id}", "next_at", moment)
    for family in ("due", "flying"):
        ledger.redis.zadd(f"{PREFIX}{family}:north", {job_id: moment})
    lease = start(ledger, job_id, Step.PRESIGN)
    assert lease_times(ledger, job_id) == {moment}
    assert lease.taken_at <= steady_seconds() - 1, "its holder knows when it ends"


@pytest.mark.parametrize("steps", [("go_on",), ()], ids=["goes on", "starts"])
def test_a_message_that_waited_gets_the_time_of_a_whole_lease(
    ledger: Ledger, job_id: str, steps: tuple[str, ...]
) -> None:
    feed(ledger)
    row = f"{PREFIX}job:{job_id}"
    lease = start(ledger, job_id, Step.PRESIGN) if steps else None
    earlier = lease_times(ledger, job_id).pop() - LEASE_MS // 2 if steps else int(ledger.redis.time()[0]) * 1000
    ledger.redis.hset(row, mapping={"lease_until": earlier, "next_at": earlier} if steps else {"next_at": earlier})
    for family in ("due", "flying"):
        ledger.redis.zadd(f"{PREFIX}{family}:north", {job_id: earlier})
    asked_at = steady_seconds()
    if lease:
        lease = ledger.go_on(lease, moves.presigned(PRESIGNED, "run", calls=2))
    else:
        lease = start(ledger, job_id, Step.PRESIGN)
    assert lease
    (until,) = lease_times(ledger, job_id)
    assert until - earlier > LEASE_MS / 4
    assert lease.taken_at >= asked_at - 1e-3


def test_an_account_that_answers_is_noted_now_and_then_and_at_once_after_it_was_slow(ledger: Ledger) -> None:
    def answered(at: str) -> str | None:
        job = str(uuid4())
        ledger.open(job, document(file_name=f"{job}.pdf"), "pracsuite")
        ledger.redis.hset(ACCOUNT, mapping={"answered_at": at, "progress_at": at})
        ledger.apply(start(ledger, job, Step.PRESIGN), moves.presigned(PRESIGNED, "run", calls=0))
        return str(ledger.redis.hget(ACCOUNT, "answered_at"))

    # A moment that will stay less than a second old, however slow the machine is.
    just_now = str(int(ledger.redis.time()[0]) * 1000 + 999)
    long_ago = str(int(just_now) - 60_000)
    assert answered(long_ago) != long_ago
    ledger.redis.hset(ACCOUNT, "slow_at", just_now)
    assert answered(just_now) != just_now, "it was slow, and has answered since"
    ledger.redis.hdel(ACCOUNT, "slow_at")
    ledger.redis.hset(ACCOUNT, mapping={"trial": "1", "interval": "9"})
    assert answered(just_now) != just_now, "the circuit closes with this document"


def test_a_failure_is_written_with_its_code_and_leaves_with_the_row(ledger: Ledger, job_id: str) -> None:
    failure = f"{PREFIX}failure:{job_id}"
    ledger.apply(start(ledger, job_id, Step.PRESIGN), moves.failed(Failure(Code.FILE_EMPTY, "It is empty."), calls=0))
    closing = start(ledger, job_id, Step.NOTIFY)
    ledger.apply(closing, moves.finished(closing.job, ClosingDone()))
    assert ledger.redis.ttl(failure) > 0
    job = ledger.get(job_id)
    assert job
    assert ledger.take_over(job, moves.retry(job)) == "ok"
    assert not ledger.redis.exists(failure)
    assert ledger.redis.ttl(f"{PREFIX}document:{job_id}") == -1
    assert ledger.redis.zscore(f"{PREFIX}open:north", job_id) is not None
    again = ledger.get(job_id)
    assert again
    assert (again.stage, again.failure) == (Stage.RECEIVED, None)
