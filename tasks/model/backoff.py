"""When to try again, and when to stop: pure functions of counts, seconds and chance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

Chance = Callable[[], float]
"""A number from 0 up to 1, such as `random.random`."""

_DOUBLINGS = 60  # far beyond any cap, and still a float
_POLL_JITTER = 0.2


def delay(failures: int, first: float, cap: float, chance: Chance) -> float:
    """Seconds until the next try after so many failures in a row: exponential back-off with full jitter.

    Anything from 0 up to `first` doubled with every failure, at most `cap`. Full jitter, because many documents fail
    together when a provider goes down and must not come back together
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    return chance() * _doubled(failures - 1, first, cap)


def poll_delay(looks: int, first: float, cap: float, chance: Chance) -> float:
    """Seconds until the next look after so many looks without a result: exponential, give or take a fifth."""
    return _doubled(looks, first, cap) * (1 - _POLL_JITTER + 2 * _POLL_JITTER * chance())


def out_of_time(since: datetime, now: datetime, budget_seconds: float, excused_seconds: float = 0.0) -> bool:
    """Whether the budget that began at `since` is used up; `excused_seconds` (parked, down) do not count."""
    return (now - since).total_seconds() - excused_seconds >= budget_seconds


def _doubled(times: int, first: float, cap: float) -> float:
    return min(cap, first * 2.0 ** min(max(times, 0), _DOUBLINGS))
