"""A worker's thread counts days by itself, waits for a Redis that is away, and leaves one that is not ours alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tasks.ledger import keys
from tasks.ledger.identity import LedgerIdentity
from tasks.ledger.redis import connect
from tasks.ledger.seal import Seal
from tasks.reporting.chore import RollUpChore
from tasks.reporting.roll_up import RollUp
from tests.harness.valkey import FaultyValkey, wait_until_written
from tests.harness.waiting import wait_until
from tests.tasks.reporting.ended import NOON, day, ended
from worker.celery.steps import RollUpStep
from worker.celery.worker_app import app

YESTERDAY = keys.counts(day(1).date())


@contextmanager
def running(client: redis.Redis) -> Iterator[RollUpChore]:
    identity = LedgerIdentity(client, Seal("a secret"))
    chore = RollUpChore(RollUp(client, counts_days=30), identity, first_seconds=0.0, retry_seconds=0.05)
    chore.start()
    try:
        yield chore
    finally:
        chore.stop()


def test_every_worker_runs_it() -> None:
    assert RollUpStep in app.steps["worker"]


def test_it_counts_the_days_that_are_over(valkey: redis.Redis, valkey_url: str) -> None:
    ended(valkey, day(1) + NOON)
    LedgerIdentity(valkey, Seal("a secret")).confirm()
    with running(connect(valkey_url)):
        wait_until(lambda: valkey.exists(YESTERDAY), "yesterday is counted")


def test_it_goes_on_after_an_outage(tmp_path: Path) -> None:
    server = FaultyValkey(tmp_path)
    url = server.start()
    client = redis.Redis.from_url(url, decode_responses=True)
    LedgerIdentity(client, Seal("a secret")).confirm()
    ended(client, day(1) + NOON)
    wait_until_written(client)
    server.kill()
    try:
        with running(connect(url)) as chore:
            wait_until(lambda: chore.failures > 0, "it has met the outage")
            server.start()
            wait_until(lambda: redis.Redis.from_url(url).exists(YESTERDAY), "yesterday is counted")
    finally:
        server.stop()


def test_it_writes_nothing_into_the_ledger_of_another_installation(valkey: redis.Redis, valkey_url: str) -> None:
    ended(valkey, day(1) + NOON)
    LedgerIdentity(valkey, Seal("another secret")).confirm()
    with running(connect(valkey_url)) as chore:
        wait_until(lambda: chore.ended, "it has ended")
    assert not valkey.exists(YESTERDAY)
