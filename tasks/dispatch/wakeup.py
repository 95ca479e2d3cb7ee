"""What ends a feeder's rest: a poke of its own process, and an entry that another process makes due.

Of the second, Redis itself tells. It notes which connection has read a key, and tells that connection once, when the
key changes next (https://valkey.io/topics/client-side-caching/). So whoever makes an entry due needs no further
command, and nobody is told anything while a feeder has work.

Where the server or the rights of its user do not allow that, `watch` says so, and the feeder must look often.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import redis
import structlog

from tasks.ledger.redis import error_code, is_outage

log = structlog.get_logger()

_READ_AGAIN = 16  # by then a connection is found dead that was cut without a word


class Wakeup:
    """One thread watches and waits; any may poke."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        # One of its own: what Redis tells on it comes at any time. Any: redis-py leaves out the types of its methods.
        self._connection: Any = None
        self._refused = False
        self._watched: Sequence[str] = ()
        self._believed = 0  # how often `watch` may still trust that nothing was told
        self._poked = threading.Event()
        self._listening = False
        # Ends a wait for the connection: what is written to the one end can be read from the other.
        self._bell, self._rope = socket.socketpair()
        for end in (self._bell, self._rope):
            end.setblocking(False)

    def poke(self) -> None:
        """End the wait, or the next one if nobody waits now."""
        self._poked.set()
        if self._listening:
            with suppress(BlockingIOError):  # it is full of rings
                self._rope.send(b"\0")

    def clear(self) -> None:
        """Forget the pokes so far."""
        self._poked.clear()

    def watch(self, keys: Sequence[str]) -> bool:
        """True if none of these keys is there, and a wait will end as soon as one is.

        Asks Redis only if one has changed since, and now and then. False also where Redis does not tell.
        """
        if self._refused:
            return False
        try:
            self._hear()
            self._believed -= 1
            if self._believed > 0 and keys == self._watched:
                return True
            if not self._connection and not self._connect():
                return False
            # Redis notes the keys with the same command that reads them, so no change falls between the two.
            _, there = self._ask(("CLIENT", "CACHING", "YES"), ("EXISTS", *keys))
        except redis.RedisError as error:
            self._disconnect()
            if isinstance(error, redis.ResponseError) and not is_outage(error):
                log.info("feeder_looks_often", code=error_code(error))
                self._refused = True
            return False
        self._watched, self._believed = keys, 0 if there else _READ_AGAIN
        return not there

    def wait(self, seconds: float) -> bool:
        """Until a poke, a change of what is watched, or the end of this time. False if only time has passed."""
        if not self._believed or not self._connection:
            return self._poked.wait(seconds)
        # Set before the look at the pokes: one that comes after it rings.
        self._listening = True
        try:
            # The connection may have read more than was asked of it.
            if self._hear() or self._poked.is_set():
                return True
            poll = select.poll()
            poll.register(self._bell, select.POLLIN)
            poll.register(self._connection._sock, select.POLLIN)
            poll.poll(seconds * 1000)
            return self._hear() or self._poked.is_set()
        except redis.RedisError:
            self._disconnect()
            return True
        finally:
            self._listening = False
            with suppress(BlockingIOError):
                self._bell.recv(4096)

    def close(self) -> None:
        """Only when nobody waits any more."""
        self._disconnect()

    # --- the connection ----------------------------------------------------------------------------------------

    def _connect(self) -> bool:
        self._connection = self._pool.get_connection()
        if int(self._connection.protocol) < 3:  # the address asks for it; there Redis can tell nothing meanwhile
            self._refused = True
            self._disconnect()
            return False
        self._ask(("CLIENT", "TRACKING", "ON", "OPTIN"))
        return True

    def _ask(self, *commands: Sequence[str]) -> list[Any]:
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        return [self._connection.read_response(disconnect_on_error=False) for _ in commands]

    def _hear(self) -> bool:
        """Read what Redis has told since the last time. True if that was anything: it tells nothing more then."""
        told = False
        while self._connection and self._connection.can_read(0):
            self._connection.read_response(push_request=True)
            self._believed, told = 0, True
        return told

    def _disconnect(self) -> None:
        connection, self._connection, self._believed = self._connection, None, 0
        if connection:
            connection.disconnect()  # first: whoever gets it next must not be told of keys
            self._pool.release(connection)
