"""Readers that are killed, stopped, many, or without a Redis lose no message and open no job twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
import redis

from config.load import load
from tasks.ledger import keys
from tasks.ledger.identity import LedgerRefused
from tasks.model.errors import RetryLater
from tasks.runtime import Runtime
from tasks.sources.base import Located, StorageAway
from tasks.sources.sources import Sources
from tests.harness.sandbox import ROOT
from tests.harness.valkey import FaultyValkey
from tests.harness.waiting import PATIENCE_SECONDS, wait_until
from tests.worker.conftest import LEASE_SECONDS, write_settings
from tests.worker.stream.stream import Stream
from tests.worker.stream.test_messages import add_bad, run
from worker.stream.build import stream_reader
from worker.stream.group import GROUP
from worker.stream.reader import StreamReader


def killed_at(config: Path, method: str) -> None:
    """Run a reader until SIGKILL takes it where it would call this method."""
    command = [sys.executable, "-m", "tests.worker.stream.killed", str(config), method]
    ended = subprocess.run(command, cwd=ROOT, timeout=PATIENCE_SECONDS, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


@contextmanager
def reading(config: Path, log: IO[bytes] | int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """`chartpost intake` as a child."""
    with subprocess.Popen(
        [sys.executable, "-m", "worker", "intake"],
        cwd=ROOT,
        env={**os.environ, "CHARTPOST_CONFIG": str(config)},
        stderr=log,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def test_a_reader_killed_before_it_acknowledges_leaves_one_job(
    config: Path, stream: Stream, reader: StreamReader
) -> None:
    entry = stream.add(stream.document())
    killed_at(config, "ConsumerGroup.remove")
    assert stream.job(entry)
    assert stream.left() == [entry]
    time.sleep(LEASE_SECONDS)
    run(reader)
    assert len(stream.jobs()) == 1
    assert (stream.left(), stream.pending(), stream.rejected()) == ([], 0, [])


def test_a_reader_killed_before_it_rejects_leaves_one_rejection(
    config: Path, stream: Stream, reader: StreamReader
) -> None:
    entry, code = add_bad(stream, "an empty file")
    killed_at(config, "RejectedStream.add")
    assert stream.job(entry)
    assert stream.rejected() == []
    time.sleep(LEASE_SECONDS)
    run(reader)
    assert [(one["id"], one["code"]) for one in stream.rejected()] == [(entry, code)]
    assert (stream.left(), len(stream.jobs())) == ([], 1)


def test_sigterm_stops_a_reader_at_once_and_it_leaves_the_group(config: Path, stream: Stream, runtime: Runtime) -> None:
    entry, began = stream.add(stream.document()), time.monotonic()
    with reading(config) as child:
        wait_until(lambda: stream.job(entry) and not stream.left(), "the message is read")
        starting = time.monotonic() - began
        child.terminate()
        assert child.wait(PATIENCE_SECONDS) == 0
    assert time.monotonic() - began < 3 * starting, "ending takes no longer than beginning, or nearly so"
    assert stream.readers() == []


def test_a_reader_that_is_gone_stays_listed_while_it_holds_a_message(
    stream: Stream, storage: Unreachable, reader: StreamReader, runtime: Runtime
) -> None:
    stream.add(stream.document(source="s3://scans/scan.pdf"))
    run(reader)
    runtime.stopping.set()
    reader.run()
    assert len(stream.readers()) == 1


def test_many_readers_open_each_job_once(stream: Stream, runtime: Runtime) -> None:
    entries = [stream.add(stream.document(stream.write(f"{number}.pdf", b"x"))) for number in range(150)]
    readers = [threading.Thread(target=run, args=(stream_reader(runtime, block_ms=10),)) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(stream.jobs()) == len(entries)
    assert all(stream.job(entry) for entry in entries)
    assert (stream.left(), stream.pending()) == ([], 0)


class Unreachable:
    """Storage that does not answer, until it does."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = False

    def locate(self, address: str) -> Located:
        self.asked += 1
        if not self.answers:
            raise (RetryLater if address.endswith("odd.pdf") else StorageAway)("It cannot be read now.")
        return Located(3, "3:etag", "scan.pdf")


@pytest.fixture
def storage(runtime: Runtime) -> Unreachable:
    found = Unreachable()
    everybody = runtime.producers.everybody
    sources = Sources(everybody.sources.files, found)  # type: ignore[arg-type]
    runtime.producers.everybody = replace(everybody, sources=sources)
    return found


def test_an_object_that_cannot_be_read_holds_up_no_other_of_its_bucket(
    stream: Stream, storage: Unreachable, reader: StreamReader
) -> None:
    entry = stream.add(stream.document(source="s3://scans/odd.pdf"))
    for number in range(3):
        stream.add(stream.document(source=f"s3://scans/{number}-odd.pdf"))
    run(reader)
    assert storage.asked == 4
    assert entry in stream.left()


def test_a_message_whose_storage_does_not_answer_waits_and_is_taken_later(
    stream: Stream, storage: Unreachable, reader: StreamReader
) -> None:
    entry = stream.add(stream.document(source="s3://scans/scan.pdf"))
    run(reader)
    assert (stream.left(), stream.pending(), stream.job(entry)) == ([entry], 1, None)
    storage.answers = True
    time.sleep(LEASE_SECONDS)
    run(reader)
    assert stream.job(entry)
    assert (stream.left(), stream.rejected()) == ([], [])


def test_storage_that_does_not_answer_holds_up_no_other_message(
    stream: Stream, storage: Unreachable, reader: StreamReader
) -> None:
    for number in range(20):
        stream.add(stream.document(source=f"s3://scans/{number}.pdf"))
    entry, began = stream.add(stream.document()), time.monotonic()
    run(reader)
    assert stream.job(entry)
    assert storage.asked <= 1 + (time.monotonic() - began) / LEASE_SECONDS


def test_a_wiped_redis_gets_its_group_again(stream: Stream, reader: StreamReader) -> None:
    stream.add(stream.document())
    run(reader)
    stream.redis.flushall()
    entry = stream.add(stream.document())
    run(reader)
    assert stream.job(entry)
    assert stream.left() == []


def test_what_a_dead_reader_was_given_before_redis_clock_was_set_back_is_taken_over_in_a_lease(
    stream: Stream, reader: StreamReader
) -> None:
    stream.redis.xgroup_create(keys.INTAKE, GROUP, id="0", mkstream=True)
    entry = stream.add(stream.document())
    stream.redis.xreadgroup(GROUP, "dead", {keys.INTAKE: ">"})
    in_an_hour = int((time.time() + 3600) * 1000)  # what is left when an hour was too much
    stream.redis.xclaim(keys.INTAKE, GROUP, "dead", 0, [entry], time=in_an_hour)
    run(reader)
    assert stream.jobs() == []
    time.sleep(1.5 * LEASE_SECONDS)
    run(reader)
    assert len(stream.jobs()) == 1
    assert (stream.left(), stream.pending()) == ([], 0)


def test_an_entry_that_was_deleted_meanwhile_is_forgotten(stream: Stream, reader: StreamReader) -> None:
    stream.redis.xgroup_create(keys.INTAKE, GROUP, id="0", mkstream=True)
    entry = stream.add(stream.document())
    stream.redis.xreadgroup(GROUP, "another", {keys.INTAKE: ">"})
    stream.redis.xdel(keys.INTAKE, entry)
    time.sleep(LEASE_SECONDS)
    run(reader)
    assert (stream.pending(), stream.jobs()) == (0, [])


def test_a_reader_waits_for_a_redis_that_is_away_and_logs_that_once(tmp_path: Path) -> None:
    server = FaultyValkey(tmp_path / "valkey")
    url = server.start()
    config = write_settings(tmp_path, url)
    log_path = tmp_path / "reader.log"
    with log_path.open("wb") as log_file, reading(config, log_file) as child:
        stream = Stream(Runtime(load(config, {})))
        wait_until(lambda: redis.Redis.from_url(url).exists(keys.INTAKE), "the reader has begun")
        server.stop()
        wait_until(lambda: "redis_unreachable" in log_path.read_text(), "it says so")
        time.sleep(1.5)  # long enough for it to try once more
        server.start()
        entry = stream.add(stream.document())
        wait_until(lambda: stream.job(entry) and not stream.left(), "the message is read")
        child.terminate()
        child.wait(PATIENCE_SECONDS)
    server.stop()
    log = log_path.read_text()
    assert log.count("redis_unreachable") == 1
    assert log.count("redis_back") == 1


@pytest.mark.parametrize("name", ["scan.pdf", "missing.pdf"])  # opened with others, and alone
def test_a_message_stays_where_it_is_while_redis_belongs_to_another_installation(
    stream: Stream, reader: StreamReader, runtime: Runtime, name: str
) -> None:
    stream.add(stream.document(name))
    runtime.redis.set("chartpost:seal-check", "of another installation")
    reader.read_once()  # makes the group
    with pytest.raises(LedgerRefused):
        reader.read_once()
    assert len(stream.left()) == 1
    assert (stream.rejected(), stream.jobs()) == ([], [])
