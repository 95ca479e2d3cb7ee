"""One run of the demo, from the first process to the last word."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from config.load import load
from tasks.runtime import Runtime
from worker.demo.clients import Doors, Witness
from worker.demo.expectations import End, Evidence, judge
from worker.demo.processes import VALIDATION_SECONDS, DemoFailed, Interrupted, Processes, stop_signals
from worker.demo.scenario import Paper
from worker.demo.screen import screen_for
from worker.demo.summary import Summary
from worker.demo.tracker import Lookout
from worker.demo.workspace import Place, new_place
from worker.supervisor.run import consuming_check

_LOOK_SECONDS = 0.12
_BETWEEN_DOCUMENTS_SECONDS, _SENDING_SECONDS = 0.25, 8.0
_PATIENCE_SECONDS = 60.0
_PATIENCE_PER_DOCUMENT_SECONDS = 0.5
_SECOND_COPY_SECONDS = 2 * VALIDATION_SECONDS


def play(papers: Sequence[Paper], *, keep: bool = False) -> int:
    """Send these documents and watch them to their ends. Returns the exit code; no process is left in any case."""
    console = _console()
    with stop_signals() as asked_to_stop, new_place() as place:
        try:
            return _Play(papers, place, console, asked_to_stop).run(keep=keep)
        except Interrupted:
            console.print("Stopped before the end. All processes have ended.", soft_wrap=True)
        except DemoFailed as error:
            click.echo(str(error), err=True)
        return 1


class _Play:
    def __init__(self, papers: Sequence[Paper], place: Place, console: Console, asked_to_stop: threading.Event) -> None:
        self._papers = papers
        self._place = place
        self._console = console
        self._screen = screen_for(console)
        self._processes = Processes(place, asked_to_stop, self._screen.tick)

    def run(self, *, keep: bool) -> int:
        """Raises DemoFailed and Interrupted."""
        with self._processes:
            with self._screen:
                witness = self._start()
                flower = self._start_flower() if keep else ""
                evidence = self._watch(witness)
            shortcomings = judge(self._papers, evidence)
            Summary(self._console, self._place, self._papers, evidence).print(shortcomings)
            if keep:
                self._keep(flower, witness)
            with self._console.status("Stopping all processes, in order"):
                killed = self._processes.stop()
        self._say(f"Had to be killed: {', '.join(killed)}." if killed else "All processes have ended.")
        return 1 if shortcomings or killed else 0

    # --- the beginning -----------------------------------------------------------------------------------------

    def _start(self) -> Witness:
        doing = self._screen.doing
        with doing("Starting the sandbox: a practice system and its storage", "The sandbox was started"):
            sandbox = self._processes.start_sandbox()
            self._place.write_settings(sandbox)
        with doing("Starting chartpost run: Valkey, worker, inbox watcher, stream intake", "chartpost run was started"):
            self._processes.start_run()
            self._processes.until((self._place.data / "redis.url").exists, "Valkey")
            self._runtime = Runtime(load(self._place.settings, {}))
            self._processes.until(consuming_check(self._runtime), "The worker")
        return Witness(sandbox)

    def _start_flower(self) -> str:
        with self._screen.doing("Starting Flower", "Flower was started"):
            return self._processes.start_flower()

    # --- documents on their way --------------------------------------------------------------------------------

    def _watch(self, witness: Witness) -> Evidence:
        doors, lookout = Doors(self._place, self._runtime.redis_url), Lookout(self._runtime, self._papers)
        deadline = time.monotonic() + _PATIENCE_SECONDS + _PATIENCE_PER_DOCUMENT_SECONDS * len(self._papers)
        doing = self._screen.doing
        self._screen.show(lookout.sights)
        between = min(_BETWEEN_DOCUMENTS_SECONDS, _SENDING_SECONDS / len(self._papers))
        with doing("Sending: into the inbox, by a Celery call, over the Redis stream", "All documents were sent"):
            began = time.monotonic()
            for number, paper in enumerate(self._papers, start=1):
                doors.send(paper)
                lookout.sent(paper)
                self._look_until(began + number * between, lookout)
        with doing("Waiting until every document has met its end", "The wait for the documents was over"):
            while not lookout.all_ended and time.monotonic() < deadline:
                self._look(lookout)
        with doing("Waiting a little longer: a second copy would show now", "Second copies would have shown by now"):
            self._look_until(time.monotonic() + _SECOND_COPY_SECONDS, lookout)
        return self._evidence(lookout, doors, witness)

    def _look_until(self, moment: float, lookout: Lookout) -> None:
        while time.monotonic() < moment:
            self._look(lookout)

    def _look(self, lookout: Lookout) -> None:
        lookout.look()
        self._screen.show(lookout.sights)
        self._processes.check()
        self._processes.pause(_LOOK_SECONDS)

    def _evidence(self, lookout: Lookout, doors: Doors, witness: Witness) -> Evidence:
        return Evidence(
            data=self._place.data,
            ends={sight.paper.key: End.of(sight.job) for sight in lookout.sights if sight.job},
            charts=witness.charts(),
            requests=witness.requests(),
            leaks=witness.leaks(),
            results=doors.results(),
        )

    # --- the end -----------------------------------------------------------------------------------------------

    def _keep(self, flower: str, witness: Witness) -> None:
        """Leave everything running until asked to stop."""
        self._say("")
        self._say("Everything goes on running. Put files into the inbox and watch them go:")
        self._say(f"    inbox     {self._place.data / 'inbox'}/<account>/<patient id>/")
        self._say(f"    commands  {_command()} --config {self._place.settings} jobs")
        self._say(f"    Flower    {flower}")
        self._say(f"    charts    {witness.address}/charts")
        self._say("Ctrl-C ends all of it.")
        try:
            while True:
                self._processes.check()
                self._processes.pause(_LOOK_SECONDS)
        except Interrupted:
            self._say("Stopping.")

    def _say(self, words: str) -> None:
        self._console.print(words, soft_wrap=True, markup=False, highlight=False)


def _command() -> str:
    """How `chartpost` can be started from anywhere, as far as it is installed beside this interpreter."""
    installed = Path(sys.executable).with_name("chartpost")
    return str(installed) if installed.exists() else f"{sys.executable} -m worker"


def _console() -> Console:
    """Whatever the terminal cannot show becomes a question mark, not an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False)
