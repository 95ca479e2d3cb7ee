"""`chartpost watch`: the inbox watcher, and the chores of the process that has the folders."""

from __future__ import annotations

import signal
import threading
import time

import redis
import structlog

from tasks.folders.retention import sweep_delivered
from tasks.folders.staging import machine
from tasks.runtime import Process
from worker.inbox.opening import InboxDoor
from worker.inbox.watcher import Watcher

log = structlog.get_logger()

_CLOSING_SECONDS = 1.0
_SWEEP_SECONDS = 3600.0


class Watching:
    """Watches until SIGTERM or Ctrl-C. A process of its own: it alone closes files of documents staged to S3."""

    def __init__(self, process: Process) -> None:
        process.at_home = True
        self._process = process
        self._watcher = Watcher(
            process.settings.inbox,
            list(process.settings.accounts),
            process.folders,
            InboxDoor(process),
            process.seal.lookup,
            process.stopping,
        )

    def run(self, *, once: bool = False) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._process.stopping.set())
        if once:
            self._watcher.once()
            return
        chores = threading.Thread(target=self._chores, name="folder-chores", daemon=True)
        chores.start()
        self._watcher.run()
        chores.join(timeout=30)

    def _chores(self) -> None:
        swept_at = float("-inf")
        while not self._process.stopping.wait(_CLOSING_SECONDS):
            try:
                if self._process.staging:
                    self._close_files()
                if time.monotonic() - swept_at > _SWEEP_SECONDS:
                    swept_at = time.monotonic()
                    sweep_delivered(self._process.folders, self._process.settings.retention.delivered_days)
            except (redis.RedisError, OSError) as error:
                log.warning("chores_put_off", error=type(error).__name__)

    def _close_files(self) -> None:
        """What workers on other machines have left to us, since they cannot reach our folders."""
        for job_id in self._process.ledger.left_to(machine(self._process.settings.data_dir)):
            self._process.closing.run(job_id)
