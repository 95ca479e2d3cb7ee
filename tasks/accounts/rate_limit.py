"""The rate limit of a limit group, shared by all workers. Accounts that share a provider's limit are one group.

A window of a minute counts the group's requests. When it is full, or when the provider says so, the group's *gate* is
shut: no jobs are sent for it. Neither goes by the clock of a worker's machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime

import redis

from tasks.ledger import keys
from tasks.ledger.clock import LedgerClock
from tasks.ledger.keys import PREFIX
from tasks.ledger.script_loader import load_script
from tasks.model.errors import RetryLater
from tasks.model.times import from_ms

_MINUTE_SECONDS = 60.0
_LEAST_PAUSE_CAP_SECONDS = 10.0
_CALLS_AFTER_PAUSE = 10
_SHARE_OF_PAGES = 2  # of all calls, one in so many may be a further page of a long list
_HIGH_PER_MINUTE = 600
_HANDFUL_SHARE = 100  # of a high limit, one part in so many is counted at once
_LARGEST_HANDFUL = 64
_HANDFUL_SECONDS = 1.0


class RateLimit:
    """Every call to a provider asks it. `take_due.lua` sends no jobs of a group that is throttled.

    Of a high limit each process counts a handful at once, and uses them within a second; those that are left lapse. A
    call may be made that second after it was counted, so the window of such a limit is a second longer.
    """

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = client
        self._clock = clock
        self._ledger_clock = LedgerClock(client)
        self._take_call = load_script(client, "take_call")
        self._throttle = load_script(client, "throttle")
        self._open_gate = load_script(client, "open_gate")
        # Counter -> calls that are counted already, and until when they may be made.
        self._counted: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def take_call(self, group: str, per_minute: int) -> None:
        """Count one request of this limit group. Raises RetryLater if the limit is used up."""
        pause = self._pause(group, per_minute)
        if pause:
            self.throttle(group, pause)
            raise RetryLater("The account's own limit of requests per minute is used up.", after_seconds=pause)

    def take_page(self, group: str, per_minute: int) -> None:
        """Count one further page of a long list. Raises RetryLater if such pages have had their share of the limit.

        The group itself goes on: the rest of the limit is for everybody's other calls.
        """
        pause = self._pause(f"{group}:pages", max(1, per_minute // _SHARE_OF_PAGES))
        if pause:
            raise RetryLater("The list is long: the next pages are read in a while.", after_seconds=pause)

    def _pause(self, counter: str, per_minute: int) -> float:
        """Count one, and return 0; or return the seconds to wait if so many were counted within the last minute."""
        if per_minute < _HIGH_PER_MINUTE:
            _, free_in_ms = self._count(counter, per_minute, 1, _MINUTE_SECONDS)
        elif self._use_counted(counter):
            return 0.0
        else:
            asked_at, wanted = self._clock(), min(per_minute // _HANDFUL_SHARE, _LARGEST_HANDFUL)
            counted, free_in_ms = self._count(counter, per_minute, wanted, _MINUTE_SECONDS + _HANDFUL_SECONDS)
            if counted > 1:
                with self._lock:
                    self._counted[counter] = counted - 1, asked_at + _HANDFUL_SECONDS
        if not free_in_ms:
            return 0.0
        # At least until some calls are free. With a shorter pause, jobs would be sent one by one against a limit that
        # lets one call through each time, and most steps need several calls.
        least = min(_CALLS_AFTER_PAUSE * _MINUTE_SECONDS / per_minute, _LEAST_PAUSE_CAP_SECONDS)
        return min(max(free_in_ms / 1000, least), _MINUTE_SECONDS)

    def _count(self, counter: str, most: int, wanted: int, window_seconds: float) -> tuple[int, int]:
        """How many of the wanted calls were counted; if none, in how many ms one can be."""
        counted, free_in_ms = self._take_call(args=[PREFIX, counter, most, int(window_seconds * 1000), wanted])
        return int(counted), int(free_in_ms)

    def _use_counted(self, counter: str) -> bool:
        with self._lock:
            left, until = self._counted.get(counter, (0, 0.0))
            if left < 1 or self._clock() >= until:
                return False
            self._counted[counter] = left - 1, until
            return True

    def throttle(self, group: str, seconds: float, reason: str = "") -> None:
        """No new jobs of this limit group are taken until `seconds` have passed. Steps in flight go on.

        `reason` is a sentence for people, where there is more to say than that the limit is used up.
        """
        self._throttle(args=[PREFIX, group, max(1, int(seconds * 1000)), reason])

    def throttled_reason(self, group: str) -> str:
        """Why the limit group waits, if there is more to say than that the limit is used up."""
        return str(self._redis.get(keys.gate_reason(group)) or "")

    def throttled_until(self, group: str) -> datetime | None:
        """When the limit group may go on, by Redis's clock; None if it may now."""
        shut_until = self._redis.get(keys.gate(group))
        if shut_until is None:
            return None
        clock = self._ledger_clock.read()
        return clock.for_people(float(shut_until)) if float(shut_until) > clock.now_ms else None

    def resume(self, group: str, accounts: Iterable[str], *, forget_calls: bool = False) -> datetime | None:
        """Let the limit group go on at once, with what its `accounts` have waiting. Returns until when it would have
        waited, by Redis's clock; None if it was not waiting. `forget_calls`: those of the last minute do not count.
        """
        shut_until = int(self._open_gate(args=[PREFIX, group, "1" if forget_calls else "", *accounts]))
        return from_ms(shut_until) if shut_until else None
