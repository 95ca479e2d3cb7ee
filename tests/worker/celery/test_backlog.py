"""Many Celery calls wait: they are opened together, and no kill loses one or opens it twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery

from tasks.ledger import keys
from tasks.runtime import Runtime
from tests.harness.sandbox import ROOT
from tests.worker.stream.stream import Stream
from worker.celery.backlog import BATCH, BacklogHelper
from worker.celery.build import backlog_helper

QUEUE = "chartpost"


class Sender:
    """A foreign caller."""

    def __init__(self, url: str, stream: Stream) -> None:
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self._celery = Celery(broker=url, set_as_current=False)
        self._stream = stream
        stream.write("scan.pdf", b"a scan")

    def call(self, name: str = "chartpost.upload", task_id: str = "", **options: Any) -> str:
        task_id = task_id or str(uuid4())
        fields = options.pop("kwargs", self._stream.document())
        self._celery.send_task(name, kwargs=fields, queue=QUEUE, task_id=task_id, **options)
        return task_id

    def calls(self, count: int) -> list[str]:
        """For patients of their own."""
        return [self.call(kwargs=self._stream.document(patient_id=f"p{number}")) for number in range(count)]

    def waiting(self) -> list[str]:
        """The task ids of the messages that are there, oldest first."""
        found: Any = self.redis.lrange(QUEUE, 0, -1)
        return [json.loads(message)["headers"]["id"] for message in reversed(found)]

    def jobs(self) -> list[str]:
        """The ids of the jobs, in the order in which they were opened."""
        found: Any = self.redis.zrange("chartpost:jobs", 0, -1)
        return list(found)


@pytest.fixture
def sender(runtime: Runtime, stream: Stream) -> Iterator[Sender]:
    sender = Sender(runtime.redis_url, stream)
    yield sender
    sender.redis.close()


@pytest.fixture
def helper(runtime: Runtime) -> BacklogHelper:
    return backlog_helper(runtime)


def test_where_many_calls_wait_the_oldest_are_opened_and_leave_the_queue(helper: BacklogHelper, sender: Sender) -> None:
    sent = sender.calls(BATCH + 10)
    assert helper.open_batch() == BATCH
    assert sorted(sender.jobs()) == sorted(sent[:BATCH])
    assert sender.waiting() == sent[BATCH:]


def test_where_few_calls_wait_they_are_left_to_the_workers(helper: BacklogHelper, sender: Sender) -> None:
    sent = sender.calls(BATCH - 1)
    assert helper.open_batch() == 0
    assert sender.waiting() == sent


def test_while_another_helps_nothing_is_opened(helper: BacklogHelper, sender: Sender) -> None:
    sender.calls(BATCH)
    sender.redis.set(keys.CALLS_LOCK, "1")
    assert helper.open_batch() == 0
    sender.redis.delete(keys.CALLS_LOCK)
    assert helper.open_batch() == BATCH
    assert not sender.redis.exists(keys.CALLS_LOCK)


def test_what_cannot_plainly_be_opened_stays_for_the_workers_and_holds_up_no_other(
    helper: BacklogHelper, sender: Sender, stream: Stream
) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    left = [
        sender.call("chartpost.relabel"),
        sender.call(eta=tomorrow),
        sender.call(expires=tomorrow),
        sender.call(task_id="order-17"),
        sender.call(args=["by position"]),
        sender.call(kwargs=stream.document("missing.pdf")),
        sender.call(kwargs=stream.document(account="nobody")),
        sender.call(kwargs=stream.document(surprise=1)),
        sender.call(serializer="yaml"),
    ]
    good = sender.calls(BATCH - len(left))
    assert helper.open_batch() == len(good)
    assert sorted(sender.jobs()) == sorted(good)
    assert sender.waiting() == left


@pytest.mark.parametrize("message", [b"", b"no JSON", b"\xff\xfe", b"[]", b'{"headers": 1}', b'{"body": "x"}'])
def test_a_message_of_any_bytes_stays_and_holds_up_no_other(
    helper: BacklogHelper, sender: Sender, message: bytes
) -> None:
    sender.redis.rpush(QUEUE, message)
    sent = sender.calls(BATCH)
    assert helper.open_batch() == BATCH - 1
    assert sorted(sender.jobs()) == sorted(sent[:-1])
    assert sender.redis.llen(QUEUE) == 2


def test_an_unexpected_error_in_a_call_holds_up_no_other(
    helper: BacklogHelper, sender: Sender, runtime: Runtime
) -> None:
    sent = sender.calls(BATCH)
    broken = sent[5]
    sender.redis.set(f"chartpost:alias:{broken}", "x")
    sender.redis.hset("chartpost:job:x", "stage", "an unknown stage")
    assert helper.open_batch() == BATCH - 1
    assert sender.waiting() == [broken]


def test_a_call_that_a_worker_opens_at_the_same_time_is_one_job(helper: BacklogHelper, sender: Sender) -> None:
    sent = sender.calls(BATCH)
    again = [sender.call(task_id=task_id) for task_id in sent]
    assert (helper.open_batch(), helper.open_batch()) == (BATCH, BATCH)
    assert sorted(sender.jobs()) == sorted(set(again))


_DYING = """
import os, signal, sys
from pathlib import Path
from config.load import load
from tasks.runtime import Runtime, using
from tests.worker.half_opened import die_half_way
from worker.celery.build import backlog_helper
runtime = Runtime(load(Path(sys.argv[1]), {}))
helper, method, after = backlog_helper(runtime), sys.argv[2], int(sys.argv[3])
if method == "half of them":
    die_half_way()
    method = "_admitted"
inner, count = getattr(helper, method), 0
def dying(*args):
    global count
    count += 1
    if count > after:
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(*args)
setattr(helper, method, dying)
with using(runtime):
    helper.open_batch()
"""


@pytest.mark.parametrize(
    ("method", "after"),
    [("_oldest", 0), ("_admitted", 30), ("half of them", BATCH), ("_open_alone", 0), ("_remove", 0)],
)
def test_a_kill_while_helping_loses_no_call_and_opens_none_twice(
    helper: BacklogHelper, sender: Sender, stream: Stream, config: Path, method: str, after: int
) -> None:
    sent = [*sender.calls(BATCH - 1), sender.call(kwargs=stream.document(patient_id="p1"))]  # the last one alone
    command = [sys.executable, "-c", _DYING, str(config), method, str(after)]
    dying = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, check=False)
    assert dying.returncode == -9, dying.stderr[-500:]
    assert sender.waiting() == sent, "all are still there"
    sender.redis.delete(keys.CALLS_LOCK)  # Redis removes it after a few seconds
    assert sender.redis.pttl(keys.CALLS_LOCK) > 0 or not sender.redis.exists(keys.CALLS_LOCK)
    assert helper.open_batch() == BATCH
    assert sorted(sender.jobs()) == sorted(sent)
    assert sender.waiting() == []


def test_messages_too_large_for_a_call_are_left_to_the_workers_and_not_read(
    helper: BacklogHelper, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = b"x" * (1024 * 1024 + 1)
    sender.redis.lpush(QUEUE, large)
    sent = sender.calls(BATCH)
    assert helper.open_batch() == BATCH - 1
    assert sorted(sender.jobs()) == sorted(sent[:-1])
    sender.redis.rpush(QUEUE, *[large] * BATCH)
    assert helper._oldest(QUEUE) == []
    monkeypatch.setattr("worker.celery.backlog._MOST_BYTES", 1000)
    sender.redis.delete(QUEUE)
    sender.calls(BATCH)
    assert 1 <= len(helper._oldest(QUEUE)) < 4
