"""Keeps the last quarter of a worker's slots for accounts that answer.

`take_due.lua` sends accounts that do not answer only so many jobs over all workers. A worker cannot rely on that alone:
of several workers one may get most of those messages, and an account may fall silent after they were sent.

An account answers if a step of it has ended in time within the last minutes, and none has been slow for a lease. So a
new account does not count until its first step has ended. An account without others has nothing to share.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tasks.model.times import steady_seconds

_ANSWER_COUNTS_SECONDS = 600.0


@dataclass(eq=False, slots=True)
class _Running:
    account: str
    began_at: float
    prompt_seconds: float
    # When it began, its account did not answer.
    unsure: bool


class SlotReserve:
    """Of one process. `slots`: how many steps it runs at once; `accounts`: how many there are."""

    def __init__(self, slots: int, accounts: int, lease_seconds: float) -> None:
        self._most_unsure = max(1, slots - math.ceil(slots / 4)) if accounts > 1 else math.inf
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._running: set[_Running] = set()
        self._answered_at: dict[str, float] = {}
        self._slow_at: dict[str, float] = {}

    @contextmanager
    def slot(self, account: str, prompt_seconds: float) -> Iterator[bool]:
        """Whether a step of this account may run now, in the block. `prompt_seconds`: it ends in time within these."""
        now = steady_seconds()
        with self._lock:
            unsure = self._is_unsure(account, now)
            if unsure and sum(self._counts(each, now) for each in self._running) >= self._most(account, now):
                step = None
            else:
                step = _Running(account, now, prompt_seconds, unsure)
                self._running.add(step)
        try:
            yield step is not None
        finally:
            if step:
                with self._lock:
                    self._running.discard(step)
                    ended_at = steady_seconds()
                    in_time = ended_at - step.began_at <= prompt_seconds
                    (self._answered_at if in_time else self._slow_at)[account] = ended_at

    def _most(self, account: str, now: float) -> float:
        """A sixth is for accounts without a running step, of which none was slow since they answered.

        Such an account may be new, and must be able to show that it answers.
        """
        slow_at = self._slow_at.get(account, -math.inf)
        is_new = slow_at <= self._answered_at.get(account, -math.inf) or now - slow_at > _ANSWER_COUNTS_SECONDS
        if self._most_unsure == math.inf or (is_new and all(each.account != account for each in self._running)):
            return self._most_unsure
        return self._most_unsure - self._most_unsure // 6

    def _is_unsure(self, account: str, now: float) -> bool:
        if now - self._answered_at.get(account, -math.inf) > _ANSWER_COUNTS_SECONDS:
            return True
        if now - self._slow_at.get(account, -math.inf) < self._lease_seconds:
            return True
        return any(self._is_slow(each, now) for each in self._running if each.account == account)

    def _counts(self, step: _Running, now: float) -> bool:
        return step.unsure or self._is_slow(step, now)

    def _is_slow(self, step: _Running, now: float) -> bool:
        return now - step.began_at > step.prompt_seconds
