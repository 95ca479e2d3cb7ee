"""`python -m tests.benchmarks.plots RUN.json [RUN.json]`: the plots of docs/performance.md.

A run is what `make bench BENCH="--json"` has printed. Draws `targets.svg` (each row with a target, beside that target)
and `looks.svg` (what looking for records costs and how late it finds them, from the simulation in `polling.py`).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tests.benchmarks import polling
from tests.benchmarks.table import shown

FOLDER = Path(__file__).parents[2] / "docs" / "performance"
_WIDTH = 960
_LEFT = 470  # of the bars; names stand before them
_ROW = 26
_MOST = 4.0  # so many times its target is the end of the scale
_GOOD, _BAD, _INK = "#2b7a4b", "#b5482f", "#222222"


def main(arguments: Sequence[str] | None = None) -> None:
    runs = [json.loads(Path(name).read_text())["rows"] for name in arguments or sys.argv[1:]]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "targets.svg").write_text(targets(runs))
    (FOLDER / "looks.svg").write_text(looks())


def targets(runs: Sequence[Sequence[dict[str, Any]]]) -> str:
    """One line for each row that has a target: how far each run is from it. Left of the line it is held."""
    rows = [row for row in runs[0] if row["held"] is not None]
    scale = (_WIDTH - _LEFT - 90) / math.log2(_MOST * 4)

    def place(share: float) -> float:
        return _LEFT + scale * math.log2(min(max(share, 1 / 4), _MOST) * 4)

    parts = [_text(_LEFT, 18, "a quarter of the target"), _text(place(1), 18, "the target"), _text(place(4), 18, "4 ×")]
    bottom = 30 + _ROW * len(rows)
    parts.append(_line(place(1), 24, place(1), bottom, _INK))
    for number, row in enumerate(rows):
        y = 30 + _ROW * number
        parts.append(_text(_LEFT - 10, y + 16, row["what"], end=True))
        again = [other for run in runs for other in run if other["what"] == row["what"]]
        height = _ROW / len(runs) - 4
        for each, other in enumerate(again):
            colour = _GOOD if other["held"] else _BAD
            width = place(share_of_target(other)) - _LEFT
            parts.append(_bar(_LEFT, y + each * (height + 2) + 2, width, height, colour))
        end = max(place(share_of_target(other)) for other in again)
        parts.append(_text(end + 6, y + 16, f"{shown(row['measured'])} {row['unit']}"))
    return _svg(bottom + 10, parts, "What was measured, beside its target")


def share_of_target(row: dict[str, Any]) -> float:
    """1: as wanted. Above, it is missed by that factor, whichever way the target goes."""
    measured = float(row["measured"])
    if row["at_most"] is not None:
        return measured / float(row["at_most"])
    return float(row["at_least"]) / max(measured, 1e-9)


def looks() -> str:
    """Calls a document against the seconds from its record to `delivered`, as docs/architecture.md has them."""
    points = [
        (name, documents, learns, polling.simulate(took, documents, learns=learns))
        for name, took in polling.VALIDATIONS.items()
        for documents in polling.DOCUMENTS
        for learns in (False, True)
    ]
    bottom, left, right = 420, 70, _WIDTH - 40

    def across(calls: float) -> float:
        return left + (right - left) * calls / 11

    def up(seconds: float) -> float:
        return bottom - (bottom - 40) * math.log10(max(seconds, 0.1) * 10) / math.log10(500)

    parts = [_line(left, bottom, right, bottom, _INK), _line(left, 40, left, bottom, _INK)]
    parts += [_text(across(calls), bottom + 20, f"{calls}") for calls in range(2, 11, 2)]
    parts += [_text(left - 8, up(seconds) + 4, f"{seconds:g} s", end=True) for seconds in (0.1, 0.5, 1, 5, 10, 50)]
    parts.append(_text(right, bottom + 40, "provider calls a document", end=True))
    parts.append(_text(left, 24, "from the record to delivered, median; red: doubling pauses, green: learned"))
    for name, documents, learns, outcome in points:
        x, y = across(outcome.calls), up(outcome.median_delay)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{_GOOD if learns else _BAD}"/>')
        parts.append(_text(x + 10, y + 4, f"{name}, {documents} of a patient"))
    return _svg(bottom + 60, parts, "Calls and delay of looking for records")


def _svg(height: float, parts: Iterable[str], title: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" font-family="sans-serif"'
    background = f'<rect width="{_WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
    lines = [f'{head} font-size="13">', f"<title>{escape(title)}</title>", background, *parts, "</svg>"]
    return "\n".join(lines) + "\n"


def _text(x: float, y: float, text: str, *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{_INK}"{anchor}>{escape(text)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float, colour: str) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}"/>'


def _bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


if __name__ == "__main__":
    main()
