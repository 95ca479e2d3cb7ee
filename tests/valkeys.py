"""A real Valkey server for tests: on a free port, in a temporary folder, gone with the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from worker.valkey import EmbeddedValkey


@contextmanager
def running_valkey(folder: Path) -> Iterator[str]:
    """The address of a fresh server."""
    server = EmbeddedValkey(folder)
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
