"""The roll-up in a worker: a thread that counts the days that are over, every hour and soon after midnight in UTC."""

from __future__ import annotations

import threading
import time

import structlog

from config.redaction import crash_site
from config.vital_threads import start_vital
from tasks.ledger.identity import LedgerIdentity, LedgerRefused
from tasks.ledger.redis import REDIS_ERRORS, is_outage, log_redis_error
from tasks.reporting.roll_up import RollUp

log = structlog.get_logger()

_FIRST_SECONDS = 30.0  # not while a worker starts
_RETRY_SECONDS = 30.0
_HOUR = 3600.0
_DAY = 24 * _HOUR
_AFTER_MIDNIGHT = 5.0


class RollUpChore:
    """Any number may run at once. An outage is waited for, and any other error logged: no document needs this."""

    def __init__(
        self,
        roll_up: RollUp,
        identity: LedgerIdentity,
        *,
        first_seconds: float = _FIRST_SECONDS,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        self._roll_up = roll_up
        self._identity = identity
        self._first_seconds = first_seconds
        self._retry_seconds = retry_seconds
        self._stopped = threading.Event()
        # How often in a row it could not be done; and whether the ledger was refused.
        self.failures = 0
        self.ended = False

    def start(self) -> None:
        start_vital(self._run, "roll-up")

    def stop(self) -> None:
        """Does not wait: a kill in the middle does no harm."""
        self._stopped.set()

    def _run(self) -> None:
        pause = self._first_seconds
        while not self._stopped.wait(pause):
            try:
                self._identity.confirm()
                if days := self._roll_up.run():
                    log.info("days_counted", days=days)
                self.failures = 0
                # With `retention.jobs_days` of 1, the first jobs of a day leave soon after it.
                pause = min(_HOUR, _DAY - time.time() % _DAY + _AFTER_MIDNIGHT)
                continue
            except LedgerRefused:  # the feeder ends the process
                self.ended = True
                return
            except REDIS_ERRORS as error:
                if not is_outage(error):  # of an outage others tell
                    log_redis_error(error, part="roll-up")
            except Exception as error:  # noqa: BLE001, outermost: without it the worker does all its work
                log.error("roll_up_failed", **crash_site(error))
            self.failures += 1
            pause = min(_HOUR, self._retry_seconds * 2 ** min(self.failures, 20))
