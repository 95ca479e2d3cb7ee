"""What the process that has the folders does beside watching: closes staged documents, tidies delivered/, and tells
the metrics what the inbox leaves alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import redis
import structlog

from tasks.closing.closing import Closing
from tasks.folders.inbox_counts import publish_inbox_counts
from tasks.folders.machine_name import machine_name
from tasks.folders.outcomes import Outcomes
from tasks.folders.retention import sweep_delivered
from tasks.ledger.ledger import Ledger

log = structlog.get_logger()

_CLOSING_SECONDS = 1.0
_SWEEP_SECONDS = 3600.0
_PUBLISH_SECONDS = 10.0


class FolderChores:
    """`closing` closes jobs whose files workers on other machines cannot reach; None where nothing is staged.

    `left_in_inbox` gives (account, reason) -> how many entries of the inbox are left alone.
    """

    def __init__(
        self,
        *,
        closing: Closing | None,
        ledger: Ledger,
        left_in_inbox: Callable[[], Mapping[tuple[str, str], int]],
        outcomes: Outcomes,
        data_dir: Path,
        delivered_days: float,
        stop: threading.Event,
    ) -> None:
        self._closing = closing
        self._ledger = ledger
        self._left_in_inbox = left_in_inbox
        self._outcomes = outcomes
        self._data_dir = data_dir
        self._delivered_days = delivered_days
        self._stop = stop

    def run(self) -> None:
        """Until `stop` is set. An outage of Redis or the disk is logged and waited for."""
        swept_at = published_at = float("-inf")
        while not self._stop.wait(_CLOSING_SECONDS):
            try:
                if time.monotonic() - published_at > _PUBLISH_SECONDS:
                    self.publish()
                    published_at = time.monotonic()
                if self._closing:
                    for job_id in self._ledger.left_to(machine_name(self._data_dir)):
                        self._closing.run(job_id)
                if time.monotonic() - swept_at > _SWEEP_SECONDS:
                    swept_at = time.monotonic()
                    sweep_delivered(self._outcomes, self._delivered_days)
            except (redis.RedisError, OSError) as error:
                log.warning("chores_put_off", error=type(error).__name__)

    def publish(self) -> None:
        """Tell the metrics what the inbox leaves alone. Raises RedisError and OSError."""
        publish_inbox_counts(self._ledger.redis, machine_name(self._data_dir), self._left_in_inbox())
