"""A small sealed cache in Redis for providers, shared by all workers. A miss costs a call, never correctness."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import redis

from tasks.ledger import keys
from tasks.ledger.script_loader import load_script
from tasks.ledger.seal import Seal, SealBroken

_POLL_SECONDS = 0.05


class SealedCache:
    """Implements `tasks.providers.connection.Cache`."""

    def __init__(self, client: redis.Redis, seal: Seal) -> None:
        self._redis = client
        self._seal = seal
        self._take_lock_script = load_script(client, "take_lock")
        self._hold_lock = load_script(client, "hold_lock")

    def get(self, topic: str, key: str) -> str | None:
        found = self.get_with_age(topic, key)
        return found[0] if found else None

    def get_with_age(self, topic: str, key: str) -> tuple[str, float] | None:
        digest = self._seal.lookup(topic, key)
        # First the time, since most of what is asked for is not there. A value that is replaced before the second call
        # seems older than it is, never younger; one that ends is a miss.
        left_ms = int(self._redis.pttl(keys.cached(digest)))
        if left_ms < 0:
            return None
        kept = self._redis.get(keys.cached(digest)) or ""
        given_ms, _, sealed = str(kept).partition(" ")
        # With more time left than it was given, Redis's clock was set back since: it would stay for as long.
        if not sealed or left_ms > int(given_ms):
            return None
        try:
            return self._seal.open(sealed, place=digest), (int(given_ms) - left_ms) / 1000
        except SealBroken:  # secret_key was changed: the same as a miss
            return None

    def put(self, topic: str, key: str, value: str, seconds: float) -> None:
        digest = self._seal.lookup(topic, key)
        sealed = self._seal.seal(value, place=digest)
        given_ms = _ms(seconds)
        self._redis.set(keys.cached(digest), f"{given_ms} {sealed}", px=given_ms)

    def drop(self, topic: str, key: str) -> None:
        self._redis.delete(keys.cached(self._seal.lookup(topic, key)))

    @contextmanager
    def lock(self, topic: str, key: str, seconds: float) -> Iterator[None]:
        """Holds the lock for at most so many seconds, and waits for it as long."""
        name = self._lock_name(topic, key)
        give_up_at = time.monotonic() + seconds
        while not (mark := self._take_lock(name, seconds)):
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
        name = self._lock_name(topic, key)
        mark = self._take_lock(name, seconds)
        if not mark:
            yield None
            return
        try:
            yield lambda: self._hold_lock(keys=[name], args=[mark, _ms(seconds)])
        finally:
            self._hold_lock(keys=[name], args=[mark, 0])

    def _lock_name(self, topic: str, key: str) -> str:
        return keys.lock(self._seal.lookup(topic, key))

    def _take_lock(self, name: str, seconds: float) -> str:
        """What stands in the lock from now on; empty if another has it."""
        mark, given_ms = uuid4().hex, _ms(seconds)
        written = f"{given_ms} {mark}"
        # Usually it is free. Only where it is not, the script looks whether it was left behind.
        if self._redis.set(name, written, nx=True, px=given_ms):
            return written
        return str(self._take_lock_script(keys=[name], args=[mark, given_ms]))


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
