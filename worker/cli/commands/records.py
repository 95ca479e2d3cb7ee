"""`chartpost records`: the records in a provider's chart, for providers that let us list and archive them."""

from __future__ import annotations

import click

from tasks.providers.base import KeepsRecords
from tasks.providers.table import KINDS
from worker.cli.context import Context, pass_context
from worker.cli.output import Output, output_option
from worker.cli.params import ProviderId, require_account
from worker.cli.startup import open_runtime

_COLUMNS = ("id", "file_name", "size_bytes", "processed", "created_at", "description")

account_option = click.option("--account", required=True, help="The account whose chart it is.")
record_argument = click.argument("record", type=ProviderId(), metavar="ID")


@click.group
def records() -> None:
    """List, show and archive the records in a chart."""


@records.command("list")
@account_option
@click.option("--patient", required=True, type=ProviderId(), help="The patient's id; @FILE or @- reads it.")
@click.option("--case", type=ProviderId(), help="Only the records of this case; @FILE or @- reads its id.")
@output_option
@pass_context
def list_records(context: Context, account: str, patient: str, case: str | None, output: Output) -> None:
    """List a patient's records, oldest first, without archived ones."""
    output.rows(_COLUMNS, _chart(context, account).records(patient, case_id=case))


@records.command
@record_argument
@account_option
@output_option
@pass_context
def show(context: Context, record: str, account: str, output: Output) -> None:
    """Show one record by its ID, archived or not."""
    output.sheet(_chart(context, account).record(record))


@records.command
@record_argument
@account_option
@pass_context
def archive(context: Context, record: str, account: str) -> None:
    """Archive a record by its ID.

    The chart no longer shows it, and the provider keeps it.
    """
    _chart(context, account).archive(record)
    click.echo(f"{record}: archived")


def _chart(context: Context, account: str) -> KeepsRecords:
    """The account's provider, if it lets us list records. Raises BadParameter (exit code 2)."""
    require_account(context.settings.accounts, account)
    provider = open_runtime(context).accounts[account].provider
    if isinstance(provider, KeepsRecords):
        return provider
    able = ", ".join(name for name, kind in KINDS.items() if hasattr(kind.provider(), "archive"))
    raise click.BadParameter(
        f"{account} is an account at {provider.kind}, which does not let us list or archive records. "
        f"Accounts at {able} do.",
        param_hint="--account",
    )
