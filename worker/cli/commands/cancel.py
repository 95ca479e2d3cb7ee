"""`chartpost cancel` and `chartpost resolve`: a human ends a job."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from tasks.errors import Code
from tasks.job import Job, Record, Stage, Step
from worker.front import Front, pass_front
from worker.terminal import note

if TYPE_CHECKING:
    from tasks.process import Process

_UNCERTAIN = (Code.NOT_CONFIRMED, Code.OUTCOME_UNKNOWN)


@click.command
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@pass_front
def cancel(front: Front, jobs: tuple[str, ...]) -> None:
    """Stop jobs that have not been sent yet; their files go to failed/."""
    refused = 0
    for name in jobs:
        why_not = _cancel(front.process, name)
        if why_not:
            refused += 1
            note(f"{name}: {why_not}")
        else:
            click.echo(f"{name}: cancelled")
    if refused:
        raise SystemExit(1)


@click.command
@click.argument("job")
@click.option("--delivered", is_flag=True, help="It stands in the chart.")
@click.option("--record", help="The id of the provider's record, if you know it.")
@pass_front
def resolve(front: Front, job: str, delivered: bool, record: str | None) -> None:
    """Say that a JOB whose outcome is not known has arrived, as you have seen in the chart.

    Its receipt says that a human has found it.
    """
    if not delivered:
        raise click.UsageError("Say --delivered; what has not arrived is sent again with `chartpost retry`.")
    from worker.commands.finding import find_job, not_found

    found = find_job(front.process, job)
    if found is None:
        raise not_found(job)
    _check_open(found)
    why = front.process.ledger.resolve_delivered(found, Record(record) if record else None)
    if why == "claimed":
        raise click.ClickException(f"The record {record} proves another document of this patient already.")
    if why != "ok":
        raise click.ClickException(f"The job has changed meanwhile: look with `chartpost show {found.id}`.")
    _close(front.process, found)
    click.echo(f"{found.id}: delivered")


def _cancel(process: Process, name: str) -> str | None:
    """None when it is cancelled, else why it is not."""
    from worker.commands.finding import find_job, not_found

    job = find_job(process, name)
    if job is None:
        return not_found(name).message
    if job.stage is Stage.CANCELLED:
        return None
    why = process.ledger.cancel(job)
    if why == "ok":
        _close(process, job)
        return None
    now = process.ledger.get(job.id)
    if now and now.stage.final:
        return f"too late, it is {now.stage} already."
    return "too late, its upload is committed; it goes on until its outcome is known."


def _check_open(job: Job) -> None:
    if job.stage is not Stage.FAILED or job.code not in _UNCERTAIN:
        known = f"{job.stage}, {job.code}" if job.code else str(job.stage)
        raise click.ClickException(
            f"Only a job that is failed with not_confirmed or outcome_unknown can be resolved; this one is {known}."
        )


def _close(process: Process, job: Job) -> None:
    """Let a worker close it at once; should that message not be sent, a feeder sends it within a lease."""
    from tasks.ledger import AWAY

    with suppress(*AWAY):
        process.send_step(job.id, Step.NOTIFY)
