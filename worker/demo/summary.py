"""The demo's last words: what arrived, what did not and why, and where to look next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from worker.demo.expectations import Evidence, Shortcoming, companion_of, said
from worker.demo.scenario import Fault, Paper, Way
from worker.demo.workspace import KEPT_RUNS, Place

_RECEIPT = (
    "job_id",
    "assurance",
    "sha256",
    "record.id",
    "record.url",
    "stored.etag_verified",
    "attempts",
    "times.received",
    "times.stored",
    "times.delivered",
)
_ERROR_FILE = ("job_id", "code", "message", "hint", "attempts", "stage", "final")
_INDENT = 4


class Summary:
    def __init__(self, console: Console, place: Place, papers: Sequence[Paper], evidence: Evidence) -> None:
        self._console = console
        self._place = place
        self._papers = papers
        self._evidence = evidence

    def print(self, shortcomings: Sequence[Shortcoming]) -> None:
        self._line()
        if shortcomings:
            self._print_shortcomings(shortcomings)
        else:
            self._print_success()
        self._print_companions()
        self._print_places()

    def _print_success(self) -> None:
        arrived, refused = _split(self._papers)
        self._line(
            f"✔ {len(arrived)} of {len(self._papers)} documents were delivered, each exactly once.", "bold green"
        )
        self._line("The sandbox's charts hold these and no others, byte for byte (SHA-256).", indent=_INDENT)
        for words in self._troubles():
            self._line(words, indent=_INDENT)
        if refused:
            self._line(f"✘ {len(refused)} failed, as expected; in failed/, beside the reason:", "bold yellow")
        for paper in refused:
            end = self._evidence.ends[paper.key]
            self._line(f"{paper.file_name}: {end.code}. {end.message}", indent=_INDENT)

    def _troubles(self) -> Iterator[str]:
        """What the sandbox did to documents that were delivered all the same."""
        faults = [paper.fault for paper in self._papers]
        if Fault.BUSY in faults:
            yield f"The storage was busy {self._evidence.answers('503')} times: the upload was tried again, later."
        if Fault.LOST in faults:
            yield "Its answer to an upload was lost: the record was looked for and found, so nothing was sent twice."
        if Fault.EXPIRED in faults:
            yield "A form had expired: another was asked for."

    def _print_shortcomings(self, shortcomings: Sequence[Shortcoming]) -> None:
        self._line("✘ Not everything met the end that the demo expects:", "bold red")
        for shortcoming in shortcomings:
            self._line(f"{shortcoming.about}: {shortcoming.words}", "red", indent=_INDENT)
        self._path(f"{' ' * _INDENT}The logs are in {self._place.logs}")

    def _print_companions(self) -> None:
        """One receipt and one error file, with some of what they say."""
        arrived, refused = _split([paper for paper in self._papers if paper.way is Way.INBOX])
        if arrived:
            self._print_companion("A receipt, shortened", arrived[0], _RECEIPT)
        if refused:
            self._print_companion("An error file, shortened", refused[0], _ERROR_FILE)

    def _print_companion(self, what: str, paper: Paper, names: Sequence[str]) -> None:
        path, content = companion_of(paper, self._place.data), said(companion_of(paper, self._place.data))
        self._line()
        self._path(f"{what}: {path.relative_to(self._place.data)}", "bold")
        values = {name: _value(content, name) for name in names}
        if self._console.is_terminal:
            self._console.print(Padding.indent(_grid(values), _INDENT))
        else:
            for name, value in values.items():
                self._path(f"{' ' * _INDENT}{name:<22}{value}")

    def _print_places(self) -> None:
        self._line()
        self._path(f"Look around: {self._place.data}", "bold")
        self._line(
            "delivered/ and failed/ hold the documents, with receipts and error files beside them.", indent=_INDENT
        )
        self._line(f"Settings and logs are one folder up. The last {KEPT_RUNS} runs are kept.", indent=_INDENT)
        self._line("Read next: README.md; sandbox/README.md has what else can go wrong here.", "bold")

    def _line(self, words: str = "", style: str = "", indent: int = 0) -> None:
        """A sentence, wrapped for people and left in one piece for a log."""
        if words and self._console.is_terminal:
            self._console.print(Padding.indent(Text(words, style=style), indent))
        else:
            self._path(" " * indent + words)

    def _path(self, words: str, style: str = "") -> None:
        """A line with a path, which stays in one piece, so that it can be copied."""
        self._console.print(Text(words, style=style), soft_wrap=True)


def _split(papers: Sequence[Paper]) -> tuple[list[Paper], list[Paper]]:
    """Those to be delivered, and those to fail."""
    return [paper for paper in papers if not paper.ends], [paper for paper in papers if paper.ends]


def _grid(values: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        table.add_row(Text(name, style="dim"), Text(value, overflow="fold"))
    return table


def _value(content: Mapping[str, Any], name: str) -> str:
    """What stands under `outer.inner`, as a person reads it."""
    value: Any = content  # Any: what JSON may hold
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
