"""`chartpost watch`: the inbox watcher, and the chores of the process that has the folders."""

from __future__ import annotations

import signal
import threading
import time

import redis
import structlog

from tasks.folders.machine_name import machine_name
from tasks.folders.retention import sweep_delivered
from tasks.runtime import Runtime
from worker.inbox.opening import InboxOpening
from worker.inbox.watcher import Watcher

log = structlog.get_logger()

_CLOSING_SECONDS = 1.0
_SWEEP_SECONDS = 3600.0


class Watching:
    """Watches until SIGTERM or Ctrl-C. A process of its own: it alone closes files of documents staged to S3."""

    def __init__(self, runtime: Runtime) -> None:
        runtime.owns_folders = True
        self._runtime = runtime
        self._watcher = Watcher(
            runtime.settings.inbox,
            list(runtime.settings.accounts),
            runtime.folders,
            runtime.claims,
            InboxOpening.of(runtime),
            runtime.seal.lookup,
            runtime.stopping,
        )

    def run(self, *, once: bool = False) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._runtime.stopping.set())
        if once:
            self._watcher.once()
            return
        chores = threading.Thread(target=self._chores, name="folder-chores", daemon=True)
        chores.start()
        self._watcher.run()
        chores.join(timeout=30)

    def _chores(self) -> None:
        swept_at = float("-inf")
        while not self._runtime.stopping.wait(_CLOSING_SECONDS):
            try:
                if self._runtime.staging:
                    self._close_files()
                if time.monotonic() - swept_at > _SWEEP_SECONDS:
                    swept_at = time.monotonic()
                    sweep_delivered(self._runtime.outcomes, self._runtime.settings.retention.delivered_days)
            except (redis.RedisError, OSError) as error:
                log.warning("chores_put_off", error=type(error).__name__)

    def _close_files(self) -> None:
        """What workers on other machines have left to us, since they cannot reach our folders."""
        for job_id in self._runtime.ledger.left_to(machine_name(self._runtime.settings.data_dir)):
            self._runtime.closing.run(job_id)
