"""One run of the demo, from the first process to the last word."""

from __future__ import annotations

import io
import sys
import time
import tomllib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from config.load import load
from tasks.runtime import Runtime
from worker.demo.clients import SandboxPages, Senders
from worker.demo.expectations import Evidence, shortcomings
from worker.demo.processes import VALIDATION_SECONDS, DemoFailed, Interrupted, Processes, stop_signals
from worker.demo.scenario import DemoDocument
from worker.demo.screen import Screen
from worker.demo.summary import print_summary
from worker.demo.tracker import Tracker
from worker.demo.workspace import Workspace, new_workspace
from worker.supervisor.run import is_consuming

_POLL_SECONDS = 0.12
_BETWEEN_DOCUMENTS_SECONDS, _SENDING_SECONDS = 0.25, 8.0
_PATIENCE_SECONDS, _PATIENCE_PER_DOCUMENT_SECONDS = 60.0, 0.5
_SECOND_COPY_SECONDS = 2 * VALIDATION_SECONDS


def run(documents: Sequence[DemoDocument], *, keep: bool = False) -> int:
    """Send these documents and watch them to their ends. Returns the exit code; no process is left in any case."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what the terminal cannot show becomes a question mark
    console = Console(highlight=False)
    with stop_signals() as interrupted, new_workspace() as workspace:
        screen = Screen(console)
        processes = Processes(workspace, interrupted, screen.tick)
        try:
            with ExitStack() as stack:
                stack.callback(processes.stop)
                stack.callback(screen.close)
                return _Demo(documents, workspace, processes, console, screen).run(keep=keep)
        except Interrupted:
            console.print("Stopped before the end. All processes have ended.", soft_wrap=True)
        except DemoFailed as error:
            click.echo(str(error), err=True)
        return 1


@dataclass(frozen=True)
class _Demo:
    documents: Sequence[DemoDocument]
    workspace: Workspace
    processes: Processes
    console: Console
    screen: Screen

    def run(self, *, keep: bool) -> int:
        """Raises DemoFailed and Interrupted."""
        pages, runtime = self._start()
        if keep:
            self.screen.say("Starting Flower")
        flower = self.processes.start_flower() if keep else ""
        evidence = self._send_and_watch(pages, runtime)
        self.screen.close()
        found = shortcomings(self.documents, evidence)
        print_summary(self.console, self.workspace, self.documents, evidence, found)
        if keep:
            self._keep_running(flower, pages)
        with self.console.status("Stopping all processes, in order"):
            killed = self.processes.stop()
        self._say(f"Had to be killed: {', '.join(killed)}." if killed else "All processes have ended.")
        return 1 if found or killed else 0

    def _start(self) -> tuple[SandboxPages, Runtime]:
        self.screen.say("Starting the sandbox: practice systems and their storage")
        sandbox = self.processes.start_sandbox()
        self.workspace.write_settings(sandbox)
        self.screen.say("Starting chartpost run: Valkey, worker, inbox watcher, stream intake")
        self.processes.start("chartpost-run", "worker", "run")
        self.processes.wait_until((self.workspace.data / "redis.url").exists, "Valkey")
        runtime = Runtime(load(self.workspace.settings, {}))
        self.processes.wait_until(lambda: is_consuming(runtime.workers), "The worker")
        return SandboxPages(tomllib.loads(sandbox)), runtime

    def _send_and_watch(self, pages: SandboxPages, runtime: Runtime) -> Evidence:
        senders, tracker = Senders(self.workspace, runtime.redis_url), Tracker(runtime, self.documents)
        number = len(self.documents)
        next_at = began = time.monotonic()
        self.screen.show(tracker.progress)
        self.screen.say("Sending documents: into the inbox, by a Celery call, over the Redis stream")
        for document in self.documents:
            senders.send(document)
            tracker.sent(document)
            next_at += min(_BETWEEN_DOCUMENTS_SECONDS, _SENDING_SECONDS / number)
            self._watch_until(next_at, tracker)
        self.screen.say("Waiting until every document has ended")
        deadline = began + _PATIENCE_SECONDS + _PATIENCE_PER_DOCUMENT_SECONDS * number
        while not tracker.all_ended and time.monotonic() < deadline:
            self._watch(tracker)
        self.screen.say("Waiting a little longer: a second copy would show now")
        self._watch_until(time.monotonic() + _SECOND_COPY_SECONDS, tracker)
        return Evidence(
            data=self.workspace.data,
            jobs={progress.document.key: progress for progress in tracker.progress if progress.job_id},
            charts=pages.page("charts")["records"],
            requests=pages.page("requests")["counts"],
            leaks=pages.page("leaks")["leaks"],
            results=senders.results(),
        )

    def _watch_until(self, moment: float, tracker: Tracker) -> None:
        while time.monotonic() < moment:
            self._watch(tracker)

    def _watch(self, tracker: Tracker) -> None:
        tracker.update()
        self.screen.show(tracker.progress)
        self.processes.pause(_POLL_SECONDS)

    def _keep_running(self, flower: str, pages: SandboxPages) -> None:
        """Until Ctrl-C. Raises DemoFailed."""
        installed = Path(sys.executable).with_name("chartpost")
        command = str(installed) if installed.exists() else f"{sys.executable} -m worker"
        self._say("\nEverything goes on running. Put files into the inbox and watch them go:")
        self._say(f"    inbox     {self.workspace.data / 'inbox'}/<account>/<patient id>/")
        self._say(f"    commands  {command} --config {self.workspace.settings} jobs")
        self._say(f"    Flower    {flower}")
        self._say(f"    charts    {pages.address}/charts")
        self._say("Ctrl-C ends all of it.")
        try:
            while True:
                self.processes.pause(_POLL_SECONDS)
        except Interrupted:
            self._say("Stopping.")

    def _say(self, words: str) -> None:
        self.console.print(words, soft_wrap=True, markup=False, highlight=False)
