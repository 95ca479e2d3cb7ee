"""A small sealed cache in Redis for providers, shared by all workers. A miss costs a call, never correctness."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import redis

from tasks.ledger.redis import PREFIX, load_script
from tasks.ledger.seal import Seal, SealBroken

_POLL_SECONDS = 0.05


class SealedCache:
    """Implements `tasks.providers.connection.Cache`."""

    def __init__(self, client: redis.Redis, seal: Seal) -> None:
        self._redis = client
        self._seal = seal
        self._hold_lock = load_script(client, "hold_lock")

    def get(self, topic: str, key: str) -> str | None:
        digest = self._seal.lookup(topic, key)
        sealed = self._redis.get(PREFIX + "memory:" + digest)
        if sealed is None:
            return None
        try:
            return self._seal.open(str(sealed), place=digest)
        except SealBroken:  # secret_key was changed: the same as a miss
            return None

    def put(self, topic: str, key: str, value: str, seconds: float) -> None:
        digest = self._seal.lookup(topic, key)
        sealed = self._seal.seal(value, place=digest)
        self._redis.set(PREFIX + "memory:" + digest, sealed, px=_ms(seconds))

    def drop(self, topic: str, key: str) -> None:
        self._redis.delete(PREFIX + "memory:" + self._seal.lookup(topic, key))

    @contextmanager
    def lock(self, topic: str, key: str, seconds: float) -> Iterator[None]:
        """Holds the lock for at most so many seconds, and waits for it as long."""
        name, mark = self._lock_name(topic, key), uuid4().hex
        give_up_at = time.monotonic() + seconds
        while not self._take_lock(name, mark, seconds):
            # Go on without it: two in the block do the same work twice, which the caller's contract allows.
            if time.monotonic() >= give_up_at:
                break
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            self._hold_lock(keys=[name], args=[mark, 0])

    @contextmanager
    def lock_if_free(self, topic: str, key: str, seconds: float) -> Iterator[Callable[[], None] | None]:
        """Waits for nobody: yields None if another has the lock, else a function that holds it for `seconds` more."""
        name, mark = self._lock_name(topic, key), uuid4().hex
        if not self._take_lock(name, mark, seconds):
            yield None
            return
        try:
            yield lambda: self._hold_lock(keys=[name], args=[mark, _ms(seconds)])
        finally:
            self._hold_lock(keys=[name], args=[mark, 0])

    def _lock_name(self, topic: str, key: str) -> str:
        return PREFIX + "turn:" + self._seal.lookup(topic, key)

    def _take_lock(self, name: str, mark: str, seconds: float) -> bool:
        return bool(self._redis.set(name, mark, px=_ms(seconds), nx=True))


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
