"""What may stand between a caller and a provider's API: an outage, a throttle, a patient who makes trouble.

Each provider says it in its own words, so what comes out here is a status and when to come back.
"""

import math
import time
from collections import defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass

from aiohttp import web

from sandbox.faults.connection import ConnectionCut, hang
from sandbox.faults.state import World
from sandbox.faults.words import Turns

MINUTE_SECONDS = 60.0
FIRST_CALLS = 2


@dataclass(frozen=True)
class Refusal:
    """`retry_after_seconds` is what the Retry-After header says, if there is one."""

    status: int
    retry_after_seconds: int | None = None


class Gate:
    """The gate of one provider."""

    def __init__(self, provider: str, world: World, turns: Turns) -> None:
        self._provider = provider
        self._world = world
        self._turns = turns
        self._answered: defaultdict[Hashable, deque[float]] = defaultdict(deque)

    async def outage(self, request: web.Request) -> Refusal | None:
        """Raises ConnectionCut where the outage has no answer at all."""
        match self._world.down.get(self._provider):
            case None:
                return None
            case "hang":
                return await hang(request, lambda: self._world.down.get(self._provider) == "hang")
            case "reset":
                raise ConnectionCut
            case status:
                return Refusal(int(status))

    def throttle(self, who: Hashable = None, usual_per_minute: int | None = None) -> Refusal | None:
        """At most so many answers within any minute, counted for each `who` by itself.

        `usual_per_minute` is what the vendor allows while the world says nothing; None is no limit.
        """
        per_minute = self._world.throttle.get(self._provider, usual_per_minute)
        now, answered_at = time.monotonic(), self._answered[who]
        while answered_at and answered_at[0] <= now - MINUTE_SECONDS:
            answered_at.popleft()
        if per_minute is not None and len(answered_at) >= per_minute:
            oldest = answered_at[-per_minute] if per_minute else now
            return Refusal(429, math.ceil(oldest + MINUTE_SECONDS - now))
        answered_at.append(now)
        return None

    def patient(self, tenant: str, patient_id: str) -> Refusal | None:
        """404… is unknown, 429… is throttled at first, 500… finds a server error at first."""
        if patient_id.startswith("404"):
            return Refusal(404)
        for prefix, refusal in (("429", Refusal(429, 1)), ("500", Refusal(500))):
            who = (self._provider, tenant, patient_id)
            if patient_id.startswith(prefix) and self._turns.take(who, prefix, FIRST_CALLS):
                return refusal
        return None
