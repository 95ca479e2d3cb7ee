"""The rows of `make bench`: what was measured, what it should be, and whether it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

HEAD = ("what", "target", "measured", "held")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Without a target it is there to be read with the others."""

    what: str
    measured: float
    # Behind the number: "×" for a ratio, else a unit.
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    # The numbers that a ratio was made of.
    detail: str = ""

    @property
    def held(self) -> bool | None:
        if self.at_most is not None:
            return self.measured <= self.at_most
        if self.at_least is not None:
            return self.measured >= self.at_least
        return None

    def cells(self) -> tuple[str, str, str, str]:
        target = ""
        if self.at_most is not None:
            target = f"≤ {shown(self.at_most)} {self.unit}"
        elif self.at_least is not None:
            target = f"≥ {shown(self.at_least)} {self.unit}"
        held = {True: "yes", False: "no", None: ""}[self.held]
        detail = f" ({self.detail})" if self.detail else ""
        return self.what, target, f"{shown(self.measured)} {self.unit}{detail}", held

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "measured": self.measured,
            "unit": self.unit,
            "at_most": self.at_most,
            "at_least": self.at_least,
            "held": self.held,
            "detail": self.detail,
        }


def table(rows: Sequence[Row]) -> str:
    """A Markdown table whose columns line up."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    written = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    written.insert(1, "|" + "|".join("-" * (width + 2) for width in widths))
    return "\n".join(f"{line} |" if not line.startswith("|-") else f"{line}|" for line in written)


def shown(number: float) -> str:
    """Two digits that say something, three from 1 on: 0.034, 0.65, 14.2, 1,600."""
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    if abs(number) >= 100:
        return f"{number:,.0f}"
    decimals = (2 if abs(number) >= 1 else 1) - math.floor(math.log10(abs(number)))
    text = f"{number:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of each round: what slows a round down slows both of it."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
