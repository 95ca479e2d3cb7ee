"""The ledger's clock goes on whatever Redis's does: leases, due times, gates and locks last as long as they should."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
import redis

from tasks.accounts.breaker import CircuitBreaker
from tasks.accounts.rate_limit import RateLimit
from tasks.dispatch.housekeeping import Housekeeping
from tasks.dispatch.workers import Workers
from tasks.ledger import moves
from tasks.ledger.cache import SealedCache
from tasks.ledger.clock import LedgerClock, boot, since_boot_ms
from tasks.ledger.keys import PREFIX
from tasks.ledger.lease import NotStarted
from tasks.ledger.ledger import Ledger
from tasks.ledger.script_loader import load_script
from tasks.ledger.seal import Seal
from tasks.model.errors import RetryLater
from tasks.model.route import Step
from tasks.model.times import from_ms
from tasks.providers.auth.tokens import Token, Tokens
from tests.harness.clocks import HOUR, FakedClock, needs_faked_clock
from tests.harness.valkey import valkey_with_clock
from tests.harness.waiting import wait_until
from tests.tasks.ledger.test_ledger import document, start

pytestmark = needs_faked_clock

JUMPS = [HOUR, -HOUR, 400 * 24 * HOUR]
LEASE_MS = 30_000
SLACK = 3.0  # of what the test itself takes


@pytest.fixture(scope="module")
def faked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakedClock, str]]:
    folder = tmp_path_factory.mktemp("clock")
    clock = FakedClock(folder)
    with valkey_with_clock(folder / "valkey", clock) as url:
        yield clock, url


@pytest.fixture
def server(faked: tuple[FakedClock, str]) -> Iterator[redis.Redis]:
    faked[0].set(0)
    client = redis.Redis.from_url(faked[1], decode_responses=True)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def clock(faked: tuple[FakedClock, str], server: redis.Redis) -> FakedClock:
    return faked[0]


@pytest.fixture
def ledger(server: redis.Redis) -> Ledger:
    return Ledger(server, Seal("a secret"), lease_seconds=LEASE_MS / 1000, jobs_days=30)


def opened(ledger: Ledger) -> str:
    job = str(uuid4())
    ledger.open(job, document(file_name=f"{job}.pdf"), "any")
    return job


def feed(client: redis.Redis, since_boot: int | None = None, name: str = "") -> list[str]:
    """One round of a feeder; the ids that it sends."""
    lanes = [{"lane": "north", "slots": 8, "has_breaker": True, "group": "g"}]
    boot_time = name or boot(), since_boot_ms() if since_boot is None else since_boot
    taken = load_script(client, "take_due")(
        args=[PREFIX, LEASE_MS, 32, "queue", json.dumps(lanes), "", "", 0, *boot_time]
    )
    return [str(job) for job in taken[0][::4]]


@pytest.mark.parametrize("jump", JUMPS)
def test_the_ledgers_clock_goes_on_and_redis_time_is_for_people(
    server: redis.Redis, clock: FakedClock, jump: float
) -> None:
    feed(server)
    before, began = LedgerClock(server).read(), time.monotonic()
    clock.set(jump)
    feed(server)
    after = LedgerClock(server).read()
    passed = (after.now_ms - before.now_ms) / 1000
    assert 0 <= passed <= time.monotonic() - began + 0.2
    assert abs(after.wall_ms / 1000 - time.time() - jump) < SLACK
    assert abs(after.ahead_ms / 1000 + jump) < SLACK
    clock.set(0)
    feed(server)
    assert abs(LedgerClock(server).read().ahead_ms) < SLACK * 1000, "it has come back with Redis's"


def test_a_time_that_nobody_saw_passing_counts_once_a_feeder_of_the_same_boot_tells(
    server: redis.Redis, clock: FakedClock
) -> None:
    """A worker that was restarted, a Redis that was away, or a machine that slept: a feeder knows how long."""
    feed(server, since_boot=1000, name="machine")
    before = LedgerClock(server).read()
    clock.set(600)
    assert LedgerClock(server).read().now_ms - before.now_ms < SLACK * 1000, "it may as well have been set"
    feed(server, since_boot=1000 + 600_000, name="machine")
    assert -10 <= LedgerClock(server).read().now_ms - before.now_ms - 600_000 < SLACK * 1000


def test_a_time_in_which_every_machine_was_off_does_not_count(server: redis.Redis, clock: FakedClock) -> None:
    feed(server, since_boot=1000, name="machine")
    before = LedgerClock(server).read()
    clock.set(8 * HOUR)
    feed(server, since_boot=10, name="machine, started again")
    assert LedgerClock(server).read().now_ms - before.now_ms < SLACK * 1000


def test_a_feeders_slow_message_does_not_put_the_clock_forward(server: redis.Redis) -> None:
    feed(server, since_boot=1000, name="machine")
    now = LedgerClock(server).read()
    began = time.monotonic()
    for late_by in (900, 0, 900, 0):  # ms that a message was on its way
        feed(server, since_boot=int(1000 + (time.monotonic() - began) * 1000) - late_by, name="machine")
    passed = LedgerClock(server).read().now_ms - now.now_ms
    assert passed <= (time.monotonic() - began) * 1000 + 100


@pytest.mark.parametrize("jump", JUMPS)
def test_a_lease_holds_and_ends_as_if_no_clock_had_been_set(
    server: redis.Redis, clock: FakedClock, jump: float
) -> None:
    ledger = Ledger(server, Seal("a secret"), lease_seconds=1.0, jobs_days=30)
    job = opened(ledger)
    lease = start(ledger, job, Step.PRESIGN)
    clock.set(jump)
    assert ledger.start(job, Step.PRESIGN) == NotStarted("leased")
    assert ledger.renew([(job, lease.token)]) == [True]
    assert ledger.start(job, Step.PRESIGN) == NotStarted("leased")
    wait_until(lambda: not isinstance(ledger.start(job, Step.PRESIGN), NotStarted), "it runs out", 10)


@pytest.mark.parametrize("jump", JUMPS)
def test_a_due_time_comes_when_it_would_have(
    server: redis.Redis, ledger: Ledger, clock: FakedClock, jump: float
) -> None:
    soon, later = opened(ledger), opened(ledger)
    lease = start(ledger, soon, Step.PRESIGN)
    ledger.apply(lease, moves.deferred(lease, 1.0, 1))
    lease = start(ledger, later, Step.PRESIGN)
    ledger.apply(lease, moves.deferred(lease, 600.0, 1))
    clock.set(jump)
    assert feed(server) == []
    wait_until(lambda: feed(server) == [soon], "the first is due", 10)
    assert feed(server) == []
    shown = ledger.get(later)
    assert shown is not None
    assert shown.next_at is not None
    assert abs(shown.next_at.timestamp() - time.time() - jump - 600) < 10, "people read it by Redis's clock"


@pytest.mark.parametrize("jump", JUMPS)
def test_a_probe_comes_when_it_would_have(server: redis.Redis, clock: FakedClock, jump: float) -> None:
    breaker = CircuitBreaker(server, probe_first_seconds=1.0, probe_cap_seconds=100)
    breaker.park("north", "The key was refused.")
    clock.set(jump)
    assert not breaker.take_probe("north")
    wait_until(lambda: breaker.take_probe("north"), "it is probed", 10)
    parked = breaker.unusable_seconds("north", from_ms(LedgerClock(server).read().now_ms))
    assert parked < 10, "what it was parked does not count for budgets, and must not be an hour"


def test_the_boots_of_machines_do_not_pile_up(server: redis.Redis) -> None:
    for number in range(150):
        feed(server, name=f"boot {number}")
    Housekeeping(server, lanes=[], jobs_days=30, longest_wait_seconds=HOUR).run()
    feed(server)
    assert [name for name in server.hkeys(f"{PREFIX}clock") if str(name).startswith("boot:")] == [f"boot:{boot()}"]


# --- rates and gates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [HOUR, -HOUR])
def test_calls_that_were_made_while_the_clock_was_wrong_hold_nobody_up_for_more_than_a_minute(
    server: redis.Redis, clock: FakedClock, there: float
) -> None:
    limit = RateLimit(server)
    clock.set(there)
    for _ in range(40):
        limit.take_call("g", 40)
    with pytest.raises(RetryLater) as refused:
        limit.take_call("g", 40)
    assert 50 < (refused.value.after_seconds or 0) <= 60
    clock.set(0)
    limit.take_call("g", 40)
    until = limit.throttled_until("g")
    assert until is not None
    assert 50 < until.timestamp() - time.time() <= 60 + SLACK


def test_a_window_counts_the_last_minute_for_each_account_of_a_group(server: redis.Redis) -> None:
    limit = RateLimit(server)
    for _ in range(5):
        limit.take_call("g", 5)
    limit.take_call("g", 6)
    for per_minute in (5, 6):
        with pytest.raises(RetryLater):
            limit.take_call("g", per_minute)
    calls = PREFIX + "calls-of:g"
    ages = [0, 1, 2, 61_000, 61_001, 61_002]
    now = LedgerClock(server).read().wall_ms
    server.delete(calls)
    server.rpush(calls, *(now - age for age in ages))
    limit.take_call("g", 4)
    with pytest.raises(RetryLater):
        limit.take_call("g", 4)
    assert server.llen(calls) == 4


@pytest.mark.parametrize("jump", JUMPS)
def test_a_gate_opens_when_it_would_have(server: redis.Redis, ledger: Ledger, clock: FakedClock, jump: float) -> None:
    limit, job = RateLimit(server), opened(ledger)
    limit.throttle("g", 1.5)
    clock.set(jump)
    assert feed(server) == []
    assert limit.throttled_until("g") is not None
    wait_until(lambda: feed(server) == [job], "it is open", 10)
    assert limit.throttled_until("g") is None


def test_a_short_pause_does_not_open_a_gate_that_is_shut_for_long(server: redis.Redis) -> None:
    limit = RateLimit(server)
    limit.throttle("g", 3600)
    limit.throttle("g", 1)
    until = limit.throttled_until("g")
    assert until is not None
    assert until.timestamp() - time.time() > 3500


# --- keys that expire ------------------------------------------------------------------------------------------------


def test_a_lock_that_was_taken_before_the_clock_was_set_back_ends_in_time(
    server: redis.Redis, clock: FakedClock
) -> None:
    cache = SealedCache(server, Seal("a secret"))
    clock.set(HOUR)
    dead = cache.lock("topic", "key", 0.5)
    dead.__enter__()
    clock.set(0)
    began = time.monotonic()
    with cache.lock("topic", "key", 60):
        assert time.monotonic() - began < 30
    dead.__exit__(None, None, None)


def test_what_was_cached_before_the_clock_was_set_back_is_not_kept_for_longer(
    server: redis.Redis, clock: FakedClock
) -> None:
    cache = SealedCache(server, Seal("a secret"))
    clock.set(HOUR)
    cache.put("topic", "key", "value", 60)
    assert cache.get("topic", "key") == "value"
    clock.set(0)
    assert cache.get("topic", "key") is None


def test_a_token_is_used_as_long_as_it_is_good_by_no_workers_clock(server: redis.Redis, clock: FakedClock) -> None:
    given: list[Token | None] = []

    def obtain(last: Token | None) -> Token:
        given.append(last)
        return Token(access=f"token-{len(given)}", seconds=300)

    tokens = Tokens(SealedCache(server, Seal("a secret")), "account", obtain, keep=3600)
    assert [tokens.current(), tokens.current()] == ["token-1", "token-1"]
    clock.set(-HOUR)
    assert tokens.current() == "token-2", "nothing tells any more how old the first one is"
    assert tokens.current() == "token-2"


def test_a_worker_that_is_gone_is_not_taken_for_alive_because_the_clock_was_set_back(
    server: redis.Redis, clock: FakedClock
) -> None:
    clock.set(HOUR)
    gone = Workers(server, "gone", 4, lambda: True)
    gone.beat()
    assert gone.alive() == {"gone": 4}
    clock.set(0)
    assert gone.alive() == {}
    Workers(server, "here", 2, lambda: True).beat()
    assert gone.alive() == {"here": 2}


# --- what an earlier version leaves ----------------------------------------------------------------------------------


def test_a_due_entry_that_lies_further_ahead_than_any_wait_is_made_due(server: redis.Redis, ledger: Ledger) -> None:
    lost, waits = opened(ledger), opened(ledger)
    assert len(feed(server)) == 2
    server.zincrby(f"{PREFIX}due:north", HOUR * 24 * 1000, lost)
    server.zincrby(f"{PREFIX}due:north", HOUR * 1000, waits)
    Housekeeping(server, lanes=["north"], jobs_days=30, longest_wait_seconds=2 * HOUR).run()
    server.hdel(f"{PREFIX}job:{lost}", "sent_at")
    assert feed(server) == [lost]
