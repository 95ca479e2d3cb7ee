"""A process that was told to end ends, whatever hangs in it: Redis, a provider, a disk.

Threads that hang cannot be stopped. What they were doing goes on as after any kill: from the ledger and `processing/`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

EXIT_CODE = os.EX_TEMPFAIL
WORKER_SECONDS = 40.0  # a document that has passed its commit point gets this long for its answer
SERVICE_SECONDS = 20.0  # the watcher and the intake; both less than `run` and the containers wait
_HASTY_SECONDS = 2.0


class StopDeadline:
    """`begin` it with each signal to end. The second one leaves two seconds more."""

    def __init__(self, seconds: float, *, end: Callable[[int], object] = os._exit) -> None:
        self._seconds = seconds
        self._end = end
        self._lock = threading.RLock()  # a signal may come while the handler of another runs
        self._at: float | None = None
        self._hastened = threading.Event()

    def begin(self) -> None:
        """The process must end from now on. May be called by a signal's handler."""
        with self._lock:
            if self._at is None:
                self._at = time.monotonic() + self._seconds
                threading.Thread(target=self._run, name="stop-deadline", daemon=True).start()
            else:
                self._at = min(self._at, time.monotonic() + _HASTY_SECONDS)
                self._hastened.set()

    def _run(self) -> None:
        assert self._at is not None  # noqa: S101
        while (left := self._at - time.monotonic()) > 0:
            self._hastened.wait(left)
            if self._hastened.is_set():
                time.sleep(max(0.0, self._at - time.monotonic()))
        log.warning("stop_forced", exit=EXIT_CODE)
        self._end(EXIT_CODE)
