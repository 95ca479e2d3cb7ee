"""Removes delivered documents when they have been kept for as long as the settings say."""

from __future__ import annotations

import time
from contextlib import suppress

import structlog

from tasks.folders.outcomes import Outcomes

log = structlog.get_logger()

_DAY_SECONDS = 86_400.0


def sweep_delivered(outcomes: Outcomes, days: float) -> None:
    """Remove delivered documents and receipts that are older than so many days; 0 keeps them for ever."""
    if not days:
        return
    before = time.time() - days * _DAY_SECONDS
    for delivered, receipt in outcomes.receipts():
        with suppress(FileNotFoundError):
            # The receipt's age counts: the document keeps the time of its scan, which may be years ago.
            if delivered.companion.stat().st_mtime < before:
                # The receipt goes last, so that a kill in between leaves something that the next sweep finds.
                delivered.document.unlink(missing_ok=True)
                delivered.companion.unlink()
                log.info("delivered_swept", job=receipt["job_id"])
