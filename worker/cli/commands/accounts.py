"""`chartpost accounts`: the status of each account; one that is held back is resumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import click

from tasks.dispatch.waiting import MachinesWaitedFor
from tasks.ledger_runtime import LedgerRuntime
from tasks.model.times import iso
from worker.cli.context import Context, pass_context
from worker.cli.open_ledger import open_ledger
from worker.cli.output import Output, output_option
from worker.cli.params import require_account

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
        runtime = open_ledger(context)
        waiting = MachinesWaitedFor(runtime.redis, runtime.workers).documents()
        statuses = runtime.account_statuses.all()
        output.rows(_COLUMNS, (_with_machines(status.fields(), waiting.get(status.name)) for status in statuses))


@accounts.command
@click.argument("name")
@click.option("--forget-calls", is_flag=True, help="Do not count the calls of the last minute.")
@pass_context
def resume(context: Context, name: str, forget_calls: bool) -> None:
    """Let an account go on at once that is parked, down or throttled.

    A parked or down account is tried with one document, and parked again if it still fails. If it is throttled, so are
    the accounts that share its limit of calls: all of them go on, even if a provider has asked to wait for longer.
    """
    require_account(context.settings.accounts, name, param_hint="NAME")
    done = list(resumed(open_ledger(context), name, forget_calls=forget_calls))
    for sentence in done or ["was neither parked nor down, nor was its limit group waiting"]:
        click.echo(f"{name}: {sentence}")


def resumed(runtime: LedgerRuntime, name: str, *, forget_calls: bool = False) -> Iterator[str]:
    """What was done, a sentence for each."""
    circuit = runtime.breaker.state(name)
    if runtime.breaker.half_open(name):
        yield f"resumed: it was {circuit.status if circuit else 'down'}, and is tried with one document now"
    accounts = runtime.settings.accounts
    group = accounts[name].limit_group
    together = [other for other, account in sorted(accounts.items()) if account.limit_group == group]
    until = runtime.rate_limit.resume(group, together, forget_calls=forget_calls)
    if until:
        also = f" ({', '.join(together)})" if len(together) > 1 else ""
        yield f"its limit group{also} was waiting until {iso(until)}; it goes on now"
    if forget_calls:
        yield "the calls of the last minute do not count any more"


def _with_machines(fields: dict[str, Any], waiting: Counter[str] | None) -> dict[str, Any]:
    """The reason of an account, and for which machines' workers its documents wait."""
    if not waiting:
        return fields
    sentences = [f"{count} wait for a worker on machine {machine}." for machine, count in sorted(waiting.items())]
    return fields | {"reason": " ".join([*filter(None, [fields["reason"]]), *sentences])}
