"""TODO"""

from __future__ import annotations

import time
from contextlib import suppress

import structlog

from tasks.folders.outcomes import Outcomes

log = structlog.get_logger()

_DAY_SECONDS = 86_400.0


def sweep_delivered(outcomes: Outcomes, days: float) -> None:
    """Remove delivered documents and receipts that are older than so many days; 0 keeps them for ever.

    A document goes together with its receipt, by the receipt's age: the file's own may be that of its scan.
    """
    if not days:
        return
    before = time.time() - days * _DAY_SECONDS
    for place, receipt in outcomes.receipts():
        with suppress(FileNotFoundError):
            if place.companion.stat().st_mtime < before:
                place.document.unlink(missing_ok=True)
                place.companion.unlink()
                log.info("delivered_swept", job=receipt["job_id"])
