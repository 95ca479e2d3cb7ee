"""Waiting for a job's end, with its stages on standard error: a bar at a terminal, else a line for each."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import redis
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tasks.accounts.account import Accounts
from tasks.accounts.status import AccountStatuses
from tasks.closing.receipts import fields_of, written
from tasks.dispatch.workers import Workers
from tasks.ledger.ledger import Ledger
from tasks.model.job import Job
from tasks.model.route import Stage
from worker.cli.output import Output, note, printable

_POLL_SECONDS = 0.2
_OBSTACLE_SECONDS = 2.0
_FILES_SECONDS = 30.0


class View(Protocol):
    def show(self, done: int, text: str) -> None:
        """So many stages are past, and this is going on now."""
        ...


class JobProgress:
    """Waits for the end of one job and shows how far it has come."""

    def __init__(self, ledger: Ledger, accounts: Accounts, statuses: AccountStatuses, workers: Workers) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._statuses = statuses
        self._workers = workers
        self._obstacle = ""
        self._obstacle_at = float("-inf")

    def wait(self, job_id: str) -> Job:
        """The job when it has ended and its files are in place. Continues while Redis is away; Ctrl-C exits with 1."""
        stages = self._stages(job_id)
        try:
            with _view(len(stages) - 1) as view:
                return self._poll(job_id, stages, view)
        except KeyboardInterrupt:
            note(f"The job continues without this command. To see how far it has come: chartpost show {job_id}")
            raise SystemExit(1) from None

    def _stages(self, job_id: str) -> Sequence[Stage]:
        job = self._ledger.get(job_id)
        between = self._accounts[job.account].provider.route(job.document).stages if job else ()
        return (Stage.RECEIVED, *between, Stage.DELIVERED)

    def _poll(self, job_id: str, stages: Sequence[Stage], view: View) -> Job:
        ended_at: float | None = None
        while True:
            try:
                job = self._ledger.get(job_id)
                if job is None:
                    view.show(0, "Redis has lost the job; the watcher opens it again")
                elif not job.stage.final:
                    ended_at = None  # a retry may have taken it up again
                    self._show(job, stages, view)
                else:
                    ended_at = ended_at or time.monotonic()
                    # The closing step may not be able to move the files: a full disk, another machine's folder.
                    if "files" in job.closed or time.monotonic() - ended_at > _FILES_SECONDS:
                        return job
                    self._show(job, stages, view)
            except (redis.ConnectionError, redis.TimeoutError):
                view.show(0, "Redis does not answer; waiting for it")
            time.sleep(_POLL_SECONDS)

    def _show(self, job: Job, stages: Sequence[Stage], view: View) -> None:
        done = stages.index(job.stage) if job.stage in stages else len(stages) - 1
        obstacle = self._find_obstacle(job)
        if not obstacle and job.unknown_since:
            obstacle = "searching whether it has arrived already"
        view.show(done, f"{job.stage}: {obstacle}" if obstacle else str(job.stage))

    def _find_obstacle(self, job: Job) -> str:
        """What keeps the job waiting, apart from its own step; empty if nothing does."""
        # Costs several questions to Redis, so not at every poll.
        if time.monotonic() - self._obstacle_at > _OBSTACLE_SECONDS:
            self._obstacle_at = time.monotonic()
            health = self._statuses.health(job.account)
            self._obstacle = "" if health.status == "ok" else f"the account is {health.status}. {health.reason}"
            if not self._workers.alive():
                self._obstacle = "no worker runs: start `chartpost run` or `chartpost worker`"
        return self._obstacle


def print_accepted(ledger: Ledger, job_id: str, output: Output) -> None:
    """Print a job that was just opened; exit with 1 if it has failed already."""
    job = ledger.get(job_id)
    if job and job.failure:
        print_end(job, output)
    else:
        output.accepted(fields_of(job) if job else {"id": job_id})


def print_end(job: Job, output: Output) -> None:
    """Print the receipt of a job that has ended; or its error, and exit with 1."""
    if job.stage is not Stage.DELIVERED:
        output.error(written(job))
        raise SystemExit(1)
    output.sheet(written(job))


@contextmanager
def _view(total: int) -> Iterator[View]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    text = TextColumn("{task.description}", markup=False)  # a provider's words may hold [brackets]
    console = Console(stderr=True)
    with Progress(BarColumn(), TimeElapsedColumn(), text, console=console, transient=True) as progress:
        yield _Bar(progress, total)


class _Lines:
    def __init__(self) -> None:
        self._last = ""

    def show(self, done: int, text: str) -> None:
        if text != self._last:
            note(printable(text))
        self._last = text


class _Bar:
    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total)

    def show(self, done: int, text: str) -> None:
        self._progress.update(self._task, completed=done, description=printable(text))
