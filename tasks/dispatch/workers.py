"""Which workers take messages, and how many slots they have. Each has a key that expires unless it is set again."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import redis

from tasks.ledger.redis import PREFIX

_BEAT_SECONDS = 2.0
_ALIVE_SECONDS = 10.0  # five beats, so that one that comes late removes no worker


class Workers:
    """`consuming` tells whether this worker's consumer is alive. A worker whose consumer is not does not count."""

    def __init__(
        self,
        client: redis.Redis,
        name: str = "",
        slots: int = 0,
        consuming: Callable[[], bool] = lambda: False,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = client
        self._name = name
        self._slots = slots
        self._consuming = consuming
        self._clock = clock
        self._beaten_at = float("-inf")

    def beat(self) -> None:
        """Set this worker's key again, if it consumes and two seconds have passed."""
        if not self._name or self._clock() - self._beaten_at < _BEAT_SECONDS or not self._consuming():
            return
        self._redis.set(f"{PREFIX}worker:{self._name}", self._slots, px=int(_ALIVE_SECONDS * 1000))
        self._redis.sadd(PREFIX + "workers", self._name)
        self._beaten_at = self._clock()

    def leave(self) -> None:
        """Count no longer. If Redis is away, the key expires."""
        with suppress(redis.RedisError):
            self._redis.delete(f"{PREFIX}worker:{self._name}")

    def slots(self) -> int:
        """The slots of all workers that consume."""
        return sum(self.alive().values())

    def alive(self) -> dict[str, int]:
        """Worker name -> slots."""
        names = sorted(str(name) for name in self._redis.smembers(PREFIX + "workers"))
        if not names:
            return {}
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.get(f"{PREFIX}worker:{name}")
                pipe.pttl(f"{PREFIX}worker:{name}")
            answers = pipe.execute()
        # A key with more time left than it is given was set before Redis's clock was set back, and would stay for as
        # long. A worker that lives sets it again at its next beat.
        beaten = [left_ms <= _ALIVE_SECONDS * 1000 for left_ms in answers[1::2]]
        slots = [value if alive else None for value, alive in zip(answers[::2], beaten, strict=True)]
        # The set of names does not expire, unlike the keys.
        gone = [name for name, value in zip(names, slots, strict=True) if value is None]
        if gone:
            self._redis.srem(PREFIX + "workers", *gone)
        return {name: int(value) for name, value in zip(names, slots, strict=True) if value is not None}
