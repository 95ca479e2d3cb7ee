"""A small sealed cache in Redis for providers, shared by all workers. A miss costs a call, never correctness."""

from __future__ import annotations

import time
from collections.abc import Iterator
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
        self._release_lock = load_script(client, "release_lock")

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
        self._redis.set(PREFIX + "memory:" + digest, sealed, px=max(1, int(seconds * 1000)))

    @contextmanager
    def lock(self, topic: str, key: str, seconds: float) -> Iterator[None]:
        """Holds the lock for at most so many seconds, and waits for it as long."""
        name, mark = PREFIX + "turn:" + self._seal.lookup(topic, key), uuid4().hex
        give_up_at = time.monotonic() + seconds
        while not self._redis.set(name, mark, px=max(1, int(seconds * 1000)), nx=True):
            # Go on without it: two in the block do the same work twice, which the caller's contract allows.
            if time.monotonic() >= give_up_at:
                break
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            self._release_lock(keys=[name], args=[mark])
