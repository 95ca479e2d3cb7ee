"""TODO"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class SettledTracker(Generic[Key]):
    """Tells which files have held still for `settle_seconds`. Pure: what was seen, and when, is passed in.

    Times are of a monotonic clock, in seconds; the files' own times are only compared with themselves.
    """

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._marks: dict[Key, tuple[Hashable, float]] = {}
        self._next_at: float | None = None

    def look(self, seen: Mapping[Key, Hashable], now: float) -> list[Key]:
        """Note what is seen now; returns what has been seen unchanged for long enough. The rest is forgotten."""
        marks: dict[Key, tuple[Hashable, float]] = {}
        settled: list[Key] = []
        self._next_at = None
        for key, mark in seen.items():
            before, since = self._marks.get(key, (None, now))
            since = since if before == mark else now
            marks[key] = mark, since
            if now - since >= self._settle_seconds:
                settled.append(key)
            elif self._next_at is None or since + self._settle_seconds < self._next_at:
                self._next_at = since + self._settle_seconds
        self._marks = marks
        return settled

    @property
    def next_at(self) -> float | None:
        """When to look again, since something may have settled by then; None if nothing is still to settle."""
        return self._next_at
