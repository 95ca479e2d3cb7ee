"""A real Valkey server for tests: on a free port, in a temporary folder, gone with the test."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import redis

from tests.harness.clocks import FakedClock, seeing
from tests.harness.ports import free_port
from tests.harness.waiting import wait_until
from worker.supervisor.valkey import EmbeddedValkey


class FaultyValkey(EmbeddedValkey):
    """A server that tests kill, freeze, wipe and give a wrong clock.

    It comes back on the same port, from its append-only file.
    """

    def __init__(self, data_dir: Path, clock: FakedClock | None = None) -> None:
        super().__init__(data_dir)
        self.clock = clock
        self._given = free_port(), secrets.token_urlsafe(12)  # a port that no connection takes while it is down

    def start(self) -> str:
        with seeing(self.clock) if self.clock else nullcontext():
            return super().start()

    def kill(self) -> None:
        """SIGKILL: what it has not written to its file is lost."""
        self._process.kill()
        self._process.wait()
        self._child = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It keeps its connections open and does not answer, during the block."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Start it empty: its files are gone too."""
        self.stop()
        shutil.rmtree(self._folder)
        self.start()

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        assert self._child
        return self._child


def wait_until_written(client: redis.Redis) -> None:
    """Until its append-only file holds all that was answered: on a slow disk a write waits for the sync before it."""
    wait_until(lambda: int(client.info("persistence")["aof_buffer_length"]) == 0, "the append-only file is written")


@contextmanager
def running_valkey(folder: Path) -> Iterator[str]:
    """The address of a fresh server."""
    server = EmbeddedValkey(folder)
    url = server.start()
    try:
        yield url
    finally:
        server.stop()


@contextmanager
def valkey_with_clock(folder: Path, clock: FakedClock) -> Iterator[str]:
    """The address of a fresh server that sees this clock."""
    folder.mkdir(exist_ok=True)
    server = FaultyValkey(folder, clock)
    url = server.start()
    try:
        yield url
    finally:
        server.stop()


def emptied(url: str) -> redis.Redis:
    """A client of a server whose keys are all gone."""
    client = redis.Redis.from_url(url, decode_responses=True)
    client.flushall()
    return client


def everything_in(client: redis.Redis) -> str:
    """Every key and value of a server as text."""
    read: dict[str, Callable[[str], object]] = {
        "hash": client.hgetall,
        "zset": lambda name: client.zrange(name, 0, -1),
        "set": client.smembers,
        "string": client.get,
        "stream": client.xrange,
        "list": lambda name: client.lrange(name, 0, -1),
        "none": lambda name: "removed meanwhile",
    }
    return "\n".join(f"{key} {read[str(client.type(key))](str(key))}" for key in client.scan_iter("*"))
