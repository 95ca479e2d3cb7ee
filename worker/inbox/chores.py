"""What the process that has the folders does beside watching: closes documents that no worker closes, and tidies up."""

from __future__ import annotations

import threading
import time

import redis
import structlog

from tasks.closing.closing import Closing
from tasks.folders.machines import Machine
from tasks.folders.outcomes import Outcomes
from tasks.folders.retention import sweep_delivered
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.ledger import Ledger

log = structlog.get_logger()

_CLOSING_SECONDS = 1.0
_SWEEP_SECONDS = 3600.0
_UNTAKEN_SECONDS = 3.0  # a worker on this machine takes closing work within a second


class FolderChores:
    """`closing` closes jobs whose files workers on other machines cannot reach."""

    def __init__(
        self,
        *,
        closing: Closing,
        ledger: Ledger,
        machine: Machine,
        outcomes: Outcomes,
        delivered_days: float,
        stop: threading.Event,
    ) -> None:
        self._closing = closing
        self._ledger = ledger
        self._outcomes = outcomes
        self._machine = machine
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
                self._machine.beat(watches=True)
                self._close_left()
                if time.monotonic() - swept_at > _SWEEP_SECONDS:
                    swept_at = time.monotonic()
                    sweep_delivered(self._outcomes, self._delivered_days)
            except LedgerRefused as error:
                self.refused = error
                self._stop.set()
            except (redis.RedisError, OSError) as error:
                log.warning("chores_put_off", error=type(error).__name__)

    def _close_left(self) -> None:
        """Close what workers elsewhere left to this machine, and what no worker here has taken."""
        machine = self._machine.name()
        if machine is None:
            return
        for job_id in (*self._ledger.left_to(machine), *self._ledger.unclosed(machine, _UNTAKEN_SECONDS)):
            self._closing.run(job_id)
