"""What the feeders say of themselves in Redis, for `chartpost health`, `check` and the metrics.

A feeder says something only while its rounds fail, or skip an account. It says nothing of an outage: whoever asks sees
that Redis does not answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import redis

from tasks.ledger import keys

_ALIVE_SECONDS = 10.0  # as a worker's sign of life
_REPEAT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class FeederTrouble:
    """What hinders one feeder. All empty: nothing does."""

    # The code of the error by which its last rounds failed: it sends nothing at all.
    failing: str = ""
    # Lanes that it skips -> why.
    skipped: dict[str, str] = field(default_factory=dict)
    # Jobs that it skips -> why.
    skipped_jobs: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.failing or self.skipped or self.skipped_jobs)


class FeederReport:
    """Of one feeder, that of the worker with this name."""

    def __init__(self, client: redis.Redis, worker: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = client
        self._key = keys.feeder(worker)
        self._clock = clock
        self._said = FeederTrouble()
        self._said_at = float("-inf")

    def say(self, trouble: FeederTrouble) -> None:
        """Call it in each round. Writes only while there is trouble, and when that has ended. Raises Redis's errors."""
        if trouble == self._said and (not trouble or self._clock() - self._said_at < _REPEAT_SECONDS):
            return
        if trouble:
            self._redis.set(self._key, json.dumps(asdict(trouble)), px=int(_ALIVE_SECONDS * 1000))
        else:
            self._redis.delete(self._key)
        self._said, self._said_at = trouble, self._clock()


def feeder_troubles(client: redis.Redis) -> dict[str, FeederTrouble]:
    """Worker -> what hinders its feeder; only those that are hindered now."""
    names = sorted(str(name) for name in client.smembers(keys.WORKERS))
    said = client.mget([keys.feeder(name) for name in names]) if names else []
    return {name: FeederTrouble(**json.loads(str(text))) for name, text in zip(names, said, strict=True) if text}


def fails(code: str) -> str:
    """What a feeder does whose rounds fail with this code."""
    return f"fails in each round ({code}), so no document is sent: its log says why."
