"""`chartpost cancel`: stops jobs that have not been sent yet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import click

from tasks.ledger import moves
from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import REDIS_ERRORS
from tasks.model.job import Job
from tasks.model.route import Stage
from worker.cli.context import Context, pass_context
from worker.cli.job_search import AmbiguousJob, job_search, require_job
from worker.cli.output import note
from worker.cli.startup import open_runtime


@click.command
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@pass_context
def cancel(context: Context, jobs: tuple[str, ...]) -> None:
    """Stop jobs that have not been sent yet.

    Their files go to failed/. JOB is an id, six characters or more of one, or a file, as `chartpost show` takes it. If
    one of them fits several jobs, nothing is done.
    """
    runtime = open_runtime(context)
    search, failures, found = job_search(runtime), 0, dict[str, Job]()
    # All of them first: one that is ambiguous must leave every job as it is.
    for name in jobs:
        try:
            found[name] = require_job(search, name)
        except AmbiguousJob:
            raise
        except click.ClickException as error:
            failures += 1
            note(f"{name}: {error.message}")
    for name, job in found.items():
        try:
            _cancel(job, runtime.ledger, runtime.send_closing)
        except click.ClickException as error:
            failures += 1
            note(f"{name}: {error.message}")
        else:
            click.echo(f"{name}: cancelled")
    if failures:
        raise SystemExit(1)


def _cancel(job: Job, ledger: Ledger, send_closing: Callable[[str], None]) -> None:
    """Cancel a job; one that is cancelled already stays so. Raises ClickException."""
    if job.stage is Stage.CANCELLED:
        return
    if ledger.take_over(job, moves.cancel(job)) == "ok":
        with suppress(*REDIS_ERRORS):  # if this message is lost, a feeder sends the closing step within a lease
            send_closing(job.id)
        return
    now = ledger.get(job.id)
    if now and now.stage is Stage.CANCELLED:  # by another command, or under another of its names in this one
        return
    if now and now.stage.final:
        raise click.ClickException(f"too late, it is {now.stage} already.")
    # Past the commit point the document may have arrived, and only its own steps can find that out.
    raise click.ClickException("too late, its upload is committed; it continues until its outcome is known.")
