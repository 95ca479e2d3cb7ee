"""An account's last validations: kept by the move that delivers, if they tell something of the provider."""

from __future__ import annotations

from uuid import uuid4

import pytest
import redis

from tasks.accounts.breaker import CircuitBreaker
from tasks.ledger import moves
from tasks.ledger.keys import PREFIX
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.job import Record
from tasks.model.polling import Validation
from tasks.model.route import Step
from tests.harness.validations import last_validations
from tests.tasks.ledger.test_ledger import STORED, document, expire_lease, start, to_stored

TOOK = Validation(2.0, 4.5)


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    return Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)


@pytest.fixture
def breaker(valkey: redis.Redis) -> CircuitBreaker:
    return CircuitBreaker(valkey, probe_first_seconds=1, probe_cap_seconds=1)


def stored(ledger: Ledger) -> str:
    job = str(uuid4())
    ledger.open(job, document(file_name=f"{job}.pdf"), "pracsuite")
    to_stored(ledger, job)
    return job


def deliver(ledger: Ledger, job: str, took: Validation | None = TOOK, *, goes_on: bool = False) -> None:
    lease = start(ledger, job, Step.CONFIRM)
    move = moves.delivered(lease.job, Record(job), 1, STORED.sha256, validation=took)
    assert ledger.go_on(lease, move) if goes_on else ledger.apply(lease, move)


@pytest.mark.parametrize("goes_on", [True, False])
def test_the_move_that_delivers_keeps_how_long_it_took_with_the_account(ledger: Ledger, goes_on: bool) -> None:
    assert last_validations(ledger.redis, "north") == []
    deliver(ledger, stored(ledger), goes_on=goes_on)
    deliver(ledger, stored(ledger), None, goes_on=goes_on)
    deliver(ledger, stored(ledger), Validation(0, 1.0004), goes_on=goes_on)
    assert last_validations(ledger.redis, "north") == [TOOK, Validation(0, 1)]
    assert last_validations(ledger.redis, "south") == []


def test_the_last_twenty_are_kept(ledger: Ledger) -> None:
    for number in range(23):
        deliver(ledger, stored(ledger), Validation(number, number + 1))
    assert last_validations(ledger.redis, "north") == [Validation(number, number + 1) for number in range(3, 23)]


def test_a_move_that_is_refused_keeps_nothing(ledger: Ledger) -> None:
    first, second = stored(ledger), stored(ledger)
    deliver(ledger, first)
    expire_lease(ledger, second)  # it was searched for together with the first
    lease = start(ledger, second, Step.CONFIRM)
    move = moves.delivered(lease.job, Record(first), 1, STORED.sha256, validation=TOOK)
    assert not ledger.apply(lease, move), "the record proves the first"
    assert len(last_validations(ledger.redis, "north")) == 1


@pytest.mark.parametrize("recovers", [True, False])
def test_what_waited_while_the_account_was_parked_tells_nothing(
    ledger: Ledger, breaker: CircuitBreaker, recovers: bool
) -> None:
    job = stored(ledger)
    breaker.park("north", "wrong keys")
    ledger.redis.hincrby(PREFIX + "account:north", "since", -1000)
    if recovers:
        breaker.half_open("north")
    deliver(ledger, job)
    assert last_validations(ledger.redis, "north") == []


def test_what_was_stored_after_the_account_had_been_parked_tells_as_any_other(
    ledger: Ledger, breaker: CircuitBreaker
) -> None:
    breaker.park("north", "wrong keys")
    ledger.redis.hincrby(PREFIX + "account:north", "since", -1000)
    breaker.half_open("north")
    deliver(ledger, stored(ledger))
    assert last_validations(ledger.redis, "north") == [TOOK]


@pytest.mark.parametrize(
    "written", ["", "x", "4500-2000", "-1-2", "2000", "2000-2000", "1-2-3", "1e3-2e3", "0-1" + "0" * 400]
)
def test_what_cannot_be_read_is_left_out(ledger: Ledger, written: str) -> None:
    ledger.redis.hset(PREFIX + "account:north", "validations", f"{written} 2000-4500")
    assert last_validations(ledger.redis, "north") == [TOOK]
