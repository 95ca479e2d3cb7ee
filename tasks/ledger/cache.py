"""A small sealed cache in Redis for providers; a miss costs a call, never correctness."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import redis

from tasks.ledger.redis import PREFIX
from tasks.ledger.seal import Seal, SealBroken

_TURN_SECONDS = 0.05

_LEAVE = """
-- Give a turn back, if it is still ours. KEYS: the turn. ARGV: who has it.
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class SealedCache:
    """Implements `tasks.providers.connection.Cache`."""

    def __init__(self, client: redis.Redis, seal: Seal) -> None:
        self._redis = client
        self._seal = seal
        self._leave = client.register_script(_LEAVE)

    def get(self, topic: str, key: str) -> str | None:
        place = self._seal.lookup(topic, key)
        sealed = self._redis.get(PREFIX + "memory:" + place)
        if sealed is None:
            return None
        try:
            return self._seal.open(str(sealed), place=place)
        except SealBroken:
            return None

    def put(self, topic: str, key: str, value: str, seconds: float) -> None:
        place = self._seal.lookup(topic, key)
        sealed = self._seal.seal(value, place=place)
        self._redis.set(PREFIX + "memory:" + place, sealed, px=max(1, int(seconds * 1000)))

    @contextmanager
    def lock(self, topic: str, key: str, seconds: float) -> Iterator[None]:
        turn, ours = PREFIX + "turn:" + self._seal.lookup(topic, key), uuid4().hex
        until = time.monotonic() + seconds
        while not self._redis.set(turn, ours, px=max(1, int(seconds * 1000)), nx=True):
            if time.monotonic() >= until:  # whoever has it goes on for longer than it may: it is ours as well now
                break
            time.sleep(_TURN_SECONDS)
        try:
            yield
        finally:
            self._leave(keys=[turn], args=[ours])
