"""Waiting for a job's end, with its stages on standard error: a bar at a terminal, else a line for each."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import redis

from tasks.dispatch.workers import Workers
from tasks.model.job import Job
from tasks.model.route import Stage
from worker.cli.output import note, shown

if TYPE_CHECKING:
    from rich.progress import Progress

    from tasks.runtime import Runtime

_LOOK_SECONDS = 0.2
_WHY_SECONDS = 2.0
_FILES_SECONDS = 30.0


class View(Protocol):
    def show(self, done: int, text: str) -> None:
        """So many stages are past, and this is what is going on."""
        ...


def wait_for(runtime: Runtime, job_id: str) -> Job:
    """The job when it has ended and its files lie where they belong. Goes on while Redis is away."""
    job = runtime.ledger.get(job_id)
    stages = runtime.route(job.document).stages if job else ()
    way = [Stage.RECEIVED, *stages, Stage.DELIVERED]
    with _view(len(way) - 1) as view:
        return _Wait(runtime, job_id, way, view).run()


class _Wait:
    def __init__(self, runtime: Runtime, job_id: str, way: list[Stage], view: View) -> None:
        self._runtime = runtime
        self._job_id = job_id
        self._way = way
        self._view = view
        self._ended_at: float | None = None
        self._why = ""
        self._why_at = float("-inf")

    def run(self) -> Job:
        while True:
            try:
                job = self._runtime.ledger.get(self._job_id)
                if job and self._is_over(job):
                    return job
                self._show(job)
            except (redis.ConnectionError, redis.TimeoutError):
                self._view.show(0, "Redis does not answer; waiting for it")
            time.sleep(_LOOK_SECONDS)

    def _is_over(self, job: Job) -> bool:
        """Ended, and its files moved; a closing that cannot move them is not waited for without end."""
        if not job.stage.final:
            self._ended_at = None
            return False
        self._ended_at = self._ended_at or time.monotonic()
        return "files" in job.closed or time.monotonic() - self._ended_at > _FILES_SECONDS

    def _show(self, job: Job | None) -> None:
        if job is None:
            self._view.show(0, "Redis has forgotten it; the watcher opens it again")
            return
        done = self._way.index(job.stage) if job.stage in self._way else len(self._way) - 1
        why = self._held_up_by(job) or ("looking whether it has arrived already" if job.unknown_since else "")
        self._view.show(done, f"{job.stage}: {why}" if why else str(job.stage))

    def _held_up_by(self, job: Job) -> str:
        """What keeps it from going on, as far as it is not its own stage's doing; asked now and then."""
        if time.monotonic() - self._why_at > _WHY_SECONDS:
            self._why_at = time.monotonic()
            health = self._runtime.account_statuses.health(job.account)
            self._why = "" if health.status == "ok" else f"the account is {health.status}. {health.reason}"
            if not Workers(self._runtime.redis).alive():
                self._why = "no worker runs: start `chartpost run` or `chartpost worker`"
        return self._why


@contextmanager
def _view(total: int) -> Iterator[View]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    text = TextColumn("{task.description}", markup=False)
    with Progress(BarColumn(), TimeElapsedColumn(), text, console=console, transient=True) as progress:
        yield _Bar(progress, total)


class _Lines:
    def __init__(self) -> None:
        self._last = ""

    def show(self, done: int, text: str) -> None:
        if text != self._last:
            note(shown(text))
        self._last = text


class _Bar:
    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total)

    def show(self, done: int, text: str) -> None:
        self._progress.update(self._task, completed=done, description=shown(text))
