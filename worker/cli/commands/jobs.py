"""`chartpost jobs`: the jobs in the ledger."""

from __future__ import annotations

import click

from tasks.closing.receipts import fields_of
from tasks.dispatch.waiting import MachinesWaitedFor, waits_for
from tasks.ledger.queries import Wanted
from tasks.model.errors import Code
from tasks.model.job import Job
from tasks.model.route import Stage
from worker.cli.context import Context, pass_context
from worker.cli.open_ledger import open_ledger
from worker.cli.output import Output, output_option

_COLUMNS = ("id", "account", "state", "code", "patient_id", "file_name", "created_at", "message")


@click.command
@click.option("--state", type=click.Choice([str(stage) for stage in Stage]), help="Only those in this state.")
@click.option("--account", help="Only this account's.")
@click.option("--code", type=click.Choice([str(code) for code in Code]), help="Only those with this code.")
@click.option("--dismissed", is_flag=True, help="Only failures that were dismissed.")
@output_option
@pass_context
def jobs(
    context: Context, state: str | None, account: str | None, code: str | None, dismissed: bool, output: Output
) -> None:
    """List the jobs that Redis knows, oldest first.

    With --state failed, failures that were dismissed are left out.
    """
    runtime = open_ledger(context)
    waited_for = MachinesWaitedFor(runtime.redis, runtime.workers)

    def row(job: Job) -> dict[str, object]:
        machine = waited_for.of_job(job)
        return fields_of(job) | ({"message": waits_for(machine)} if machine else {})

    wanted = Wanted(state, account, code, dismissed=dismissed or (False if state == Stage.FAILED else None))
    output.rows(_COLUMNS, map(row, runtime.queries.jobs(wanted)))
