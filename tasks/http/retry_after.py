"""How long an answer asks us to wait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MIN_SECONDS = 1.0
_MAX_RETRY_AFTER_SECONDS = 3600.0
_MAX_RESET_SECONDS = 120.0  # the value is a time of the server's clock, which may differ from ours


def asked_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that an answer asks us to wait, by Retry-After or else X-RateLimit-Reset; None if it does not say."""
    wait = retry_after(headers.get("retry-after", ""), now)
    return rate_limit_reset(headers.get("x-ratelimit-reset", ""), now) if wait is None else wait


def retry_after(value: str, now: datetime) -> float | None:
    """Retry-After, in seconds or as an HTTP date (RFC 9110, 10.2.3), held within 1 second and 1 hour."""
    if re.fullmatch(r"[0-9]{1,15}", value.strip()):
        seconds = float(value)
    else:
        try:
            until = parsedate_to_datetime(value)
            # A date without a zone is in UTC: HTTP dates are always in GMT (RFC 9110, 5.6.7).
            seconds = ((until if until.tzinfo else until.replace(tzinfo=UTC)) - now).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return min(max(seconds, _MIN_SECONDS), _MAX_RETRY_AFTER_SECONDS)


def rate_limit_reset(value: str, now: datetime) -> float | None:
    """X-RateLimit-Reset, in seconds since 1970, held within 1 second and 2 minutes."""
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", value.strip()):
        return None
    return min(max(float(value) - now.timestamp(), _MIN_SECONDS), _MAX_RESET_SECONDS)
