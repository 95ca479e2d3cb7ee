"""Times in headers, read strictly: what cannot be read tells nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# The only form that servers may write (IMF-fixdate; RFC 9110, 5.6.7).
_WRITTEN = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) (" + "|".join(_MONTHS) + r") ([0-9]{4}) "
    r"([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)


def http_date(value: str) -> datetime | None:
    """The time that a header such as Date holds; None if it is missing or written in another way."""
    match = _WRITTEN.fullmatch(value.strip())
    if match is None:
        return None
    day, month, year, hour, minute, second = match.groups()
    try:
        at = datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), tzinfo=UTC)
        return at.replace(second=min(int(second), 59))  # 60: a leap second
    except ValueError:
        return None


def servers_time(headers: Mapping[str, str]) -> datetime | None:
    """When the server answered, by its own clock. None if it does not say, or if the answer comes from a cache."""
    return None if "age" in headers else http_date(headers.get("date", ""))
