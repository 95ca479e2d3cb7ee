"""`chartpost cancel` and `chartpost resolve`: a human ends a job."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from tasks.model.errors import Code
from tasks.model.job import Job
from tasks.model.route import Stage
from worker.cli.context import Context, pass_context
from worker.cli.output import note

if TYPE_CHECKING:
    from tasks.runtime import Runtime

_UNCERTAIN = (Code.NOT_CONFIRMED, Code.OUTCOME_UNKNOWN)


@click.command
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@pass_context
def cancel(context: Context, jobs: tuple[str, ...]) -> None:
    """Stop jobs that have not been sent yet; their files go to failed/."""
    refused = 0
    for name in jobs:
        why_not = _cancel(context.runtime, name)
        if why_not:
            refused += 1
            note(f"{name}: {why_not}")
        else:
            click.echo(f"{name}: cancelled")
    if refused:
        raise SystemExit(1)


def _cancel(runtime: Runtime, name: str) -> str | None:
    """None when it is cancelled, else why it is not."""
    from worker.cli.lookup import find_job, not_found

    job = find_job(runtime, name)
    if job is None:
        return not_found(name).message
    if job.stage is Stage.CANCELLED:
        return None
    why = runtime.ledger.cancel(job)
    if why == "ok":
        _close(runtime, job)
        return None
    now = runtime.ledger.get(job.id)
    if now and now.stage.final:
        return f"too late, it is {now.stage} already."
    return "too late, its upload is committed; it goes on until its outcome is known."


def _close(runtime: Runtime, job: Job) -> None:
    """Let a worker close it at once; should that message not be sent, a feeder sends it within a lease."""
    from tasks.ledger.redis import REDIS_ERRORS

    with suppress(*REDIS_ERRORS):
        runtime.send_closing(job.id)
