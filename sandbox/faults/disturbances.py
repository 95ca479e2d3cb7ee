"""What may stand between a caller and a provider's API: an outage, a throttle, a patient whose id asks for trouble.

Each provider words its refusals in its own way, so a `Refusal` has only a status and when to come back.
"""

import math
import time
from collections import defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass

from aiohttp import web

from sandbox.faults.connection import ConnectionCut, Filtered, hang
from sandbox.faults.state import State
from sandbox.faults.words import Turns

MINUTE_SECONDS = 60.0
TROUBLED_CALLS = 2  # so many first calls fail where the id of a patient or document asks for it


@dataclass(frozen=True)
class Refusal:
    """`retry_after_seconds` is the value of the Retry-After header; None if the answer has none."""

    status: int
    retry_after_seconds: int | None = None


class Disturbances:
    """Those of one provider."""

    def __init__(self, provider: str, state: State, turns: Turns) -> None:
        self._provider = provider
        self._state = state
        self._turns = turns
        self._answered: defaultdict[Hashable, deque[float]] = defaultdict(deque)

    async def outage(self, request: web.Request) -> Refusal | None:
        """Raises ConnectionCut where the outage has no answer at all, Filtered where something else answers."""
        match self._state.down.get(self._provider):
            case None:
                return None
            case "hang":
                return await hang(request, lambda: self._state.down.get(self._provider) == "hang")
            case "reset":
                raise ConnectionCut
            case "filter":
                raise Filtered
            case status:
                return Refusal(int(status))

    def throttle(self, caller: Hashable = None, usual_per_minute: int | None = None) -> Refusal | None:
        """Refuses a caller who has had the permitted number of answers within the last minute.

        `usual_per_minute` is what the vendor allows as long as no test sets a throttle; None: any number.
        """
        per_minute = self._state.throttle.get(self._provider, usual_per_minute)
        now, answered_at = time.monotonic(), self._answered[caller]
        while answered_at and answered_at[0] <= now - MINUTE_SECONDS:
            answered_at.popleft()
        if per_minute is not None and len(answered_at) >= per_minute:
            oldest = answered_at[-per_minute] if per_minute else now
            return Refusal(429, math.ceil(oldest - now + MINUTE_SECONDS))
        answered_at.append(now)
        return None

    def patient(self, tenant: str, patient_id: str) -> Refusal | None:
        """404… is unknown; 429… is throttled at first; 500… meets a server error at first."""
        if patient_id.startswith("404"):
            return Refusal(404)
        for prefix, refusal in (("429", Refusal(429, 1)), ("500", Refusal(500))):
            patient = (self._provider, tenant, patient_id)
            if patient_id.startswith(prefix) and self._turns.take(patient, prefix, TROUBLED_CALLS):
                return refusal
        return None
