"""A feeder with nothing to do rests, and is told at once of what another process opens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from config.celery import STAGE_QUEUE
from config.load import load
from tasks.dispatch.feeder import Feeder
from tasks.dispatch.wakeup import Wakeup
from tasks.dispatch.workers import Workers
from tasks.ledger.redis import connect
from tasks.model.document import Document, Door
from tasks.runtime import Runtime
from tests.harness.waiting import PATIENCE_SECONDS, wait_until
from tests.worker.conftest import write_settings

KEYS = ("chartpost:due:north_clinic", "chartpost:due:south_clinic")
HOUR = 3600.0


@pytest.fixture
def wakeup(valkey_url: str, valkey: redis.Redis) -> Iterator[Wakeup]:
    wakeup = Wakeup(connect(valkey_url))
    yield wakeup
    wakeup.close()


def waits(wakeup: Wakeup, seconds: float = HOUR) -> list[bool]:
    """Wait in a thread; the list has what the wait returned once it has ended."""
    ended: list[bool] = []
    threading.Thread(target=lambda: ended.append(wakeup.wait(seconds)), daemon=True).start()
    return ended


def test_a_wait_ends_as_soon_as_one_of_the_keys_is_there(wakeup: Wakeup, valkey: redis.Redis) -> None:
    assert wakeup.watch(KEYS)
    ended = waits(wakeup)
    valkey.set("chartpost:turn", 1)  # which nobody watches
    time.sleep(0.05)
    assert not ended
    valkey.zadd(KEYS[1], {"a job": 1})
    assert wait_until(lambda: ended, "it is told") == [True]
    assert not wakeup.watch(KEYS), "something waits now"
    valkey.delete(KEYS[1])
    assert wakeup.watch(KEYS)


def test_what_changes_between_the_look_and_the_wait_is_not_missed(wakeup: Wakeup, valkey: redis.Redis) -> None:
    assert wakeup.watch(KEYS)
    valkey.zadd(KEYS[0], {"a job": 1})
    assert wakeup.wait(HOUR)
    assert not wakeup.wait(0.01), "one change ends one wait"


def test_a_poke_ends_a_wait_also_one_that_comes_later(wakeup: Wakeup) -> None:
    assert wakeup.watch(KEYS)
    ended = waits(wakeup)
    wakeup.poke()
    assert wait_until(lambda: ended, "it is poked") == [True]
    wakeup.clear()
    wakeup.poke()
    assert wakeup.wait(HOUR)
    wakeup.clear()
    assert not wakeup.wait(0.01), "a poke counts once"


def test_redis_is_asked_once_as_long_as_nothing_changes(wakeup: Wakeup, valkey: redis.Redis) -> None:
    assert wakeup.watch(KEYS)
    asked = asked_so_far(valkey)
    assert all(wakeup.watch(KEYS) for _ in range(10))
    assert asked_so_far(valkey) == asked
    assert wakeup.watch((*KEYS, "chartpost:due:another"))
    assert asked_so_far(valkey) == asked + 1, "other keys are not known yet"


def asked_so_far(valkey: redis.Redis) -> int:
    return int(valkey.info("commandstats").get("cmdstat_exists", {}).get("calls", 0))


def test_a_lost_connection_ends_the_wait_and_is_made_again(wakeup: Wakeup, valkey: redis.Redis) -> None:
    assert wakeup.watch(KEYS)
    ended = waits(wakeup)
    valkey.client_kill_filter(_type="normal", skipme=True)
    wait_until(lambda: ended, "it is lost")
    wait_until(lambda: wakeup.watch(KEYS), "another one is made")
    valkey.zadd(KEYS[0], {"a job": 1})
    assert wakeup.wait(HOUR)


def test_without_the_right_to_be_told_it_says_so_and_asks_no_more(valkey_url: str, valkey: redis.Redis) -> None:
    valkey.acl_setuser("narrow", enabled=True, passwords=["+p"], keys=["*"], commands=["+@all", "-client|tracking"])
    wakeup = Wakeup(connect(valkey_url.replace("://", "://narrow:p@", 1)))
    try:
        assert not wakeup.watch(KEYS)
        refused = len(valkey.acl_log())
        assert not wakeup.watch(KEYS)
        assert len(valkey.acl_log()) == refused
        wakeup.poke()
        assert wakeup.wait(HOUR)
    finally:
        valkey.acl_deluser("narrow")
        valkey.acl_log_reset()


# --- the feeder ------------------------------------------------------------------------------------------------------


@pytest.fixture
def runtime(tmp_path: Path, valkey_url: str, valkey: redis.Redis) -> Runtime:
    return Runtime(load(write_settings(tmp_path, valkey_url), {}))


@pytest.fixture
def resting(runtime: Runtime, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Feeder]:
    """A feeder that rests for an hour once it has nothing to do."""
    monkeypatch.setattr("tasks.dispatch.feeder._REST_SECONDS", HOUR)
    feeder = runtime.feeder(Workers(runtime.redis, "here", 4, lambda: True, machine=runtime.machine.name), refuse)
    feeder.start()
    wait_until(lambda: feeder._wakeup._listening, "it rests")
    yield feeder
    feeder.stop()


def refuse(refused: Exception) -> None:
    raise AssertionError(refused)


def open_job(runtime: Runtime, home: str | None = None) -> None:
    document = Document("north_clinic", "4711", "file:///a.pdf", "a.pdf", 3, door=Door.CELERY)
    provider = runtime.accounts["north_clinic"].provider
    runtime.ledger.open(str(uuid4()), document, provider.kind, route=provider.route(document))


def test_a_resting_feeder_sends_at_once_what_another_process_opens(
    resting: Feeder, runtime: Runtime, valkey: redis.Redis
) -> None:
    open_job(runtime)
    wait_until(lambda: valkey.llen(STAGE_QUEUE), "it is sent")


def test_a_feeder_does_not_rest_while_a_job_is_in_flight(
    resting: Feeder, runtime: Runtime, valkey: redis.Redis
) -> None:
    """Its lease may run out: then it must be sent again."""
    open_job(runtime)
    wait_until(lambda: valkey.llen(STAGE_QUEUE), "it is sent")
    before = int(valkey.get("chartpost:turn") or 0)
    wait_until(lambda: int(valkey.get("chartpost:turn") or 0) > before + 3, "its rounds go on")


def test_stopping_does_not_wait_for_the_end_of_a_rest(resting: Feeder) -> None:
    began = time.monotonic()
    resting.stop()
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert not (resting._thread and resting._thread.is_alive())
