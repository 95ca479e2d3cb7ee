"""TODO"""

from __future__ import annotations

import click

from tasks.model.job import Job, Record
from tasks.model.route import Stage
from worker.cli.commands.cancel import _UNCERTAIN, _close
from worker.cli.context import Context, pass_context


@click.command
@click.argument("job")
@click.option("--delivered", is_flag=True, help="It stands in the chart.")
@click.option("--record", help="The id of the provider's record, if you know it.")
@pass_context
def resolve(context: Context, job: str, delivered: bool, record: str | None) -> None:
    """Say that a JOB whose outcome is not known has arrived, as you have seen in the chart.

    Its receipt says that a human has found it.
    """
    if not delivered:
        raise click.UsageError("Say --delivered; what has not arrived is sent again with `chartpost retry`.")
    from worker.cli.lookup import find_job, not_found

    found = find_job(context.runtime, job)
    if found is None:
        raise not_found(job)
    _check_open(found)
    why = context.runtime.ledger.resolve_delivered(found, Record(record) if record else None)
    if why == "claimed":
        raise click.ClickException(f"The record {record} proves another document of this patient already.")
    if why != "ok":
        raise click.ClickException(f"The job has changed meanwhile: look with `chartpost show {found.id}`.")
    _close(context.runtime, found)
    click.echo(f"{found.id}: delivered")


def _check_open(job: Job) -> None:
    if job.stage is not Stage.FAILED or job.code not in _UNCERTAIN:
        known = f"{job.stage}, {job.code}" if job.code else str(job.stage)
        raise click.ClickException(
            f"Only a job that is failed with not_confirmed or outcome_unknown can be resolved; this one is {known}."
        )
