"""What the demo shows while it runs: a live table on a terminal, else a line for each thing that has happened."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tasks.model.route import Stage
from worker.demo.tracker import Sight, Waits

_ICONS: dict[str, tuple[str, str]] = {
    Waits.READY: ("·", "dim"),
    Waits.SENT: ("○", "cyan"),
    Waits.INBOX: ("○", "cyan"),
    Stage.RECEIVED: ("◔", "cyan"),
    Stage.PRESIGNED: ("◑", "blue"),
    Stage.STORED: ("◕", "magenta"),
    Stage.DELIVERED: ("✔", "green"),
    Stage.FAILED: ("✘", "yellow"),
}
_UNEXPECTED = ("✘", "bold red")
_ATTEMPTS = "Attempts: how often sending it was tried."
_LINES_BESIDE_ROWS = 7


class Screen(Protocol):
    """`doing` tells what the demo does, and when it is done; `show` shows the documents; `tick` that time passes."""

    def doing(self, what: str, done: str) -> AbstractContextManager[None]: ...
    def show(self, sights: Sequence[Sight]) -> None: ...
    def tick(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


def screen_for(console: Console) -> Screen:
    if console.is_terminal and not console.is_dumb_terminal:
        return TableScreen(console)
    return LineScreen(console)


class TableScreen:
    """Redrawn by `tick` and `show` alone, without a thread: child processes are started meanwhile."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._sights: Sequence[Sight] = ()
        self._says = Spinner("dots", style="cyan")
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.update(self._frame(self._sights, "", fold=True) if self._sights else "", refresh=True)
        self._live.stop()

    @contextmanager
    def doing(self, what: str, done: str) -> Iterator[None]:
        self._says.update(text=Text(what))
        self.tick()
        yield

    def show(self, sights: Sequence[Sight]) -> None:
        self._sights = sights
        self.tick()

    def tick(self) -> None:
        if not self._live.is_started:
            return
        room = max(3, self._console.height - _LINES_BESIDE_ROWS)
        shown, hidden = _most_interesting(self._sights, room)
        self._live.update(self._frame(shown, hidden, self._says), refresh=True)

    def _frame(self, sights: Sequence[Sight], hidden: str, *below: Spinner, fold: bool = False) -> Group:
        seconds = f"{time.monotonic() - self._began:.0f} s"
        lines = [hidden, f"{seconds}: {tally(self._sights)}. {_ATTEMPTS}"] if sights else []
        table = [_table(sights, fold)] if sights else []
        return Group(*table, *(Text(line, style="dim") for line in lines if line), *below)


def _table(sights: Sequence[Sight], fold: bool) -> Table:
    """A row for each; `fold` shows long notes on several lines, else every row is one line."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", expand=True)
    table.add_column("patient", no_wrap=True)
    table.add_column("document", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("stage", no_wrap=True)
    table.add_column("attempts", justify="right", no_wrap=True)
    table.add_column("note", no_wrap=not fold, ratio=1)
    for sight in sights:
        icon, style = _look_of(sight)
        note = Text(sight.note, style=style if sight.ended else "dim")
        stage = Text(f"{icon} {sight.stage}", style=style)
        attempts = str(sight.attempts) if sight.attempts else ""
        paper = sight.paper
        table.add_row(paper.patient_id, paper.file_name, size(len(paper.content)), stage, attempts, note)
    return table


def _look_of(sight: Sight) -> tuple[str, str]:
    if sight.as_expected is False:
        return _UNEXPECTED
    return _ICONS.get(sight.stage, ("?", ""))


def _most_interesting(sights: Sequence[Sight], room: int) -> tuple[Sequence[Sight], str]:
    """As many as there is room for, those on their way first; and a word about the others."""
    if len(sights) <= room:
        return sights, ""
    order = sorted(sights, key=lambda sight: (sight.ended, sight.stage == Waits.READY))
    kept = {sight.paper.key for sight in order[:room]}
    hidden = order[room:]
    return [sight for sight in sights if sight.paper.key in kept], f"and {len(hidden)} more: {tally(hidden)}"


class LineScreen:
    """For a pipe or a log: past events, each on a line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._before: dict[tuple[str, str], Sight] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    @contextmanager
    def doing(self, what: str, done: str) -> Iterator[None]:
        yield
        self._line(done)

    def show(self, sights: Sequence[Sight]) -> None:
        for sight in sights:
            before = self._before.get(sight.paper.key)
            self._before[sight.paper.key] = sight
            if before and _told(before) != _told(sight):
                self._line(_sentence(sight))

    def tick(self) -> None: ...

    def _line(self, what: str) -> None:
        self._console.print(
            f"{time.monotonic() - self._began:5.1f} s  {what}", soft_wrap=True, markup=False, highlight=False
        )


def _told(sight: Sight) -> tuple[object, ...]:
    """What makes another line when it changes."""
    return (sight.stage, sight.note, sight.ended)


def _sentence(sight: Sight) -> str:
    paper = sight.paper
    notes = [sight.note] if sight.note else []
    if sight.ended:
        notes.append(f"{sight.attempts} attempt{'s' if sight.attempts != 1 else ''}")
        notes += [] if sight.as_expected else ["NOT as expected"]
    return f"{paper.patient_id:<16} {paper.file_name:<20} {sight.stage:<10} {'; '.join(notes)}".rstrip()


def tally(sights: Sequence[Sight]) -> str:
    """How many have come how far: `7 delivered, 2 failed, 3 on their way`."""
    counts = Counter(sight.stage if sight.ended else "on their way" for sight in sights)
    order = (Stage.DELIVERED, Stage.FAILED, "on their way")
    return ", ".join(f"{counts[stage]} {stage}" for stage in order if counts[stage])


def size(number: int) -> str:
    """Bytes as people read them: 512 B, 39 kB, 1.2 MB."""
    if number < 1000:
        return f"{number} B"
    return f"{number / 1000:.0f} kB" if number < 1_000_000 else f"{number / 1_000_000:.1f} MB"
