"""The feeder's rounds: one round serves a hundred pokes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from config.load import load
from tasks.accounts.breaker import CircuitBreaker
from tasks.dispatch.feeder import Feeder
from tasks.dispatch.housekeeping import Housekeeping
from tasks.dispatch.workers import Workers
from tasks.runtime import Runtime
from tests.harness.waiting import PATIENCE_SECONDS, wait_until
from tests.worker.conftest import write_settings

LOOKING_UP = ("smembers", "get", "pttl")
BEATING = ("set", "sadd")


@pytest.fixture
def feeder(tmp_path: Path, valkey_url: str, valkey: redis.Redis) -> Iterator[Feeder]:
    """It makes a round when it is poked, and by itself only once an hour."""
    runtime = Runtime(load(write_settings(tmp_path, valkey_url), {}))
    feeder = Feeder(
        client=runtime.redis,
        breaker=runtime.breaker,
        accounts=runtime.accounts,
        workers=Workers(runtime.redis, "here", 4, lambda: True),
        lease_seconds=30,
        housekeeping=Housekeeping(runtime.redis, lanes=(), jobs_days=30, longest_wait_seconds=3600),
        tick_seconds=3600,
    )
    feeder.start()
    yield feeder
    feeder.stop()


def rounds(valkey: redis.Redis) -> int:
    return int(valkey.get("chartpost:turn") or 0)


def test_a_feeder_that_is_poked_all_the_time_does_not_turn_all_the_time(feeder: Feeder, valkey: redis.Redis) -> None:
    began, wanted = time.monotonic(), rounds(valkey) + 10
    while rounds(valkey) < wanted:
        feeder.poke()
    assert time.monotonic() - began > 8 * 0.03, "between two rounds it rests"


def test_a_poke_between_two_rounds_is_not_lost(feeder: Feeder, valkey: redis.Redis) -> None:
    for _ in range(20):
        before = rounds(valkey)
        feeder.poke()
        until = time.monotonic() + PATIENCE_SECONDS
        while rounds(valkey) == before:  # without a rest, so that the next poke comes just after the round
            assert time.monotonic() < until, "no round is made"


def test_a_round_is_one_command_and_workers_are_looked_up_twice_a_second(
    feeder: Feeder, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.dispatch.key_guard._LOOK_SECONDS", 3600.0)
    wait_until(lambda: rounds(valkey) > 0, "no round is made")
    commands: Counter[str] = Counter()
    with valkey.monitor() as monitor:  # type: ignore[no-untyped-call]  # redis-py has no types here
        began = time.monotonic()
        feeder.poke()
        for each in monitor.listen():
            if each["client_type"] != "lua":
                command = str(each["command"]).split()[0].lower()
                commands[command] += 1
                if command == "evalsha":
                    feeder.poke()
            if commands["evalsha"] == 40:
                break
    seconds = time.monotonic() - began
    assert commands.keys() <= {"evalsha", *LOOKING_UP, *BEATING}
    assert all(commands[name] <= seconds / 0.5 + 2 for name in LOOKING_UP), commands
    assert all(commands[name] <= seconds / 2 + 1 for name in BEATING), commands


def test_an_account_that_is_not_well_is_probed_when_its_probe_is_due_and_no_sooner(
    feeder: Feeder, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until(lambda: rounds(valkey) > 0, "its own round is made")
    started: list[list[str]] = []
    monkeypatch.setattr(feeder._probes, "start", lambda due: started.append(list(due)))
    feeder.tick()
    CircuitBreaker(valkey, probe_first_seconds=3600, probe_cap_seconds=3600).park("north_clinic", "It is parked.")
    feeder.tick()
    CircuitBreaker(valkey, probe_first_seconds=0, probe_cap_seconds=3600).probe_soon("north_clinic")
    feeder.tick()
    assert [due for due in started if due] == [["north_clinic"]]
