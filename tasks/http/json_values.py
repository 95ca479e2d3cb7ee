"""Values in foreign JSON that are written in more than one way; whatever cannot be read is None."""

from __future__ import annotations

from datetime import UTC, datetime


def whole_number(value: object) -> int | None:
    """A number that is written as a number or in digits."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def moment(value: object) -> datetime | None:
    """A time in ISO 8601, in UTC; one without a zone is taken to be in UTC."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
