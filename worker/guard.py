"""A guard against a fault of kombu 5.7.0: a broker restart ends a worker that holds an unacknowledged message.

`Channel.close` then fails half-way, and its second call builds a client from `connection.client`, which is None by
then: an AttributeError that nobody expects. Raised as a ConnectionError it is what it is, and the worker reconnects.
Other versions are left alone; `tests/worker/test_guard.py` tells when it can go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import kombu.transport.redis as transport
import redis

AFFECTED = "5.7.0"


class GuardedChannel(transport.Channel):
    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        if client is None and (self.connection is None or self.connection.client is None):
            raise redis.exceptions.ConnectionError("The broker's channel is closed already.")
        with super().conn_or_acquire(client) as connection:
            yield connection


def guard_channel() -> None:
    """Covers redis:// and rediss://."""
    if version("kombu") == AFFECTED:
        transport.Transport.Channel = GuardedChannel
