"""Reload requests, in Redis: `chartpost reload` writes a new number, and every part says under it what it did.

So a request reaches the parts on other machines and in other containers too.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import redis

from tasks.ledger import keys

_SAY_SECONDS = 4.0
_ALIVE_MS = 15_000  # longer than three of these
_ANSWERS_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Answer:
    """What one part did with a request. `ok` is False if it keeps its old settings; `message` says why."""

    ok: bool
    message: str


class ReloadRequests:
    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = client
        self._clock = clock
        self._said_at = float("-inf")

    # --- a part ------------------------------------------------------------------------------------------------

    def poll(self, part: str) -> int:
        """Say now and then that this part is there. Returns the number of the last request; 0 before the first one."""
        # Read before it says so: whoever sees the part then asks by a number that is new to it.
        number = int(self._redis.get(keys.RELOAD) or 0)
        if self._clock() - self._said_at >= _SAY_SECONDS:
            self._redis.set(keys.part(part), "1", px=_ALIVE_MS)
            self._redis.sadd(keys.PARTS, part)
            self._said_at = self._clock()
        return number

    def leave(self, part: str) -> None:
        """The part has ended. If Redis is away, its key expires."""
        with suppress(redis.RedisError):
            self._redis.delete(keys.part(part))

    def answer(self, number: int, part: str, answer: Answer) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(keys.reload_answers(number), part, json.dumps([answer.ok, answer.message]))
            pipe.expire(keys.reload_answers(number), _ANSWERS_SECONDS)
            pipe.execute()

    # --- who asks ----------------------------------------------------------------------------------------------

    def ask(self) -> int:
        """Ask all parts to reload. Returns the request's number."""
        # Random, not counted up: after a wipe the same number could come again, and would be no new one.
        number = 1 + secrets.randbits(52)
        self._redis.set(keys.RELOAD, number)
        return number

    def parts(self) -> list[str]:
        """The parts that are there, such as `worker host:123`."""
        names = sorted(str(name) for name in self._redis.smembers(keys.PARTS))
        there = self._redis.mget([keys.part(name) for name in names]) if names else []
        gone = [name for name, value in zip(names, there, strict=True) if value is None]
        if gone:  # the set of names does not expire, unlike the keys
            self._redis.srem(keys.PARTS, *gone)
        return [name for name in names if name not in gone]

    def answers(self, number: int) -> dict[str, Answer]:
        """Part -> what it did, of those that have answered by now."""
        found = self._redis.hgetall(keys.reload_answers(number))
        return {str(part): Answer(*json.loads(text)) for part, text in found.items()}
