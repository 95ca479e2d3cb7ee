"""A Redis client whose commands go over a connection that the calling thread holds.

redis-py takes a connection out of its pool for each command, and wraps the command in a retry and in measurements. That
costs several times what the command itself does, and most of what a document costs in Python is commands.

Pipelines and subscriptions still take a connection from the pool, as redis-py does.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

import redis


class _Held:
    """A connection while one thread holds it. It never reconnects: a lost one is given back, and another one taken."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self.connection: Any = pool.get_connection()  # redis-py leaves out the types of its methods
        self.run_id = ""
        # Called when the thread ends. A `__del__` could run after the modules that it needs are gone.
        self.give_back = weakref.finalize(self, _give_back, pool, self.connection)

    def is_usable(self) -> bool:
        """False if it was lost, or belongs to the process from which this one was forked, or has an unread answer."""
        connection = self.connection
        if not connection.is_connected or connection.pid != os.getpid() or connection.should_reconnect():
            return False
        try:
            # The pool looks in the same way: a server that has restarted since the last command is noticed before
            # anything is sent to it.
            return not connection.can_read()
        except (redis.RedisError, OSError):
            return False


class ThreadConnectionClient(redis.Redis):
    """As `redis.Redis`, with the same errors. After an error that is no answer, the connection is dropped."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._local = threading.local()
        super().__init__(*args, **options)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and read its answer. Never sends it again, whatever `retry` says."""
        if self.connection:  # a client for one connection alone, `Redis.client()`
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        return self._send(self._take(), *args, **options)

    def run_id(self) -> str:
        """As the function `run_id`, asked once for each connection."""
        held = self._take()
        if not held.run_id:
            held.run_id = str(self._send(held, "INFO", "server")["run_id"])
        return held.run_id

    def _take(self) -> _Held:
        held: _Held | None = getattr(self._local, "held", None)
        if held is None or not held.is_usable():
            self._drop()
            held = self._local.held = _Held(self.connection_pool)
        return held

    def _send(self, held: _Held, *args: Any, **options: Any) -> Any:
        try:
            held.connection.send_command(*args)
            return self.parse_response(held.connection, args[0], **options)  # type: ignore[no-untyped-call]
        except redis.ResponseError:
            raise  # an answer, read to its end
        except BaseException:
            # An answer that comes late must not be read as that of the next command.
            held.connection.disconnect()
            self._drop()
            raise

    def _drop(self) -> None:
        held: _Held | None = self._local.__dict__.pop("held", None)
        if held is not None:
            held.give_back()


def run_id(client: redis.Redis) -> str:
    """Which Redis this is. Another one after a restart, a failover or a wipe of its files.

    A Redis that came back has a new connection, so the answer holds for as long as the thread's connection does.
    """
    if isinstance(client, ThreadConnectionClient):
        return client.run_id()
    return str(client.info("server")["run_id"])


def _give_back(pool: redis.ConnectionPool, connection: Any) -> None:
    # A child must not touch its parent's pool: a thread that the child does not have may have held the pool's lock.
    if connection.pid == os.getpid():
        pool.release(connection)
