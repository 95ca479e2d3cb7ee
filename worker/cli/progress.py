"""Waiting for a job's end, with its stages on standard error: a bar at a terminal, else a line for each."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import redis
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tasks.accounts.account import Accounts
from tasks.accounts.status import AccountStatuses
from tasks.closing.receipts import fields_of, receipt_or_error_file
from tasks.dispatch.waiting import MachinesWaitedFor
from tasks.dispatch.workers import Workers
from tasks.ledger.ledger import Ledger
from tasks.model.job import Job
from tasks.model.route import Stage
from worker.cli.output import Output, note
from worker.cli.printable import printable

_POLL_SECONDS = 0.2
_OBSTACLE_SECONDS = 2.0
_FILES_SECONDS = 30.0


Show = Callable[[int, str], None]
"""Shows how many stages are past, and what is going on now."""


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
        job = self._ledger.get(job_id)
        between = self._accounts[job.account].provider.route(job.document).stages if job else ()
        stages = (Stage.RECEIVED, *between, Stage.DELIVERED)
        try:
            with _display(total=len(stages) - 1) as show:
                return self._poll(job_id, stages, show)
        except KeyboardInterrupt:
            note(f"The job continues without this command. To see how far it has come: chartpost show {job_id}")
            raise SystemExit(1) from None

    def _poll(self, job_id: str, stages: Sequence[Stage], show: Show) -> Job:
        done, shown, final_since = 0, "", float("inf")
        while True:
            try:
                job = self._ledger.get(job_id)
                if job is None:
                    done, text = 0, "Redis has lost the job; the watcher opens it again"
                else:
                    # A retry may have taken a failed job up again: then it is not final any more.
                    final_since = min(final_since, time.monotonic()) if job.stage.final else float("inf")
                    # Not without end: a full disk, or a folder of another machine, may keep the files where they are.
                    waited = time.monotonic() - final_since
                    if job.stage.final and ("files" in job.closed or waited > _FILES_SECONDS):
                        return job
                    done = stages.index(job.stage) if job.stage in stages else len(stages) - 1
                    text = self._text(job)
            except (redis.ConnectionError, redis.TimeoutError):
                text = "Redis does not answer; waiting for it"
            if text != shown:
                show(done, text)
                shown = text
            time.sleep(_POLL_SECONDS)

    def _text(self, job: Job) -> str:
        obstacle = self._find_obstacle(job)
        if not obstacle and job.uncertainty.unknown_since:
            obstacle = "searching whether it has arrived already"
        return f"{job.stage}: {obstacle}" if obstacle else str(job.stage)

    def _find_obstacle(self, job: Job) -> str:
        """What keeps the job waiting, apart from its own step; empty if nothing does."""
        # Costs several questions to Redis, so not at every poll.
        if time.monotonic() - self._obstacle_at > _OBSTACLE_SECONDS:
            self._obstacle_at = time.monotonic()
            health = self._statuses.health(job.account)
            self._obstacle = "" if health.status == "ok" else f"the account is {health.status}. {health.reason}"
            machine = MachinesWaitedFor(self._ledger.redis, self._workers).of_job(job)
            if machine:
                self._obstacle = (
                    f"no worker runs on machine {machine}: start `chartpost run` or `chartpost worker` there"
                )
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
        output.error(receipt_or_error_file(job))
        raise SystemExit(1)
    output.sheet(receipt_or_error_file(job))


@contextmanager
def _display(total: int) -> Iterator[Show]:
    if not sys.stderr.isatty():
        yield lambda _done, text: note(printable(text))
        return
    text_column = TextColumn("{task.description}", markup=False)  # a provider's words may hold [brackets]
    console = Console(stderr=True)
    with Progress(BarColumn(), TimeElapsedColumn(), text_column, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, text: bar.update(task, completed=done, description=printable(text))
