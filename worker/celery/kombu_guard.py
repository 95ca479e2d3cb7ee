"""Guards against habits of kombu 5.7.0 that a worker of ours cannot live with.

A broker restart ends a worker that holds an unacknowledged message: `Channel.close` fails half-way, and its second call
builds a client from `connection.client`, which is None by then: an AttributeError that nobody expects. Raised as a
ConnectionError it is what it is, and the worker reconnects. `test_kombu_guard.py` tells when
that can go.

A Redis that answers and refuses (a replica, memory or disk full) ends a worker too, since kombu does not take that for
a lost connection. Here it is one, and a new connection counts only once Redis takes writes again.

A message is taken from its queue first and written down as unacknowledged after that. When Redis goes between the two,
the message is in this process alone: it is kept and put back with the next connection.

What somebody has pushed into a queue and is no message at all (no JSON, or JSON without a message's parts) ends a
worker while it is being read. It is gone from the queue by then, and nobody could have run it: it is dropped, and said.
A message's own faults come after it was written down as unacknowledged, so none of ours is lost by that.

And messages that cannot be given back at shutdown are pickled into a file in the temporary folder, foreign callers'
arguments included. Redis has them still, as unacknowledged, so the file serves nobody and names patients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import kombu.transport.redis as transport
import kombu.transport.virtual.base as virtual
import redis
import structlog

from tasks.ledger.redis import WRITE_TEST_KEY, WRITES_REFUSED

log = structlog.get_logger()

AFFECTED = "5.7.0"

_REFUSALS = ("MISCONF", "NOREPLICAS", "UNBLOCKED")  # errors without a class of their own

_adrift: deque[tuple[Any, str, str]] = deque()
"""Messages (body, exchange, routing key) that have left their queue and are not written down as unacknowledged."""


class GuardedQoS(transport.QoS):
    def append(self, message: Any, delivery_tag: str) -> None:
        try:
            super().append(message, delivery_tag)
        except redis.RedisError:
            # Should it have been written down all the same, it comes twice, which entry tasks and stages both bear.
            to = message.delivery_info
            _adrift.append((message._raw, to["exchange"], to["routing_key"]))
            raise

    def ack(self, delivery_tag: str) -> None:
        with gone_while_it_refuses():
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        with gone_while_it_refuses():
            super().reject(delivery_tag, requeue=requeue)


class GuardedChannel(transport.Channel):
    QoS = GuardedQoS
    writes = False  # a worker's, set when one starts; Flower, say, may only look
    _shared: redis.Redis | None = None

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        try:
            if self.writes:
                with gone_while_it_refuses():
                    self.client.set(WRITE_TEST_KEY, "1", px=1000)
            self._put_back()
        except Exception:
            connection.cycle.discard(self)
            self._disconnect_pools()  # type: ignore[attr-defined]  # the stubs leave it out
            raise

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        if client is None and (self.connection is None or self.connection.client is None):
            raise redis.exceptions.ConnectionError("The broker's channel is closed already.")
        with gone_while_it_refuses(), super().conn_or_acquire(client) as connection:
            yield connection

    def _create_client(self, asynchronous: bool = False) -> Any:
        """One client for all commands on the pool. kombu makes a new one for each, at more than the command's cost.

        Those that it asks for as asynchronous hold a connection of their own, and stay as they are.
        """
        if asynchronous or self._shared is None or self._shared.connection_pool is not self.pool:
            client = super()._create_client(asynchronous)  # type: ignore[misc]  # the stubs leave it out
            if asynchronous:
                return client
            self._shared = client
        return self._shared

    def _brpop_read(self, **options: Any) -> Any:
        try:
            with gone_while_it_refuses():
                return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs leave it out
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("no_message_dropped", error=type(error).__name__)
            return True

    def _put_back(self) -> None:
        while _adrift:
            body, exchange, routing_key = found = _adrift.popleft()
            try:
                with self.conn_or_acquire() as client, client.pipeline() as pipe:
                    self._do_restore_message(body, exchange, routing_key, pipe)  # type: ignore[attr-defined]  # as above
                    pipe.execute()
            except redis.RedisError:
                _adrift.appendleft(found)
                raise


@contextmanager
def gone_while_it_refuses() -> Iterator[None]:
    """A Redis that takes no writes now is as good as gone. Raises ConnectionError instead of its refusal."""
    try:
        yield
    except redis.ResponseError as error:
        if isinstance(error, WRITES_REFUSED) or str(error).startswith(_REFUSALS):
            raise redis.exceptions.ConnectionError(f"Redis takes no writes now ({error}).") from error
        raise


def guard_kombu() -> None:
    """The guarded channel covers redis:// and rediss://, for the version affected; the last guard every version."""
    if version("kombu") == AFFECTED:
        transport.Transport.Channel = GuardedChannel
    virtual.emergency_dump_state = _no_dump  # type: ignore[attr-defined]  # the stubs leave it out


def _no_dump(messages: list[Any], **_: Any) -> None:
    log.warning("messages_left_unacknowledged", count=len(messages))
