"""When to try again: pure functions of counts, seconds and chance."""

from __future__ import annotations

from collections.abc import Callable

Chance = Callable[[], float]
"""Returns a number from 0 up to 1, as `random.random` does."""

_DOUBLINGS = 60  # far beyond any cap, and still a float: 2.0 ** 1024 would overflow
_POLL_JITTER = 0.2


def delay(failures: int, first: float, cap: float, chance: Chance) -> float:
    """Seconds until the next try after so many failures in a row: exponential back-off with full jitter."""
    # Full jitter (from 0 up to the whole delay), because many documents fail together when a provider goes down, and
    # must not return together. https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    return chance() * _doubled(failures - 1, first, cap)


def poll_delay(times: int, first: float, cap: float, chance: Chance) -> float:
    """Seconds until the next poll after so many without a result: exponential, give or take a fifth."""
    # Less jitter than a retry has: a poll that comes far too early only costs a call.
    return _doubled(times, first, cap) * (1 - _POLL_JITTER + 2 * _POLL_JITTER * chance())


def _doubled(times: int, first: float, cap: float) -> float:
    return min(cap, first * 2.0 ** min(max(times, 0), _DOUBLINGS))
