"""The feeder's rounds: one round serves a hundred pokes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from config.load import load
from tasks.dispatch.feeder import Feeder
from tasks.dispatch.workers import Workers
from tasks.runtime import Runtime
from tests.worker.conftest import write_settings


@pytest.fixture
def feeder(tmp_path: Path, valkey_url: str, valkey: redis.Redis) -> Iterator[Feeder]:
    runtime = Runtime(load(write_settings(tmp_path, valkey_url), {}))
    feeder = runtime.feeder(Workers(runtime.redis, "here", 4, lambda: True))
    feeder.start()
    yield feeder
    feeder.stop()


def rounds(valkey: redis.Redis) -> int:
    return int(valkey.get("chartpost:turn") or 0)


def test_a_feeder_that_is_poked_all_the_time_does_not_turn_all_the_time(feeder: Feeder, valkey: redis.Redis) -> None:
    before, until, pokes = rounds(valkey), time.monotonic() + 1.0, 0
    while time.monotonic() < until:
        feeder.poke()
        pokes += 1
        time.sleep(0.0005)
    made = rounds(valkey) - before
    assert 3 < made < 50, f"{made} rounds for {pokes} pokes"


def test_a_poke_between_two_rounds_is_not_lost(feeder: Feeder, valkey: redis.Redis) -> None:
    late = 0
    for _ in range(20):
        feeder.poke()
        before, poked = rounds(valkey), time.monotonic()
        while rounds(valkey) == before and time.monotonic() - poked < 1.0:
            time.sleep(0.001)
        late += time.monotonic() - poked > 0.2  # without a poke there is a round each 0.3 s
    assert late < 5
