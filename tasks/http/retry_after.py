"""How long an answer asks us to wait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from tasks.http.dates import servers_time

_MIN_SECONDS = 1.0
_MAX_RETRY_AFTER_SECONDS = 3600.0
_MAX_RESET_SECONDS = 120.0  # the value is a time of the server's clock; not every answer tells what that says now


def asked_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that an answer asks us to wait, by Retry-After or else X-RateLimit-Reset; None if it does not say."""
    wait = retry_after(headers, now)
    return rate_limit_reset(headers, now) if wait is None else wait


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Retry-After, in seconds or as an HTTP date (RFC 9110, 10.2.3), held within 1 second and 1 hour."""
    seconds = _retry_after(headers, now)
    return None if seconds is None else min(max(seconds, _MIN_SECONDS), _MAX_RETRY_AFTER_SECONDS)


def longer_wait(headers: Mapping[str, str], now: datetime) -> str:
    """Until when an answer asks us to wait, for people, if that is longer than we wait; empty if it is not."""
    seconds = _retry_after(headers, now) or 0.0
    if seconds <= _MAX_RETRY_AFTER_SECONDS:
        return ""
    try:
        until = now + timedelta(seconds=seconds)
    except OverflowError:
        return "a time after the year 9999"
    return until.strftime("%Y-%m-%d %H:%M UTC")


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    value = headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]{1,15}", value.strip()):
        return float(value)
    try:
        until = parsedate_to_datetime(value)
        # A date without a zone is in UTC: HTTP dates are always in GMT (RFC 9110, 5.6.7).
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        # By the server's own clock, where the answer tells it: ours may be wrong.
        return (until - (servers_time(headers) or now)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def rate_limit_reset(headers: Mapping[str, str], now: datetime) -> float | None:
    """X-RateLimit-Reset, in seconds since 1970, held within 1 second and 2 minutes."""
    value = headers.get("x-ratelimit-reset", "")
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", value.strip()):
        return None
    seconds = float(value) - (servers_time(headers) or now).timestamp()
    return min(max(seconds, _MIN_SECONDS), _MAX_RESET_SECONDS)
