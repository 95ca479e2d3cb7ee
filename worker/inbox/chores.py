"""What the process that has the folders does beside watching: closes staged documents, and tidies delivered/."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import redis
import structlog

from tasks.closing.closing import Closing
from tasks.folders.machine_name import machine_name
from tasks.folders.retention import Retention
from tasks.ledger.ledger import Ledger

log = structlog.get_logger()

_CLOSING_SECONDS = 1.0
_SWEEP_SECONDS = 3600.0


class FolderChores:
    """`closing` closes jobs whose files workers on other machines cannot reach; None where nothing is staged."""

    def __init__(
        self,
        *,
        closing: Closing | None,
        ledger: Ledger,
        retention: Retention,
        data_dir: Path,
        stop: threading.Event,
    ) -> None:
        self._closing = closing
        self._ledger = ledger
        self._retention = retention
        self._data_dir = data_dir
        self._stop = stop

    def run(self) -> None:
        """Until `stop` is set. An outage of Redis or the disk is logged and waited for."""
        swept_at = float("-inf")
        while not self._stop.wait(_CLOSING_SECONDS):
            try:
                if self._closing:
                    for job_id in self._ledger.left_to(machine_name(self._data_dir)):
                        self._closing.run(job_id)
                if time.monotonic() - swept_at > _SWEEP_SECONDS:
                    swept_at = time.monotonic()
                    self._retention.run()
            except (redis.RedisError, OSError) as error:
                log.warning("chores_put_off", error=type(error).__name__)
