"""How times, sizes and ages are written on the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any


def moment(time: datetime | None) -> str:
    """A time as the clinic's clock has it, to the minute; year first, so that nobody reads a day as a month."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M") if time else ""


def machine_moment(time: datetime | None) -> str:
    """The same for programs: of the attribute `datetime`."""
    return time.astimezone(UTC).isoformat(timespec="seconds") if time else ""


FILTERS: Mapping[str, Callable[..., Any]] = {"moment": moment, "machine_moment": machine_moment}
