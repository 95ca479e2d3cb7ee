"""The feeder's rounds: one round serves a hundred pokes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from config.load import load
from tasks.dispatch.feeder import Feeder
from tasks.dispatch.housekeeping import Housekeeping
from tasks.dispatch.workers import Workers
from tasks.runtime import Runtime
from tests.harness.waiting import PATIENCE_SECONDS
from tests.worker.conftest import write_settings


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
        send=lambda job_id, steps, machine: None,
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
