"""When to look into a folder again: change events where the system has them. They are hints and never relied upon."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError  # the documented interface below `watch`

log = structlog.get_logger()

_GATHER_MS = 400  # events that come together are one hint
_STEP_MS = 100
_REOPEN_SECONDS = 0.5
_LIMIT = "the system's limit of watches"


def notify(folder: Path) -> RustNotify:
    """Begin to watch a folder and all below it. Raises OSError and WatchfilesRustInternalError.

    A folder below it that we may not read is passed over. That is asked for only where it is needed, since the
    system's limit of watches is then passed over too, and what lies beyond it is not watched.
    """
    try:
        return RustNotify([str(folder)], False, False, 0, True, False)
    except PermissionError:
        return RustNotify([str(folder)], False, False, 0, True, True)


class Changes:
    """Wakes whoever waits when something below `folder` may have changed; watching begins on entering the block.

    With `polling`, and where the system offers no events, it wakes every `poll_seconds`.
    """

    def __init__(
        self,
        folder: Path,
        stop: threading.Event,
        *,
        polling: bool,
        poll_seconds: float,
        begin: Callable[[Path], RustNotify] = notify,
    ) -> None:
        self._folder = folder
        self._stop = stop
        self._polling = polling
        self._poll_seconds = poll_seconds
        self._begin = begin
        self._events: RustNotify | None = None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def wait(self, seconds: float) -> bool:
        """Wait for so long, or until a change, or until told to stop. Whether something may have changed."""
        if self._events is None:
            stopped = self._stop.wait(min(seconds, self._poll_seconds))
            return not stopped and seconds >= self._poll_seconds
        try:
            seen = self._events.watch(_GATHER_MS, _STEP_MS, max(1, int(seconds * 1000)), self._stop)
        except WatchfilesRustInternalError:
            # It says so for ever once one name has not been UTF-8 or one folder could not be watched.
            self._close()
            self._stop.wait(_REOPEN_SECONDS)
            self._open()
            return True
        if seen == "signal":
            raise KeyboardInterrupt
        return not isinstance(seen, str)

    def _open(self) -> None:
        if self._polling:
            return
        try:
            self._events = self._begin(self._folder)
        except (OSError, WatchfilesRustInternalError) as error:
            limited = "limit" in str(error)  # these words are all that tells it; the others name the folder
            log.warning("inbox_events_unavailable", reason=_LIMIT if limited else type(error).__name__)
            self._polling = True

    def _close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None
