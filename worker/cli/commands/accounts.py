"""`chartpost accounts`: the status of each account; a parked or down one is resumed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from tasks.dispatch.waiting import MachinesWaitedFor
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
        runtime = open_runtime(context)
        waiting = MachinesWaitedFor(runtime.redis, runtime.workers).documents()
        statuses = runtime.account_statuses.all()
        output.rows(_COLUMNS, (_with_machines(status.fields(), waiting.get(status.name)) for status in statuses))


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


def _with_machines(fields: dict[str, Any], waiting: Counter[str] | None) -> dict[str, Any]:
    """The reason of an account, and for which machines' workers its documents wait."""
    if not waiting:
        return fields
    sentences = [f"{count} wait for a worker on machine {machine}." for machine, count in sorted(waiting.items())]
    return fields | {"reason": " ".join([*filter(None, [fields["reason"]]), *sentences])}
