"""Moments as we print them and as Redis keeps them, and a clock for durations that nobody can set."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds, for everything that we print."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


def from_ms(ms: str | float) -> datetime:
    """`ms` are milliseconds since 1970."""
    return datetime.fromtimestamp(float(ms) / 1000, UTC)


def to_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def steady_seconds() -> float:
    """Seconds of a clock that nobody can set, for durations. Where the system has one, it counts a suspended machine's
    time too (`CLOCK_BOOTTIME`), which `time.monotonic` leaves out: leases and forms run out meanwhile.
    """
    return time.clock_gettime(_SINCE_BOOT)
