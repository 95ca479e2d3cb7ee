"""Guards against two habits of kombu 5.7.0 that a worker of ours cannot live with.

A broker restart ends a worker that holds an unacknowledged message: `Channel.close` fails half-way, and its second call
builds a client from `connection.client`, which is None by then: an AttributeError that nobody expects. Raised as a
ConnectionError it is what it is, and the worker reconnects. `tests/worker/test_guard.py` tells when that can go.

And messages that cannot be given back at shutdown are pickled into a file in the temporary folder, foreign callers'
arguments included. Redis has them still, as unacknowledged, so the file serves nobody and names patients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import kombu.transport.redis as transport
import kombu.transport.virtual.base as virtual
import redis
import structlog

log = structlog.get_logger()

AFFECTED = "5.7.0"


class GuardedChannel(transport.Channel):
    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        if client is None and (self.connection is None or self.connection.client is None):
            raise redis.exceptions.ConnectionError("The broker's channel is closed already.")
        with super().conn_or_acquire(client) as connection:
            yield connection


def guard_kombu() -> None:
    """The first guard covers redis:// and rediss://, for the version affected; the second covers every version."""
    if version("kombu") == AFFECTED:
        transport.Transport.Channel = GuardedChannel
    virtual.emergency_dump_state = _no_dump  # type: ignore[attr-defined]  # the stubs leave it out


def _no_dump(messages: list[Any], **_: Any) -> None:
    log.warning("messages_left_unacknowledged", count=len(messages))
