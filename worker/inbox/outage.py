"""Pauses the whole inbox while the ledger, the storage for staging or the disk refuses every document."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from worker.inbox.opening import LedgerAway
from worker.inbox.report import name_of_error

log = structlog.get_logger()

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_LONGEST_PAUSE_WITHOUT_LEDGER_SECONDS = 2.0  # asking whether it is back costs little, and documents wait for it


class OutagePause:
    """Pauses grow while an outage lasts. Its reason is logged once, and its end."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._reason = ""

    def after(self, act: Callable[[], None]) -> float:
        """Call `act`. Returns how many seconds to pause before the next call: 0 unless an outage was met."""
        try:
            act()
        except LedgerAway as error:
            reason, longest = error.reason, _LONGEST_PAUSE_WITHOUT_LEDGER_SECONDS
        except OSError as error:
            reason, longest = name_of_error(error), _LONGEST_PAUSE_SECONDS
        else:
            if self._seconds:
                log.info("inbox_resumed")
            self._seconds, self._reason = 0.0, ""
            return 0.0
        if reason != self._reason:
            log.warning("inbox_paused", reason=reason)
        self._reason = reason
        self._seconds = min(max(_FIRST_PAUSE_SECONDS, 2 * self._seconds), longest)
        return self._seconds
