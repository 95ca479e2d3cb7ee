"""A small sealed cache in Redis for providers; a miss costs a call, never correctness."""

from __future__ import annotations

import redis

from tasks.ledger import PREFIX
from tasks.seal import Seal, SealBroken


class SealedMemory:
    """Implements `tasks.providers.base.Memory`."""

    def __init__(self, client: redis.Redis, seal: Seal) -> None:
        self._redis = client
        self._seal = seal

    def recall(self, topic: str, key: str) -> str | None:
        place = self._seal.lookup(topic, key)
        sealed = self._redis.get(PREFIX + "memory:" + place)
        if sealed is None:
            return None
        try:
            return self._seal.open(str(sealed), place=place)
        except SealBroken:
            return None

    def remember(self, topic: str, key: str, value: str, seconds: float) -> None:
        place = self._seal.lookup(topic, key)
        sealed = self._seal.seal(value, place=place)
        self._redis.set(PREFIX + "memory:" + place, sealed, px=max(1, int(seconds * 1000)))
