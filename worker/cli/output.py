"""What a command prints: tables for people at a terminal, tab-separated lines for a pipe, JSON with `--json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from worker.cli.printable import printable

_GAP = 2
_LEAST_WIDTH = 30  # of the last column, for it to be folded


class Output:
    """What people read. `JsonOutput` is the same for programs; the option `--json` decides once which of them it is."""

    @property
    def at_terminal(self) -> bool:
        """True if a person reads it as it is printed: in columns that fit, with colour, and not too much."""
        return sys.stdout.isatty()

    def rows(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """Print a list: a table at a terminal, else lines with tabs. JSON holds all that a row has, not only these."""
        if sys.stdout.isatty():
            _print_table(columns, rows)
            return
        for row in rows:
            click.echo("\t".join(printable(row.get(column)) or "-" for column in columns))

    def summary(self, text: str) -> None:
        """A last line that sums up a list. Not among the lines that a pipe gets: all of them have the same columns."""
        note(text)

    def sheet(self, values: Mapping[str, Any]) -> None:
        """Print one thing: a line for each value that is there. Nested ones are named `outer.inner`."""
        # The names too: those of a receipt or an error file are whatever somebody has written there.
        lines = [(printable(name), printable(value)) for name, value in _flat(values) if value not in (None, "")]
        width = max((len(name) for name, _ in lines), default=0)
        for name, text in lines:
            click.echo(f"{click.style(name.ljust(width), dim=True)}  {text}")

    def accepted(self, values: Mapping[str, Any]) -> None:
        """Print a job that is on its way now, given in the fields of the public contract."""
        click.echo(values["id"])
        note(f"It is on its way. To see how far it has come: chartpost show {values['id']}")

    def error(self, values: Mapping[str, Any]) -> None:
        """Print why a document cannot be sent or has failed, given in the fields of an error file."""
        note(f"Error: {values['code']}: {values['message']} {values['hint']}".rstrip())
        if values["job_id"]:
            note(f"All details: chartpost show {values['job_id']}")


class JsonOutput(Output):
    """One object a line."""

    at_terminal = False

    def rows(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self.sheet(row)

    def summary(self, text: str) -> None:
        """Nothing: a program counts itself."""

    def sheet(self, values: Mapping[str, Any]) -> None:
        click.echo(json.dumps(values, default=str))

    accepted = error = sheet


output_option = click.option(
    "--json",
    "output",
    is_flag=True,
    callback=lambda _context, _option, as_json: JsonOutput() if as_json else Output(),
    help="One JSON object a line.",
)


def note(text: str) -> None:
    """A sentence for the person at the terminal: on standard error, so that a pipe gets only the output."""
    click.echo("\n".join(map(printable, text.split("\n"))), err=True)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            # A job is shown together with its receipt or error file, which repeats most of the job's own fields.
            new = {inner: item for inner, item in value.items() if not _repeats(values, inner, item)}
            yield from _flat(new, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield from _flat({str(number): item for number, item in enumerate(value, start=1)}, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _repeats(outer: Mapping[str, Any], name: str, value: object) -> bool:
    name_there = "id" if name == "job_id" else name
    return name_there in outer and outer[name_there] == value


def _print_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    # Late: what a pipe gets is printed without rich, which takes a tenth of a second to import.
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    texts = [[_cell(column, row.get(column)) for column in columns] for row in rows]
    if not texts:
        return
    *widths, last = (max(map(cell_len, cells)) + _GAP for cells in zip(columns, *texts, strict=True))
    console = Console()
    if console.width < sum(widths) + min(last, _LEAST_WIDTH):
        # Too narrow for folding the last column: print whole lines and let the terminal break them. Cells of a few
        # characters would be harder to read, and ids could not be copied.
        console = Console(width=sum(widths) + last, soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column != columns[-1])
    for row in texts:
        table.add_row(*map(Text, row))  # as Text, or rich would read [brackets] in a file name as its markup
    console.print(table, crop=False)


def _cell(column: str, value: object) -> str:
    text = printable(value)
    # Times to the second, in UTC as everywhere; JSON has them whole.
    return text[:19].replace("T", " ") if column.endswith("_at") else text
