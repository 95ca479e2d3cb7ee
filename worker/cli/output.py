"""What a command prints: tables for people at a terminal, tab-separated lines for a pipe, JSON where asked for."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

_GAP = 2
_LEAST_WIDTH = 30  # of the last column, for it to be folded

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def print_json(values: Mapping[str, Any]) -> None:
    click.echo(json.dumps(values, default=str))


def print_rows(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    """Rows of a list; people see these columns, JSON holds all that a row has."""
    if as_json:
        for row in rows:
            print_json(row)
    elif sys.stdout.isatty():
        _print_table(columns, rows)
    else:
        for row in rows:
            click.echo("\t".join(shown(row.get(column)) or "-" for column in columns))


def print_sheet(values: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing, a line for each of its values that is there; what is nested stands under `outer.inner`."""
    if as_json:
        print_json(values)
        return
    lines = [(name, shown(value)) for name, value in _flat(values) if value not in (None, "")]
    width = max((len(name) for name, _ in lines), default=0)
    for name, text in lines:
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {text}")


def note(text: str) -> None:
    """A sentence beside the output, for whoever sits there."""
    click.echo(text, err=True)


def shown(value: object) -> str:
    """A value as a person reads it, without characters that would move the cursor or cannot be printed."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "".join(" " if char in "\t\n" else char if _is_printed(char) else "�" for char in str(value))


def _is_printed(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cs")


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif isinstance(value, list | tuple):
            yield from _flat({str(place): item for place, item in enumerate(value, start=1)}, f"{above}{name}.")
        else:
            yield above + name, value


def _print_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Only the last column is folded; where that leaves it too little room, the terminal breaks the lines itself."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    texts = [[_short(column, shown(row.get(column))) for column in columns] for row in rows]
    if not texts:
        return
    *widths, last = (max(map(cell_len, cells)) + _GAP for cells in zip(columns, *texts, strict=True))
    console, needed = Console(), sum(widths) + min(last, _LEAST_WIDTH)
    if console.width < needed:
        console = Console(width=sum(widths) + last, soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column != columns[-1])
    for row in texts:
        table.add_row(*map(Text, row))
    console.print(table, crop=False)


def _short(column: str, text: str) -> str:
    """Times to the second; UTC, as everywhere."""
    return text[:19].replace("T", " ") if column.endswith("_at") else text
