"""A table that fits the terminal: one line for each row, or a last column of sentences, whose words go on below.

What is too long ends in an ellipsis. Where the terminal is too narrow for all columns, the least important are left
out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from worker.cli.printable import printable

_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `text` gives its cell of a row; `style` is rich's, such as "red", or empty."""

    name: str
    text: Callable[[Mapping[str, Any]], object]
    # It shares the room that is left with the others of its kind and ends in an ellipsis. False: it is never cut.
    flexible: bool = False
    # A flexible one is left out rather than made narrower, and gets no more room than `most` while others need it.
    least: int = 6
    most: int = 60
    # The column with the highest number is left out first; those with 0 always stay.
    dispensable: int = 0
    # Sentences that are read whole: they go on in the next line instead of ending in an ellipsis.
    wraps: bool = False
    style: Callable[[Mapping[str, Any]], str] = lambda row: ""
    right: bool = False


def print_table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows under the columns' names; nothing without rows."""
    for line in table_lines(columns, rows, Console()) if rows else ():
        click.echo(line, color=True)  # rich has left out colours where they do not belong


def table_lines(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], console: Console) -> list[str]:
    """Rows under the columns' names, as wide as the console at most. At least one row."""
    cells = {column.name: [printable(column.text(row)) for row in rows] for column in columns}
    # A column without a cell says nothing.
    columns = [column for column in columns if any(cells[column.name])]
    widths = {column.name: max(map(cell_len, [column.name, *cells[column.name]])) for column in columns}
    columns = _that_fit(columns, widths, console.width)
    # Spread over the whole width only if there is too little room: else each column is as wide as its content.
    narrow = sum(widths[column.name] + _GAP for column in columns) > console.width
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="none", expand=narrow)
    for column in columns:
        width, least = widths[column.name], _least(column, widths)
        # As much of the room that is left as its content needs, beside what that of the others needs.
        ratio = min(width, column.most) if narrow and least < width else None
        justify: JustifyMethod = "right" if column.right else "default"  # "left" would pad with spaces in the style
        table.add_column(
            Text(column.name, style="bold"),
            no_wrap=not column.wraps,
            overflow="fold" if column.wraps else "ellipsis",
            justify=justify,
            # For rich, the least width of a column with a ratio is its `width`.
            width=least if ratio else None,
            min_width=least,
            ratio=ratio,
        )
    for number, row in enumerate(rows):
        # As Text, or rich would read [brackets] in a file name as its markup.
        table.add_row(*(Text(cells[column.name][number], style=column.style(row)) for column in columns))
    with console.capture() as printed:
        console.print(table)
    # Without the padding, which a narrower window would break into blank lines.
    return [line.rstrip() for line in printed.get().splitlines()]


def _that_fit(columns: Iterable[Column], widths: Mapping[str, int], room: int) -> list[Column]:
    kept = list(columns)

    def needed() -> int:
        return sum(_least(column, widths) + _GAP for column in kept)

    while needed() > room and any(column.dispensable for column in kept):
        kept.remove(max(kept, key=lambda column: column.dispensable))
    return kept


def _least(column: Column, widths: Mapping[str, int]) -> int:
    return min(column.least, widths[column.name]) if column.flexible else widths[column.name]
