"""What lies in this machine's inbox and is left alone, and why. Looked for at most every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from config.settings import Settings
from tasks.folders.layout import Folders
from tasks.sources.writers import Writers
from worker.inbox.filter import EXPECTED, Reason
from worker.inbox.look import look_into

_FRESH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LeftAlone:
    # Below the inbox.
    place: str
    reason: Reason


class LeftInInbox:
    def __init__(
        self, settings: Settings, folders: Folders, writers: Writers, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._folders = folders
        self._writers = writers
        self._clock = clock
        self._lock = threading.Lock()
        self._fresh_until = 0.0
        self._left: Mapping[str, Sequence[LeftAlone]] = {}

    def by_account(self) -> Mapping[str, Sequence[LeftAlone]]:
        """Account -> what is left in its folder; "" for what lies beside the accounts' folders."""
        with self._lock:
            if self._clock() >= self._fresh_until:
                self._left = self._look()
                self._fresh_until = self._clock() + _FRESH_SECONDS
            return self._left

    def _look(self) -> Mapping[str, Sequence[LeftAlone]]:
        inbox, left = self._folders.inbox, dict[str, list[LeftAlone]]()
        try:
            # Without the wait for files that are being written: they are none of those that are left.
            found = look_into(
                inbox, self._settings.accounts, self._settings.inbox, self._writers, wait=lambda seconds: None
            )
        except OSError:  # no inbox here: `chartpost check` says what is wrong with it
            return {}
        for entry in found:
            if entry.reason not in EXPECTED:
                place = str(entry.path.relative_to(inbox))
                left.setdefault(entry.account, []).append(LeftAlone(place, entry.reason))
        return left
