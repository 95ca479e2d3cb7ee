"""TODO"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def asked_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that an answer asks us to wait, by Retry-After or X-RateLimit-Reset; None if it does not say."""
    return _first(
        retry_after(headers.get("retry-after", ""), now),
        rate_limit_reset(headers.get("x-ratelimit-reset", ""), now),
    )


def retry_after(value: str, now: datetime) -> float | None:
    """Retry-After, in seconds or as an HTTP date (RFC 9110, 10.2.3), held within 1 second and 1 hour."""
    if re.fullmatch(r"[0-9]{1,15}", value.strip()):
        return _within(float(value), 1, 3600)
    try:
        at = parsedate_to_datetime(value)
        return _within((_aware(at) - now).total_seconds(), 1, 3600)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def rate_limit_reset(value: str, now: datetime) -> float | None:
    """X-RateLimit-Reset, in seconds since 1970, held within 1 second and 2 minutes: clocks differ."""
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", value.strip()):
        return None
    return _within(float(value) - now.timestamp(), 1, 120)


def _within(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
