"""Tells when to scan the inbox again, by change events of the file system where it has them.

Events are hints: network shares and full queues lose them. The watcher scans every `rescan_seconds` all the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError  # the documented interface below `watch`

log = structlog.get_logger()

_GATHER_MS = 400  # events that come together are one hint
_STEP_MS = 200  # how often watchfiles looks, also whether to stop
_REOPEN_SECONDS = 0.5
_LIMIT = "the system's limit of watches"


def watch_folder(folder: Path) -> RustNotify:
    """Begin to watch a folder and all below it. Raises OSError and WatchfilesRustInternalError."""
    watch = partial(RustNotify, [str(folder)], debug=False, force_polling=False, poll_delay_ms=0, recursive=True)
    try:
        return watch(ignore_permission_denied=False)
    except PermissionError:
        # Passes over folders that we may not read. Not the first choice: watchfiles then also passes over the
        # system's limit of watches, and folders beyond it would silently not be watched.
        return watch(ignore_permission_denied=True)


class ChangeEvents:
    """Lets a thread wait for changes below `folder`. Watching begins on entering the block.

    With `polling`, and where the system offers no events, the wait ends every `poll_seconds`.
    """

    def __init__(
        self,
        folder: Path,
        stop: threading.Event,
        *,
        polling: bool,
        poll_seconds: float,
        begin: Callable[[Path], RustNotify] = watch_folder,
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
        """Wait this long, or until a change or `stop`. Returns True when something may have changed."""
        if self._events is None:
            stopped = self._stop.wait(min(seconds, self._poll_seconds))
            return not stopped and seconds >= self._poll_seconds
        try:
            # At least 1 ms: watchfiles takes a timeout of 0 as "without end".
            changes = self._events.watch(_GATHER_MS, _STEP_MS, max(1, int(seconds * 1000)), self._stop)
        except WatchfilesRustInternalError:
            # After one name that is not UTF-8, or one folder that could not be watched, watchfiles raises this at
            # every call. Only a new watch gets rid of it. The pause keeps a permanent fault from using a whole core.
            self._close()
            self._stop.wait(_REOPEN_SECONDS)
            self._open()
            return True  # changes between the two watches were not seen
        if changes == "signal":
            raise KeyboardInterrupt  # watchfiles caught Ctrl-C while it waited
        return not isinstance(changes, str)  # "timeout" and "stop" are strings, changes a set

    def _open(self) -> None:
        if self._polling:
            return
        try:
            self._events = self._begin(self._folder)
        except (OSError, WatchfilesRustInternalError) as error:
            # watchfiles has no error class for the limit, only these words. Other errors' words name the folder.
            limited = "limit" in str(error)
            log.warning("inbox_events_unavailable", reason=_LIMIT if limited else type(error).__name__)
            self._polling = True

    def _close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None
