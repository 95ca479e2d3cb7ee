"""Moments and durations as people write and read them: dates, ages such as `7d`, local time with its zone."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import click

_AGE = re.compile(r"(\d{1,6}) ?([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


class Moment(click.ParamType[Any]):
    """A moment in the past: a date, a date-time, or an age. Without a zone it is in this machine's.

    A date is the beginning of that day; with `whole_day` the end of it, so that `--until` a day has that day too.
    """

    name = "time"

    def __init__(self, *, whole_day: bool = False) -> None:
        self._whole_day = whole_day

    # click declares it with Any, and so must this.
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, datetime):
            return value
        text = str(value).strip()
        try:
            if age := _AGE.fullmatch(text):
                return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
            if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
                day = date.fromisoformat(text) + timedelta(days=int(self._whole_day))
                return datetime.combine(day, time()).astimezone(UTC)
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            self.fail(f"{text} is not a date, a date-time or an age: write 2026-11-30, 2026-11-30T08:15 or 7d.")


def zone_of(moments: Collection[datetime]) -> str:
    """The short name of this machine's time zone; '' if these moments have several, as in summer and winter."""
    names = {moment.astimezone().tzname() or "" for moment in moments}
    return names.pop() if len(names) == 1 else ""


def local_time(moment: datetime, zone: str = "") -> str:
    """To the minute, in this machine's time zone, such as `30 Nov 08:15`. Its name too, unless it is `zone`."""
    here = moment.astimezone()
    # By hand: strftime's month would be in the language of the locale.
    text = f"{here.day:2} {MONTHS[here.month - 1]} {here:%H:%M}"
    return text if zone and here.tzname() == zone else f"{text} {here.tzname()}"


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def age(seconds: float) -> str:
    """A duration in one or two digits and a unit: `8 s`, `45 min`, `36 h`, `12 d`."""
    seconds = max(0.0, seconds)
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds // _MINUTE:.0f} min"
    return f"{seconds // _HOUR:.0f} h" if seconds < 2 * _DAY else f"{seconds // _DAY:.0f} d"


def duration(seconds: float) -> str:
    """As `age`, and shorter ones with a decimal: `3.4 s`."""
    return f"{seconds:.1f} s" if seconds < 10 else age(seconds)
