"""`chartpost resolve`: a person has found the document of an unknown outcome in the chart."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import click

from tasks.ledger import moves
from tasks.ledger.redis import REDIS_ERRORS
from tasks.model.errors import UNCERTAIN_CODES
from tasks.model.job import Record, Statement
from tasks.model.route import Stage
from worker.cli.context import Context, pass_context
from worker.cli.job_search import job_search, require_job
from worker.cli.params import by_option, note_option, person
from worker.cli.startup import open_runtime


@click.command
@click.argument("job")
@click.option("--delivered", is_flag=True, help="The document is in the chart.")
@click.option("--record", help="The id of the provider's record, if you know it.")
@by_option
@note_option
@pass_context
def resolve(context: Context, job: str, delivered: bool, record: str | None, by: str | None, note: str | None) -> None:
    """Record that a person found a JOB's document.

    It is in the chart, although the job failed with not_confirmed or outcome_unknown. The receipt says who has found
    it, and when. JOB may also be six characters or more of the id, or a file, as `chartpost show` takes it.
    """
    if not delivered:
        raise click.UsageError("Add --delivered. A document that has not arrived is sent by `chartpost retry`.")
    runtime = open_runtime(context)
    found = require_job(job_search(runtime), job)
    if found.stage is not Stage.FAILED or found.code not in UNCERTAIN_CODES:
        known = f"{found.stage}, {found.code}" if found.code else str(found.stage)
        raise click.ClickException(
            f"Only a job that failed with not_confirmed or outcome_unknown can be resolved; this one is {known}."
        )
    resolution = Statement(by or person(), datetime.now(UTC), note or "")
    move = moves.resolve_delivered(found, Record(record) if record else None, resolution)
    match runtime.ledger.take_over(found, move):
        case "ok":
            with suppress(*REDIS_ERRORS):  # if this message is lost, a feeder sends the closing step within a lease
                runtime.send_closing(found.id)
            click.echo(f"{found.id}: delivered")
        case "owned_by_another":
            raise click.ClickException(f"The record {record} already proves another document.")
        case _:
            raise click.ClickException(f"The job has changed meanwhile: see `chartpost show {found.id}`.")
