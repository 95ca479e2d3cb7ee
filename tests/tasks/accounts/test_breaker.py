"""An account's circuit breaker: closed, open (down or parked) and probed, half-open, closed again."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
import redis

from tasks.accounts.breaker import CircuitBreaker
from tasks.ledger import moves
from tasks.ledger.keys import PREFIX
from tasks.ledger.ledger import Ledger
from tasks.ledger.script_loader import load_script
from tasks.ledger.seal import Seal
from tasks.model.job import Record
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tests.tasks.ledger.test_ledger import document, start

ROUTE = Route(stages=(Stage.REGISTERED,), first=Step.REGISTER, together=False, on_unknown_outcome=OnUnknownOutcome.HOLD)
UNTIL_DOWN = 5


@pytest.fixture
def breaker(valkey: redis.Redis) -> CircuitBreaker:
    return CircuitBreaker(valkey, probe_first_seconds=1, probe_cap_seconds=100)


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    return Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)


def opened(ledger: Ledger, count: int) -> list[str]:
    jobs = [str(uuid4()) for _ in range(count)]
    for job in jobs:
        ledger.open(job, document(file_name=f"{job}.pdf"), "any", route=ROUTE)
    return jobs


def fed(client: redis.Redis) -> int:
    """How many documents a feeder sends now."""
    take_due = load_script(client, "take_due")
    lanes = [{"lane": "north", "slots": 8, "has_breaker": True, "group": "g"}]
    return len(take_due(args=[PREFIX, 30_000, 32, "queue", json.dumps(lanes), "", "", 0, "boot", 0])[0]) // 4


def interval(client: redis.Redis) -> int:
    return int(client.hget(f"{PREFIX}account:north", "interval") or 0)


def status(breaker: CircuitBreaker) -> str:
    circuit = breaker.state("north")
    return circuit.status if circuit else "ok"


def down(breaker: CircuitBreaker) -> None:
    for _ in range(UNTIL_DOWN):
        breaker.unreachable("north", "No answer.")
    assert status(breaker) == "down"


def delivered(ledger: Ledger, job: str) -> None:
    lease = start(ledger, job, Step.REGISTER)
    assert ledger.apply(lease, moves.delivered(lease.job, Record(job), 1, None))


def test_one_failure_more_takes_an_account_down_that_was_down_before(breaker: CircuitBreaker) -> None:
    down(breaker)
    assert breaker.half_open("north")
    assert status(breaker) == "ok"
    breaker.unreachable("north", "No answer.")
    assert status(breaker) == "down"


def test_it_is_probed_less_and_less_while_probes_succeed_and_documents_do_not(
    breaker: CircuitBreaker, valkey: redis.Redis
) -> None:
    down(breaker)
    seen = []
    for _ in range(4):
        seen.append(interval(valkey))
        valkey.hset(f"{PREFIX}account:north", "probe_at", 0)
        assert breaker.take_probe("north")
        breaker.half_open("north")
        breaker.unreachable("north", "No answer.")
    assert seen == [1000, 2000, 4000, 8000]


def test_half_open_one_document_goes_at_a_time(breaker: CircuitBreaker, ledger: Ledger, valkey: redis.Redis) -> None:
    opened(ledger, 20)
    down(breaker)
    assert fed(valkey) == 0
    breaker.half_open("north")
    assert [fed(valkey), fed(valkey)] == [1, 0]


def test_a_document_that_is_taken_closes_the_circuit(
    breaker: CircuitBreaker, ledger: Ledger, valkey: redis.Redis
) -> None:
    first, *_ = opened(ledger, 20)
    down(breaker)
    breaker.half_open("north")
    delivered(ledger, first)
    assert fed(valkey) == 8
    for _ in range(UNTIL_DOWN - 1):
        breaker.unreachable("north", "No answer.")
    assert status(breaker) == "ok"
    breaker.unreachable("north", "No answer.")
    assert interval(valkey) == 1000


def test_what_was_on_its_way_when_it_went_down_does_not_stop_the_probing(
    breaker: CircuitBreaker, ledger: Ledger, valkey: redis.Redis
) -> None:
    first, *_ = opened(ledger, 2)
    down(breaker)
    delivered(ledger, first)
    valkey.hset(f"{PREFIX}account:north", "probe_at", 0)
    assert breaker.take_probe("north")


def test_an_account_that_was_parked_is_half_open_too_after_a_probe(
    breaker: CircuitBreaker, ledger: Ledger, valkey: redis.Redis
) -> None:
    """A probe shows that its key works, and not that its destination is right."""
    first, *_ = opened(ledger, 20)
    seen = []
    for _ in range(3):
        breaker.park("north", "There is no such destination.")
        seen.append(interval(valkey))
        valkey.hset(f"{PREFIX}account:north", "probe_at", 0)
        assert breaker.take_probe("north")
        breaker.half_open("north")
    assert seen == [1000, 2000, 4000]
    assert [fed(valkey), fed(valkey)] == [1, 0]
    delivered(ledger, first)
    assert fed(valkey) >= 7
