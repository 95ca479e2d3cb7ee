"""Which workers take messages, and how many slots they have. Each has a key that expires unless it is set again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass

import redis

from tasks.ledger import keys

_BEAT_SECONDS = 2.0
_ALIVE_SECONDS = 10.0  # five beats, so that one that comes late removes no worker


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """What a worker says of itself at each beat."""

    slots: int
    # The name of its machine (`folders.machines`). None if it has no folders there.
    machine: str | None = None
    # It reads inbox documents that are staged to S3.
    staging: bool = False


class Workers:
    """`consuming` tells whether this worker's consumer is alive. A worker whose consumer is not does not count.

    `machine` tells the name of this worker's machine at each beat.
    """

    def __init__(
        self,
        client: redis.Redis,
        name: str = "",
        slots: int = 0,
        consuming: Callable[[], bool] = lambda: False,
        *,
        machine: Callable[[], str | None] = lambda: None,
        staging: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = client
        self.name = name
        self._slots = slots
        self._consuming = consuming
        self._machine = machine
        self._staging = staging
        self._clock = clock
        self._beaten_at = float("-inf")

    def beat(self) -> bool:
        """Set this worker's key again, if it consumes and two seconds have passed. True if it was set."""
        if not self.name or self._clock() - self._beaten_at < _BEAT_SECONDS or not self._consuming():
            return False
        said = json.dumps(asdict(LiveWorker(self._slots, self._machine(), self._staging)))
        self._redis.set(keys.worker(self.name), said, px=int(_ALIVE_SECONDS * 1000))
        self._redis.sadd(keys.WORKERS, self.name)
        self._beaten_at = self._clock()
        return True

    def leave(self) -> None:
        """Count no longer. If Redis is away, the key expires."""
        with suppress(redis.RedisError):
            self._redis.delete(keys.worker(self.name))

    def slots(self) -> int:
        """The slots of all workers that consume."""
        return sum(self.alive().values())

    def alive(self) -> dict[str, int]:
        """Worker name -> slots."""
        return {name: worker.slots for name, worker in self.live().items()}

    def live(self) -> dict[str, LiveWorker]:
        """The workers that consume, by name."""
        names = sorted(str(name) for name in self._redis.smembers(keys.WORKERS))
        if not names:
            return {}
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.get(keys.worker(name))
                pipe.pttl(keys.worker(name))
            answers = pipe.execute()
        # A key with more time left than it is given was set before Redis's clock was set back, and would stay for as
        # long. A worker that lives sets it again at its next beat.
        beaten = [left_ms <= _ALIVE_SECONDS * 1000 for left_ms in answers[1::2]]
        said = [value if alive else None for value, alive in zip(answers[::2], beaten, strict=True)]
        # The set of names does not expire, unlike the keys.
        gone = [name for name, value in zip(names, said, strict=True) if value is None]
        if gone:
            self._redis.srem(keys.WORKERS, *gone)
        return {name: _live_worker(str(value)) for name, value in zip(names, said, strict=True) if value is not None}


def _live_worker(said: str) -> LiveWorker:
    value = json.loads(said)
    # A worker of an earlier version says its slots alone.
    return LiveWorker(value) if isinstance(value, int) else LiveWorker(**value)
