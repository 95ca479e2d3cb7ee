"""What the process that has the folders does beside watching: closes staged documents, and tidies delivered/."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import redis
import structlog

from tasks.closing.closing import Closing
from tasks.folders.machine_name import machine_name
from tasks.folders.outcomes import Outcomes
from tasks.folders.retention import sweep_delivered
from tasks.ledger.identity import LedgerRefused
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
        outcomes: Outcomes,
        data_dir: Path,
        delivered_days: float,
        stop: threading.Event,
    ) -> None:
        self._closing = closing
        self._ledger = ledger
        self._outcomes = outcomes
        self._data_dir = data_dir
        self._delivered_days = delivered_days
        self._stop = stop
        self.refused: LedgerRefused | None = None

    def run(self) -> None:
        """Until `stop` is set. An outage of Redis or the disk is logged and waited for.

        A Redis that this process must not use ends the process: `refused` says why.
        """
        swept_at = float("-inf")
        while not self._stop.wait(_CLOSING_SECONDS):
            try:
                self._ledger.identity.confirm()
                if self._closing:
                    for job_id in self._ledger.left_to(machine_name(self._data_dir)):
                        self._closing.run(job_id)
                if time.monotonic() - swept_at > _SWEEP_SECONDS:
                    swept_at = time.monotonic()
                    sweep_delivered(self._outcomes, self._delivered_days)
            except LedgerRefused as error:
                self.refused = error
                self._stop.set()
            except (redis.RedisError, OSError) as error:
                log.warning("chores_put_off", error=type(error).__name__)
