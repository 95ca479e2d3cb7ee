"""Stands between the queues and Celery: lets in no foreign message as it is, and guards against faults of kombu 5.7.0.

What is popped from a queue of tasks is rebuilt from its task, id and arguments (`queue_messages.py`). What cannot be is
kept among the dead letters and never goes back (`GuardedChannel._brpop_read`).

The faults end a worker or lose a message. All but the last are in kombu/transport/redis.py:

1.  A restart of Redis ends a worker that holds an unacknowledged message, with an AttributeError
    (`GuardedChannel.conn_or_acquire`).
2.  A Redis that answers and refuses writes (a replica, memory or disk full) ends a worker: kombu does not count that
    as a lost connection (`lost_while_redis_refuses`).
3.  A message is popped from its queue first and noted as unacknowledged after that. When Redis goes between the two,
    the message is lost (`GuardedQoS.append`, `GuardedChannel.put_back`).
4.  An entry of a queue that is not a message, and a broadcast that is none, ends the worker that takes it
    (`GuardedChannel._brpop_read`, `_receive_one`).
5.  Every command gets a client of its own, at more than the command's cost (`GuardedChannel._create_client`).
6.  At shutdown, messages that cannot be given back are pickled into the temporary folder, with arguments that name
    patients (kombu/transport/virtual/base.py; `drop_emergency_dump`).

`tests/worker/celery/test_kombu_guard.py` also runs kombu without the guards, and says when a fault has been mended.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from queue import Empty
from typing import Any

import kombu.transport.redis as transport
import kombu.transport.virtual.base as virtual
import redis
import structlog
from kombu.utils.json import dumps, loads
from redis.commands.core import Script

from config.celery import ENTRY_QUEUE
from config.redaction import crash_site
from tasks.ledger import keys
from tasks.ledger.redis import WRITES_REFUSED
from tasks.ledger.script_loader import load_script
from worker.celery.queue_messages import RebuiltMessage, Unfit, came_back, is_stage_queue, read_message

log = structlog.get_logger()

AFFECTED = "5.7.0"
_MOST_AT_ONCE = 8
_ROOM, _SCRIPTS = "worker.celery", ("note_unacknowledged", "acknowledge")

KeepDead = Callable[[bytes, str, Unfit], None]
"""Keeps what was popped from a queue and is no message for us, and tells its caller. Raises Redis's errors."""

# Refusals that redis-py has no class for: a disk that cannot be written, too few replicas, and a blocked pop that ends
# because the server became a replica.
_REFUSALS = ("MISCONF", "NOREPLICAS", "UNBLOCKED")

# What has left its queue and is neither noted as unacknowledged nor kept elsewhere: (the list in Redis, the entry).
# Of the process, not of a channel: the channel goes with its connection.
_adrift: deque[tuple[str, bytes | str]] = deque()

# What a message that is not one raises somewhere in kombu or Celery. KeyError counts as a lost connection there.
_NO_MESSAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class GuardedQoS(transport.QoS):
    """Counts the messages that this process holds, and notes calls as unacknowledged in Redis.

    Messages of steps are not noted. Nothing rests on them: if one is lost with its process, its job's due entry sends
    another. Noting and acknowledging are one script each: kombu's transactions of four commands were most of what it
    cost.
    """

    channel: GuardedChannel
    _delivered: OrderedDict[str, Any]  # the stubs leave it out

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._scripts: dict[Any, dict[str, Script]] = {}

    def append(self, message: Any, delivery_tag: str) -> None:
        if _is_of_a_step(message):
            virtual.QoS.append(self, message, delivery_tag)
            return
        delivery = message.delivery_info
        noted = dumps([message._raw, delivery["exchange"], delivery["routing_key"]])
        try:
            with self.channel.conn_or_acquire() as client:
                self._script(client, "note_unacknowledged")(self._unacknowledged, [delivery_tag, time.time(), noted])
            virtual.QoS.append(self, message, delivery_tag)
        except redis.RedisError:
            # Redis may have noted it all the same, and only the answer was lost. It then comes twice, which entry
            # tasks and steps both bear.
            priority = self.channel._get_message_priority(message._raw)
            _adrift.append(
                (self.channel._q_for_pri(message.delivery_info["routing_key"], priority), dumps(message._raw))
            )
            raise

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Put messages back that were not acknowledged in time; workers alone do that."""
        # Flower consumes events, so kombu would have it read the unacknowledged messages of others, with what callers
        # wrote into them. Its user may not, and would be refused every ten seconds.
        if GuardedChannel.writes:
            super().restore_visible(*args, **kwargs)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Put a message back into its queue: when it is rejected for that, and when the worker ends in order."""
        message: Any = self._delivered.get(tag)
        if not _is_of_a_step(message):
            super().restore_by_tag(tag, client, leftmost)
            return
        queue = message.delivery_info["routing_key"]
        with self.channel.conn_or_acquire(client) as redis_client:
            self.channel._do_restore_message(message._raw, "", queue, redis_client, leftmost)

    # Celery lives with a lost connection while it acknowledges; any other error ends the worker.

    def ack(self, delivery_tag: str) -> None:
        if _is_of_a_step(self._delivered.get(delivery_tag)):
            virtual.QoS.ack(self, delivery_tag)
            return
        self._acknowledge(delivery_tag)
        virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        # A task that asks for it says that the time is not right, not that the message is wrong.
        self.channel.puts_back = requeue
        try:
            if requeue:
                with lost_while_redis_refuses():
                    self.restore_by_tag(delivery_tag, leftmost=True)
            elif not _is_of_a_step(self._delivered.get(delivery_tag)):
                self._acknowledge(delivery_tag)
            virtual.QoS.ack(self, delivery_tag)
        finally:
            self.channel.puts_back = False

    def _acknowledge(self, delivery_tag: str) -> None:
        with self.channel.conn_or_acquire() as client:
            self._script(client, "acknowledge")(self._unacknowledged, [delivery_tag])

    @property
    def _unacknowledged(self) -> list[str]:
        return [self.unacked_index_key, self.unacked_key]

    def _script(self, client: Any, name: str) -> Script:
        if client not in self._scripts:  # kombu replaces its client after a lost connection
            self._scripts = {client: {each: load_script(client, each, _ROOM) for each in _SCRIPTS}}
        return self._scripts[client][name]


def _is_of_a_step(message: Any) -> bool:
    return message is not None and is_stage_queue(message.delivery_info["routing_key"])


class GuardedMessage(virtual.Message):
    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        super().__init__(payload, channel=channel, **options)
        if isinstance(payload, RebuiltMessage):
            self._decoded_cache = payload.body  # parsed already


class GuardedChannel(transport.Channel):
    """A channel whose messages are our own.

    `writes`, `keep_dead` and `ends_in_order` are of the process. A worker sets the first two when it starts, and the
    last when it is told to end. Flower has a user that may read no message.
    """

    QoS = GuardedQoS
    Message = GuardedMessage
    writes = False
    keep_dead: KeepDead | None = None
    ends_in_order = False
    taken = 0  # messages of tasks that were popped so far
    puts_back = False  # while a task puts its message back
    _shared_client: redis.Redis | None = None

    # The stubs leave these out.
    connection_errors: tuple[type[Exception], ...]
    _queue_cycle: Any
    _flush_brpop_reauth: Callable[[], None]
    _q_for_pri: Callable[[str, int], str]

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        try:
            # kombu only pings, which a Redis that refuses writes answers too. A connection must count only once
            # writes are taken, or the worker would pop messages that it cannot note.
            if self.writes:
                with lost_while_redis_refuses():
                    self.client.set(keys.WRITE_TEST, "1", px=1000)
            self.put_back()
        except Exception:
            # Disconnect, as kombu does when its ping fails. Leave the poller first: the channel was added to it before.
            connection.cycle.discard(self)
            self._disconnect_pools()  # type: ignore[attr-defined]  # the stubs leave it out
            raise

    def put_back(self) -> None:
        """Put messages back into their queues that this process popped and could not note."""
        while _adrift:
            key, entry = message = _adrift.popleft()
            try:
                with self.conn_or_acquire() as client:
                    client.rpush(key, entry)
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
        # kombu's own, but for `_take`.
        try:
            with lost_while_redis_refuses():
                try:
                    popped = self.client.parse_response(self.client.connection, "BRPOP", **options)
                except self.connection_errors:
                    self.client.connection.disconnect()  # the next round connects again
                    raise
            if not popped:
                raise Empty
            key, entry = popped[0].decode(), popped[1]
            queue, _, priority = key.partition(self.sep)
            self._queue_cycle.rotate(queue)
            with lost_while_redis_refuses():
                if is_task_queue(queue):
                    self._take(key, entry, queue, int(priority or 0))
                    if is_stage_queue(queue):
                        self._take_more(key, queue, int(priority or 0))
                else:
                    self._take_reply(entry, queue)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _take_more(self, key: str, queue: str, priority: int) -> None:
        """Take further messages of steps that wait: a turn of the event loop for each costs more than the message.

        If they are lost with this process, their due entries send others.
        """
        room = min(self.qos.can_consume_max_estimate() or 0, _MOST_AT_ONCE)
        if room < 1:
            return
        with self.conn_or_acquire() as client:
            entries = deque(client.rpop(key, room) or ())
        try:
            while entries:
                self._take(key, entries.popleft(), queue, priority)
        finally:
            _adrift.extend((key, entry) for entry in entries)

    def _take(self, key: str, entry: bytes, queue: str, priority: int) -> None:
        """Give a message that was popped to Celery, rebuilt, or keep it among the dead letters."""
        GuardedChannel.taken += 1
        try:
            message = read_message(entry, queue).rebuilt(queue, priority)
        except Unfit as unfit:
            self._keep(key, entry, queue, unfit)
            return
        if self.connection is None:  # `Channel.close` reads once more, and may come so far twice
            _adrift.append((key, entry))
            raise redis.exceptions.ConnectionError("The broker's channel is closed already.")
        try:
            self.connection._deliver(message, queue)
        except redis.RedisError:
            raise
        except _NO_MESSAGE as error:
            # A fault in Celery or here; no data of the sender reaches this far. It would keep its slot for ever.
            log.error("message_crashed", queue=queue, **crash_site(error))
            self.qos.reject(message["properties"]["delivery_tag"])
            self._keep(key, entry, queue, Unfit("crashed", "A fault in chartpost: it could not take the message."))

    def _keep(self, key: str, entry: bytes, queue: str, unfit: Unfit) -> None:
        if self.keep_dead is None:
            log.error("no_message_dropped", queue=queue, code=unfit.code)
            return
        try:
            with lost_while_redis_refuses():
                self.keep_dead(entry, queue, unfit)
        except (redis.ConnectionError, redis.TimeoutError):
            _adrift.append((key, entry))  # the worker reconnects, puts it back and takes it again
            raise
        except redis.RedisError as error:
            # Of our own keys or rights. It must not stop the other messages.
            log.error("dead_letter_not_kept", queue=queue, code=unfit.code, **crash_site(error))

    def _take_reply(self, entry: bytes, queue: str) -> None:
        """An answer to `inspect`, for the process that asked."""
        try:
            self.connection._deliver(loads(entry), queue)
        except redis.RedisError:
            raise
        except _NO_MESSAGE as error:
            log.error("no_message_dropped", queue="", error=type(error).__name__)

    def _receive_one(self, c: Any) -> Any:
        # Broadcasts: commands of `inspect` and Flower.
        try:
            return super()._receive_one(c)  # type: ignore[misc]  # the stubs leave it out
        except _NO_MESSAGE as error:
            log.error("no_message_dropped", queue="", error=type(error).__name__)
            return None

    def _do_restore_message(
        self, payload: Any, exchange: str, routing_key: str, pipe: Any, leftmost: bool = False
    ) -> None:
        # kombu sends it where the message says: with the worker's rights, into any key. What workers of an earlier
        # version have noted as unacknowledged may say anything.
        if not self.ends_in_order and not self.puts_back:
            came_back(payload)
        push = pipe.lpush if leftmost else pipe.rpush
        push(self.list_of(payload, routing_key), dumps(payload))

    def list_of(self, payload: Any, queue: object = None) -> str:
        """The list in Redis from which a message came: kombu has one for each priority of a queue."""
        if queue is None:
            queue = payload["properties"]["delivery_info"]["routing_key"]
        ours = isinstance(queue, str) and (queue + ".").startswith(ENTRY_QUEUE + ".")
        try:
            priority = self._get_message_priority(payload)
        except OverflowError:  # infinity
            priority = 0
        return self._q_for_pri(str(queue) if ours else ENTRY_QUEUE, priority)


def is_task_queue(queue: str) -> bool:
    """False for the queues in which a process waits for answers to `inspect`, and for events."""
    return not queue.endswith(".celery.pidbox") and not queue.startswith("celeryev")


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
    """Put the guards in place, for redis:// and rediss://.

    Raises RuntimeError with another kombu: foreign messages would reach Celery as they are.
    """
    if version("kombu") != AFFECTED:
        raise RuntimeError(f"chartpost needs kombu {AFFECTED}, and this is {version('kombu')}: install that version.")
    transport.Transport.Channel = GuardedChannel
    virtual.emergency_dump_state = drop_emergency_dump  # type: ignore[attr-defined]  # the stubs leave it out


def stop_needless_timer(connection: Any) -> None:
    """Call it for each new connection of a worker.

    Each second kombu wakes the worker's event loop for the bindings of queues that expire; those that a worker consumes
    never do.
    """
    # Private to kombu; `guard_kombu` has seen to the version.
    connection.transport.cycle._binding_expiry_tref.cancel()


def drop_emergency_dump(messages: list[Any], **_: Any) -> None:
    """Instead of `QoS.restore_unacked_once` writing a file: Redis has the entry messages, and a due entry each step."""
    log.warning("messages_left_unacknowledged", count=len(messages))
