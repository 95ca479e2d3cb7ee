"""Guards against faults of kombu 5.7.0's Redis transport, which end a worker or lose a message.

All but the last are in kombu/transport/redis.py:

1.  A restart of Redis ends a worker that holds an unacknowledged message, with an AttributeError
    (`GuardedChannel.conn_or_acquire`).
2.  A Redis that answers and refuses writes (a replica, memory or disk full) ends a worker: kombu does not count that
    as a lost connection (`lost_while_redis_refuses`).
3.  A message is popped from its queue first and noted as unacknowledged after that. When Redis goes between the two,
    the message is lost (`GuardedQoS.append`, `GuardedChannel.put_back`).
4.  An entry of a queue that is not a message ends the worker that pops it (`GuardedChannel._brpop_read`).
5.  Every command gets a client of its own, at more than the command's cost (`GuardedChannel._create_client`).
6.  At shutdown, messages that cannot be given back are pickled into the temporary folder, with arguments that name
    patients (kombu/transport/virtual/base.py; `drop_emergency_dump`).

`tests/worker/celery/test_kombu_guard.py` also runs kombu without the guards, and says when a fault has been mended.
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

# Refusals that redis-py has no class for: a disk that cannot be written, too few replicas, and a blocked pop that ends
# because the server became a replica.
_REFUSALS = ("MISCONF", "NOREPLICAS", "UNBLOCKED")

# Messages (body, exchange, routing key) that have left their queue and are not noted as unacknowledged. Of the process,
# not of a channel: the channel goes with its connection.
_adrift: deque[tuple[Any, str, str]] = deque()


class GuardedQoS(transport.QoS):
    def append(self, message: Any, delivery_tag: str) -> None:
        try:
            super().append(message, delivery_tag)
        except redis.RedisError:
            # Redis may have noted it all the same, and only the answer was lost. It then comes twice, which entry
            # tasks and steps both bear.
            to = message.delivery_info
            _adrift.append((message._raw, to["exchange"], to["routing_key"]))
            raise

    # Celery lives with a lost connection while it acknowledges; any other error ends the worker.

    def ack(self, delivery_tag: str) -> None:
        with lost_while_redis_refuses():
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        with lost_while_redis_refuses():
            super().reject(delivery_tag, requeue=requeue)


class GuardedChannel(transport.Channel):
    QoS = GuardedQoS
    writes = False  # True in workers, set when one starts. Flower may have a user that can only read.
    _shared_client: redis.Redis | None = None

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        try:
            # kombu only pings, which a Redis that refuses writes answers too. A connection must count only once
            # writes are taken, or the worker would pop messages that it cannot note.
            if self.writes:
                with lost_while_redis_refuses():
                    self.client.set(WRITE_TEST_KEY, "1", px=1000)
            self.put_back()
        except Exception:
            # Disconnect, as kombu does when its ping fails. Leave the poller first: the channel was added to it before.
            connection.cycle.discard(self)
            self._disconnect_pools()  # type: ignore[attr-defined]  # the stubs leave it out
            raise

    def put_back(self) -> None:
        """Put messages back into their queues that this process popped and could not note as unacknowledged."""
        while _adrift:
            body, exchange, routing_key = message = _adrift.popleft()
            try:
                with self.conn_or_acquire() as client, client.pipeline() as pipe:
                    self._do_restore_message(body, exchange, routing_key, pipe)  # type: ignore[attr-defined]  # as above
                    pipe.execute()
            except redis.RedisError:
                _adrift.appendleft(message)
                raise

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        # After a lost connection `Channel.close` fails half-way, in its last `_brpop_read`. By its second call
        # `connection.client` is None, and `_connparams` reads `.hostname` of it. As a ConnectionError it is what the
        # worker expects after a lost connection, and it reconnects.
        if client is None and (self.connection is None or self.connection.client is None):
            raise redis.exceptions.ConnectionError("The broker's channel is closed already.")
        with lost_while_redis_refuses(), super().conn_or_acquire(client) as connection:
            yield connection

    def _create_client(self, asynchronous: bool = False) -> Any:
        # Clients made as asynchronous hold a connection of their own, for blocking pops: they cannot be shared.
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[misc]  # the stubs leave it out
        # kombu replaces its pool after a lost connection.
        if self._shared_client is None or self._shared_client.connection_pool is not self.pool:
            self._shared_client = super()._create_client()  # type: ignore[misc]  # as above
        return self._shared_client

    def _brpop_read(self, **options: Any) -> Any:
        try:
            with lost_while_redis_refuses():
                return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs leave it out
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # Not JSON, or JSON without a message's parts. It has left its queue, and no worker could have run it. No
            # real message is lost here: its own faults are found after it was noted as unacknowledged.
            log.error("no_message_dropped", error=type(error).__name__)
            return True  # as for a message: the next one can be popped


@contextmanager
def lost_while_redis_refuses() -> Iterator[None]:
    """Raise ConnectionError where Redis takes no writes: the worker reconnects until it takes them again."""
    try:
        yield
    except redis.ResponseError as error:
        if isinstance(error, WRITES_REFUSED) or str(error).startswith(_REFUSALS):
            raise redis.exceptions.ConnectionError(f"Redis takes no writes now ({error}).") from error
        raise


def guard_kombu() -> None:
    """Put the guards in place, for redis:// and rediss://. After an update of kombu only the last one applies."""
    if version("kombu") == AFFECTED:
        transport.Transport.Channel = GuardedChannel
    virtual.emergency_dump_state = drop_emergency_dump  # type: ignore[attr-defined]  # the stubs leave it out


def drop_emergency_dump(messages: list[Any], **_: Any) -> None:
    """Instead of `QoS.restore_unacked_once` writing a file: Redis still has the messages, as unacknowledged."""
    log.warning("messages_left_unacknowledged", count=len(messages))
