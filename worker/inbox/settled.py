"""Tells which files have stopped changing: nothing announces that a sender has finished writing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class SettledTracker(Generic[Key]):
    """Finds files whose fingerprints have not changed for `settle_seconds`. Observations and times are passed in.

    Times are seconds of a monotonic clock. The files' own times come from other machines' clocks, so they are only
    compared with themselves, as part of a fingerprint.
    """

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._unchanged_since: dict[Key, tuple[Hashable, float]] = {}  # key -> its fingerprint, and since when
        self.next_at: float | None = None
        """When the next file may have settled; None while none is waiting to."""

    def since(self, key: Key) -> float:
        """Since when an observed key has not changed."""
        return self._unchanged_since[key][1]

    def observe(self, fingerprints: Mapping[Key, Hashable], now: float) -> list[Key]:
        """Note what is there now. Returns the settled keys, again at each call for as long as they stay."""
        unchanged_since: dict[Key, tuple[Hashable, float]] = {}
        settled: list[Key] = []
        self.next_at = None
        for key, fingerprint in fingerprints.items():
            before, since = self._unchanged_since.get(key, (None, now))
            if fingerprint != before:
                since = now
            unchanged_since[key] = fingerprint, since
            settles_at = since + self._settle_seconds
            if now - since >= self._settle_seconds:
                settled.append(key)
            elif self.next_at is None or settles_at < self.next_at:
                self.next_at = settles_at
        # Keys that were not observed are forgotten: a file that vanishes and comes back starts over.
        self._unchanged_since = unchanged_since
        return settled
