"""`chartpost accounts`: the status of each account; a parked or down one is resumed."""

from __future__ import annotations

import click

from worker.cli.context import Context, pass_context
from worker.cli.output import Output, output_option
from worker.cli.params import require_account
from worker.cli.startup import open_runtime

_COLUMNS = ("name", "provider", "status", "waiting", "in_flight", "oldest_at", "resumes_at", "reason")


@click.group(invoke_without_command=True)
@output_option
@click.pass_context
@pass_context
def accounts(context: Context, ctx: click.Context, output: Output) -> None:
    """List the accounts, their status and what waits.

    The status is ok, throttled, parked or down.
    """
    if ctx.invoked_subcommand is None:
        output.rows(_COLUMNS, (status.fields() for status in open_runtime(context).account_statuses.all()))


@accounts.command
@click.argument("name")
@pass_context
def resume(context: Context, name: str) -> None:
    """Try a parked or down account at once.

    If it still fails, it is parked again.
    """
    require_account(context.settings.accounts, name, param_hint="NAME")
    resumed = open_runtime(context).breaker.half_open(name)
    click.echo(f"{name}: resumed" if resumed else f"{name}: was neither parked nor down")
