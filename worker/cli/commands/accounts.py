"""`chartpost accounts`: how each account fares, and a parked one let go on."""

from __future__ import annotations

import click

from worker.cli.context import Context, pass_context
from worker.cli.output import json_option, print_rows

_COLUMNS = ("name", "provider", "status", "waiting", "in_flight", "oldest_at", "resumes_at", "reason")


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
@pass_context
def accounts(context: Context, ctx: click.Context, as_json: bool) -> None:
    """List the accounts: ok, throttled, parked or down, why, and what waits."""
    if ctx.invoked_subcommand:
        return
    runtime = context.runtime
    print_rows(_COLUMNS, (account.fields() for account in runtime.account_statuses.all()), as_json=as_json)


@accounts.command
@click.argument("name")
@pass_context
def resume(context: Context, name: str) -> None:
    """Let a parked or down account's documents go on at once; if it is still unwell it is parked again."""
    if name not in context.settings.accounts:
        known = ", ".join(context.settings.accounts) or "none"
        raise click.BadParameter(f"{name} is not in the settings, which know: {known}.", param_hint="NAME")
    if context.runtime.breaker.half_open(name):
        click.echo(f"{name}: resumed")
    else:
        click.echo(f"{name}: was neither parked nor down")
