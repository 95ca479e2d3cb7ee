"""Moments as we print them, and as Redis keeps them: in milliseconds since 1970."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds, for everything that we print."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


def from_ms(ms: str | float) -> datetime:
    return datetime.fromtimestamp(float(ms) / 1000, UTC)


def to_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
