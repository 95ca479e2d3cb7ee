"""A worker that is stuck ends itself and another takes its place; one that is idle or full runs on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery.result import AsyncResult

from config.vital_threads import EXIT_CODE
from tasks.dispatch.workers import Workers
from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until
from tests.worker.celery.slow_storage import SlowStorage
from worker.celery.watchdog import CHECKS, LivenessCheck

QUEUES = ("chartpost", "chartpost.stages")
PATIENCE_SECONDS = 10.0  # of a watchdog with leases of two seconds


class Worker:
    """What a liveness check sees of a worker."""

    def __init__(self) -> None:
        self.waiting, self.busy, self.taken, self.turning, self.redis = 0, False, 0, True, True
        self.liveness = LivenessCheck(
            waiting=self._asked, busy=lambda: self.busy, taken=lambda: self.taken, turning=lambda: self.turning
        )

    def _asked(self) -> int:
        if not self.redis:
            raise redis.ConnectionError
        return self.waiting

    def checks(self, count: int) -> list[str | None]:
        return [self.liveness.check() for _ in range(count)]


def test_a_worker_that_takes_no_message_although_it_has_room_is_ended_only_after_several_checks() -> None:
    worker = Worker()
    worker.waiting = 1
    found = worker.checks(CHECKS + 1)
    assert found[:CHECKS] == [None] * CHECKS
    assert found[CHECKS] == "Messages wait and slots are free, but it takes none."


def test_a_worker_that_is_idle_or_full_or_starts_tasks_runs_on() -> None:
    worker = Worker()
    assert not any(worker.checks(3 * CHECKS))
    worker.waiting, worker.busy = 5, True
    assert not any(worker.checks(3 * CHECKS))
    worker.busy = False
    for _ in range(3 * CHECKS):
        worker.taken += 1
        assert worker.liveness.check() is None


def test_a_worker_whose_loop_stands_still_is_ended_with_or_without_messages() -> None:
    worker = Worker()
    worker.turning = False
    assert worker.checks(CHECKS)[-1] == "Its event loop stands still although Redis is there."


def test_time_without_redis_counts_for_nothing() -> None:
    worker = Worker()
    worker.waiting, worker.turning, worker.redis = 1, False, False
    assert not any(worker.checks(3 * CHECKS))
    worker.redis = True
    assert not any(worker.checks(CHECKS - 1))
    worker.redis = False
    assert worker.liveness.check() is None
    worker.redis = True
    assert not any(worker.checks(CHECKS - 1))


def test_a_worker_whose_consumer_is_dead_is_counted_no_longer_than_its_last_beat(valkey: redis.Redis) -> None:
    consuming, now = True, 0.0
    workers = Workers(valkey, "one", 4, lambda: consuming, clock=lambda: now)
    workers.beat()
    assert workers.alive() == {"one": 4}
    leaves_at = valkey.pexpiretime("chartpost:worker:one")
    time.sleep(0.01)  # Redis tells milliseconds
    consuming, now = False, 10.0
    workers.beat()
    assert valkey.pexpiretime("chartpost:worker:one") == leaves_at
    consuming = True
    workers.beat()
    assert valkey.pexpiretime("chartpost:worker:one") > leaves_at


# --- real ones -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> Iterator[SandboxProcess]:
    with SandboxProcess() as sandbox:
        yield sandbox


def test_real_workers_are_ended_when_stuck_and_run_on_otherwise(tmp_path: Path, world: SandboxProcess) -> None:
    storage = SlowStorage()
    with ExitStack() as stack:
        stack.callback(storage.server_close)
        stack.callback(storage.shutdown)
        stack.callback(storage.let_go.set)
        left, full, resting = (
            stack.enter_context(installed(tmp_path / name, world)) for name in ("left", "full", "resting")
        )
        run = left.start("worker", "run", CHARTPOST_INBOX__ENABLED="false")
        aws = {**world.aws_environment, "CHARTPOST_S3__ENDPOINT_URL": storage.url}
        busy = full.start("celery", "-A", "worker", "worker", "--concurrency", "1", **aws)
        idle = resting.start("celery", "-A", "worker", "worker")
        still = resting.start("celery", "-A", "tests.worker.celery.standstill", "worker")
        wait_until(lambda: all(each.process.workers.alive() for each in (left, full, resting)), "workers consume")
        before = time.monotonic()
        for _ in range(3):
            full.upload("s3://sources/slow.pdf")
        first = next(iter(left.process.workers.alive()))
        result, patient = cut_off(left), f"w{uuid4()}"

        assert result.get(timeout=120)["size_bytes"] == 4
        assert "worker_ends_itself" in run.log
        assert f'"exit": {EXIT_CODE}' in run.log
        assert first not in left.process.workers.alive()
        assert still.process.wait(120) == EXIT_CODE
        assert "stands still" in still.log

        wait_until(lambda: time.monotonic() - before > 1.5 * PATIENCE_SECONDS, "the others were watched for as long")
        assert full.redis.llen("chartpost") >= 1
        storage.let_go.set()
        assert full.upload(full.write("after.pdf", b"after"), patient).get(timeout=120)["size_bytes"] == 5
        assert busy.process.poll() is None
        assert idle.process.poll() is None
        assert "worker_ends_itself" not in busy.log + idle.log


def cut_off(left: Installation) -> AsyncResult[Any]:
    """A call that its worker does not take: it was told to consume from no queue."""
    for queue in QUEUES:
        left.celery.control.cancel_consumer(queue, reply=True, timeout=5)
    return left.upload(left.write("left.pdf", b"left"), f"w{uuid4()}")
