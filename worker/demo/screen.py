"""What the demo shows while it runs: a table that is redrawn on a terminal, else a line for each change."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tasks.model.route import Stage
from worker.demo.tracker import READY, Progress

_STYLES = {READY: "dim", Stage.DELIVERED: "green", Stage.FAILED: "yellow"}
_OTHER_LINES = 5  # on the screen: headings, tally and spinner


class Screen:
    """Close it before anything else is printed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._shown: dict[tuple[str, str], Progress] = {}
        self._spinner = Spinner("dots", style="cyan")
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            # Without rich's refreshing thread, since child processes are forked meanwhile: `tick` redraws.
            self._live = Live(console=console, auto_refresh=False)
            self._live.start()

    def say(self, what: str) -> None:
        """What the demo does from now on."""
        self._spinner.update(text=Text(what))
        self._line(what)
        self.tick()

    def show(self, documents: Sequence[Progress]) -> None:
        for progress in documents:
            before = self._shown.get(progress.document.key)
            self._shown[progress.document.key] = progress
            if before and (before.stage, before.note, before.ended) != (progress.stage, progress.note, progress.ended):
                patient, name, *rest = _cells(progress)
                self._line(f"{patient:<14}  {name:<20}  " + "; ".join(cell for cell in rest if cell))
        self.tick()

    def tick(self) -> None:
        """Show that time passes."""
        if self._live and self._live.is_started:
            rows, room = [*self._shown.values()], max(3, self._console.height - _OTHER_LINES)
            if len(rows) > room:
                rows.sort(key=lambda progress: progress.ended)  # those under way are shown
            table = self._table(rows[:room], no_wrap=True)
            self._live.update(Group(table, self._spinner), refresh=True)

    def close(self) -> None:
        """May be repeated."""
        if self._live and self._live.is_started:
            self._live.update(self._table([*self._shown.values()], no_wrap=False), refresh=True)
            self._live.stop()

    def _table(self, rows: Sequence[Progress], *, no_wrap: bool) -> Group:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
        for heading in ("patient", "document", "stage", ""):
            table.add_column(heading, no_wrap=True)
        table.add_column("note", no_wrap=no_wrap, ratio=1)
        for each in rows:
            style = "bold red" if each.ended and not each.as_expected else _STYLES.get(each.stage, "cyan")
            table.add_row(*_cells(each), style=style)
        counts = Counter(each.stage if each.ended else "on their way" for each in self._shown.values())
        tally = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
        return Group(table, Text(f"{time.monotonic() - self._began:.0f} s: {tally}", style="dim"))

    def _line(self, words: str) -> None:
        if self._live is None:
            seconds = f"{time.monotonic() - self._began:5.1f} s"
            self._console.print(f"{seconds}  {words}", soft_wrap=True, markup=False, highlight=False)


def _cells(progress: Progress) -> tuple[str, str, str, str, str]:
    attempts = f"{progress.attempts} attempt{'s' if progress.attempts != 1 else ''}" if progress.attempts else ""
    unexpected = "NOT as expected: " if progress.ended and not progress.as_expected else ""
    document = progress.document
    return document.patient_id, document.file_name, str(progress.stage), attempts, unexpected + progress.note
