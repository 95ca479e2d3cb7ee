"""The counts of a day: repeated, killed, run by two, after retries and with wrong clocks they never become fewer."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.connection import AbstractConnection

from tasks.ledger import keys
from tasks.ledger.redis import connect
from tasks.reporting.counts import Ending
from tasks.reporting.roll_up import RollUp, read_counts
from tests.harness.clocks import FakedClock, needs_faked_clock
from tests.harness.valkey import FaultyValkey
from tests.tasks.reporting.ended import NOON, day, ended, expire

DAYS = 1100
FAILED = Ending("north_clinic", "failed", "gave_up")
DELIVERED = Ending("north_clinic", "delivered", "")


@pytest.fixture
def roll_up(valkey: redis.Redis) -> RollUp:
    return RollUp(valkey, counts_days=DAYS)


def kept(client: redis.Redis, days_ago: int) -> dict[str, str]:
    found = client.hgetall(keys.counts(day(days_ago).date()))
    return {str(name): str(value) for name, value in found.items()}


def documents(client: redis.Redis, days_ago: int) -> dict[Ending, int]:
    counts = read_counts(client, [day(days_ago).date()])
    return dict(counts[day(days_ago).date()].documents) if counts else {}


def test_each_day_that_is_over_is_counted_and_today_is_not(valkey: redis.Redis, roll_up: RollUp) -> None:
    for at in (day(1), day(1) + NOON, day(0) - timedelta(milliseconds=1), day(3) + NOON, day(0)):
        ended(valkey, at)
    ended(valkey, day(1) + NOON, state="failed", code="gave_up", account="south_clinic", calls=7)
    ended(valkey, day(1) + NOON, code="duplicate", calls=1)
    ended(valkey, day(1) + NOON, state="cancelled", code="cancelled", calls=0)
    assert roll_up.run() == [day(3).date().isoformat(), day(1).date().isoformat()]
    assert kept(valkey, 1) == {
        "documents": "6",
        "listed": "6",
        "north_clinic:ended:delivered": "3",
        "north_clinic:ended:delivered:duplicate": "1",
        "north_clinic:ended:cancelled:cancelled": "1",
        "south_clinic:ended:failed:gave_up": "1",
        "north_clinic:calls:delivered": "12",
        "north_clinic:calls:delivered:duplicate": "1",
        "north_clinic:calls:cancelled:cancelled": "0",
        "south_clinic:calls:failed:gave_up": "7",
        "north_clinic:within:10": "3",
    }
    assert kept(valkey, 0) == {}
    assert kept(valkey, 2) == {}


def test_a_repetition_writes_nothing_and_reads_no_job(valkey: redis.Redis, roll_up: RollUp) -> None:
    ended(valkey, day(1) + NOON)
    roll_up.run()
    before = valkey.info("commandstats").get("cmdstat_hmget", {}).get("calls", 0)
    assert roll_up.run() == []
    assert valkey.info("commandstats").get("cmdstat_hmget", {}).get("calls", 0) == before
    assert kept(valkey, 1)["documents"] == "1"


def test_a_day_stays_when_its_jobs_leave(valkey: redis.Redis, roll_up: RollUp) -> None:
    ids = [ended(valkey, day(1) + NOON, seconds=seconds) for seconds in (1, 20, 400)]
    roll_up.run()
    before = kept(valkey, 1)
    expire(valkey, *ids[:2])
    roll_up.run()
    assert kept(valkey, 1) == before
    expire(valkey, ids[2])
    roll_up.run()
    assert kept(valkey, 1) == before


def test_what_ends_on_a_day_after_it_was_counted_is_counted_too(valkey: redis.Redis, roll_up: RollUp) -> None:
    """As when Redis's clock was ahead: the day was over by it, came again, and much more ended on it."""
    ended(valkey, day(1) + NOON)
    roll_up.run()
    for _ in range(3):
        ended(valkey, day(1) + NOON, state="failed", code="gave_up")
    assert roll_up.run() == [day(1).date().isoformat()]
    assert documents(valkey, 1) == {DELIVERED: 1, FAILED: 3}


def test_a_job_that_is_sent_again_counts_on_each_day_on_which_it_ended(valkey: redis.Redis, roll_up: RollUp) -> None:
    job = ended(valkey, day(2) + NOON, state="failed", code="gave_up")
    roll_up.run()
    ended(valkey, day(1) + NOON, job_id=job)
    roll_up.run()
    roll_up.run()
    assert documents(valkey, 2) == {FAILED: 1}
    assert documents(valkey, 1) == {DELIVERED: 1}


def test_a_job_that_is_sent_again_on_the_same_day_counts_by_its_last_end(valkey: redis.Redis, roll_up: RollUp) -> None:
    job = ended(valkey, day(1) + NOON, state="failed", code="gave_up")
    ended(valkey, day(1) + NOON, job_id=job)
    roll_up.run()
    assert documents(valkey, 1) == {DELIVERED: 1}


def test_two_workers_at_once_count_a_day_once(valkey: redis.Redis, valkey_url: str) -> None:
    for _ in range(300):
        ended(valkey, day(1) + NOON)
    barrier = threading.Barrier(4)

    def count() -> None:
        own = RollUp(connect(valkey_url), counts_days=DAYS)
        barrier.wait()
        own.run()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert documents(valkey, 1) == {DELIVERED: 300}


def test_a_worker_that_knows_less_does_not_overwrite_one_that_was_faster(
    valkey: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(valkey, day(1) + NOON)
    slow, fast = (RollUp(connect(valkey_url), counts_days=DAYS) for _ in range(2))
    write = slow._write

    def write_late(*args: object) -> bool:
        ended(valkey, day(1) + NOON)
        fast.run()
        return write(*args)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(slow, "_write", write_late)
    assert slow.run() == []
    assert documents(valkey, 1) == {DELIVERED: 2}
    assert fast.run() in ([], [day(1).date().isoformat()])
    assert documents(valkey, 1) == {DELIVERED: 2}


class Killed(BaseException):
    """In the place of a kill: no handler of ours sees it, and Redis sees the connection end."""


def test_a_kill_before_any_of_its_commands_leaves_no_half_of_a_day(
    valkey: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days_ago in (1, 2):
        for _ in range(5):
            ended(valkey, day(days_ago) + NOON)
    send: Any = AbstractConnection.send_packed_command  # redis-py leaves out its types
    seen: list[tuple[dict[Ending, int], dict[Ending, int]]] = []
    for kill_at in range(1, 100):
        client, sent = connect(valkey_url), 0

        def counting(connection: Any, *command: Any, last: int = kill_at, **options: Any) -> None:
            nonlocal sent
            sent += 1
            if sent == last:
                raise Killed
            send(connection, *command, **options)

        with monkeypatch.context() as patched:
            patched.setattr(AbstractConnection, "send_packed_command", counting)
            try:
                RollUp(client, counts_days=DAYS).run()
                killed = False
            except Killed:
                killed = True
        client.connection_pool.disconnect()
        seen.append((documents(valkey, 2), documents(valkey, 1)))
        kept_for_ever = [days_ago for days_ago in (1, 2) if valkey.ttl(keys.counts(day(days_ago).date())) == -1]
        assert kept_for_ever == []
        if not killed:
            break
    whole = {DELIVERED: 5}
    assert seen[0] == ({}, {})
    assert (whole, {}) in seen
    assert seen[-1] == (whole, whole)
    assert all(found in ({}, whole) for pair in seen for found in pair)


def test_counts_are_kept_for_as_long_as_the_settings_say(valkey: redis.Redis) -> None:
    ended(valkey, day(1) + NOON)
    RollUp(valkey, counts_days=30).run()
    assert 28 * 86_400 <= int(valkey.ttl(keys.counts(day(1).date()))) <= 30 * 86_400


def test_a_key_of_the_wrong_type_holds_up_no_other_day(valkey: redis.Redis, roll_up: RollUp) -> None:
    ended(valkey, day(2) + NOON)
    ended(valkey, day(1) + NOON)
    valkey.set(keys.counts(day(2).date()), "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        roll_up.run()
    assert documents(valkey, 1) == {DELIVERED: 1}


@needs_faked_clock
def test_days_that_a_clock_ahead_made_up_are_counted_again_when_they_come(tmp_path: Path) -> None:
    clock = FakedClock(tmp_path)
    server = FaultyValkey(tmp_path / "data", clock)
    clock.set(ahead_seconds=3 * 86_400)
    client = redis.Redis.from_url(server.start(), decode_responses=True)
    try:
        roll_up = RollUp(client, counts_days=DAYS)
        ended(client, day(-1) + NOON)  # tomorrow, as that clock has it
        assert roll_up.run() == [day(-1).date().isoformat()]
        clock.set(ahead_seconds=0)
        ended(client, day(-1) + NOON, state="failed", code="gave_up")  # when tomorrow has come
        assert roll_up.run() == []
        clock.set(ahead_seconds=3 * 86_400)
        assert roll_up.run() == [day(-1).date().isoformat()]
        assert documents(client, -1) == {DELIVERED: 1, FAILED: 1}
    finally:
        server.stop()
