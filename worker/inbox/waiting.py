"""The documents that have settled and wait in the inbox all the same, because they are not whole yet."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

from worker.inbox.filter import Reason
from worker.inbox.scan import Candidate, Ignored


@dataclass(frozen=True, slots=True)
class _Wait:
    ignored: Ignored
    fingerprint: Hashable
    next_at: float  # when to look at it again; earlier only if it changes


class WaitingDocuments:
    """Remembers them, so that each is examined again only when that may give another answer. Times are monotonic."""

    def __init__(self) -> None:
        self._waits: dict[Path, _Wait] = {}

    def add(self, candidate: Candidate, reason: Reason, next_at: float) -> None:
        ignored = Ignored(candidate.path, candidate.account, reason)
        self._waits[candidate.path] = _Wait(ignored, candidate.fingerprint, next_at)

    def forget_others(self, candidates: Mapping[Path, Candidate]) -> None:
        """Forget documents that have gone or have changed."""
        self._waits = {
            path: wait
            for path, wait in self._waits.items()
            if path in candidates and candidates[path].fingerprint == wait.fingerprint
        }

    def must_wait(self, path: Path, now: float) -> bool:
        wait = self._waits.get(path)
        return wait is not None and now < wait.next_at

    def remove(self, path: Path) -> None:
        self._waits.pop(path, None)

    @property
    def ignored(self) -> Collection[Ignored]:
        """All that wait, with their reasons."""
        return [wait.ignored for wait in self._waits.values()]

    @property
    def next_at(self) -> float:
        """When the next of them is due; infinite if none waits."""
        return min((wait.next_at for wait in self._waits.values()), default=float("inf"))
