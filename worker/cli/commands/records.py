"""`chartpost records`: what a provider's chart holds, and a record put away, where the provider lets us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from worker.cli.context import Context, pass_context
from worker.cli.output import json_option, print_rows, print_sheet
from worker.cli.params import Said, check_account

if TYPE_CHECKING:
    from tasks.providers.base import KeepsRecords

_COLUMNS = ("id", "file_name", "size_bytes", "processed", "created_at", "description")


class Id(Said):
    """An id of the provider's, which becomes part of an address; `@FILE` and `@-` as ever."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = super().convert(value, param, ctx).strip()
        return text or self.fail("It is empty.", param, ctx)


account_option = click.option("--account", required=True, help="The account whose chart it is.")


@click.group
def records() -> None:
    """List, show and archive the records in a provider's chart."""


@records.command("list")
@account_option
@click.option("--patient", required=True, type=Id(), help="Whose records; @FILE or @- reads it.")
@click.option("--case", type=Id(), help="Only those of one case of the patient's.")
@json_option
@pass_context
def list_records(context: Context, account: str, patient: str, case: str | None, as_json: bool) -> None:
    """List a patient's records, oldest first, without those that are archived."""
    print_rows(_COLUMNS, _chart(context, account).records(patient, case_id=case), as_json=as_json)


@records.command
@click.argument("record", type=Id(), metavar="ID")
@account_option
@json_option
@pass_context
def show(context: Context, record: str, account: str, as_json: bool) -> None:
    """Show one record by its ID, archived or not."""
    print_sheet(_chart(context, account).record(record), as_json=as_json)


@records.command
@click.argument("record", type=Id(), metavar="ID")
@account_option
@pass_context
def archive(context: Context, record: str, account: str) -> None:
    """Archive a record by its ID: the chart shows it no more, and the provider keeps it."""
    _chart(context, account).archive(record)
    click.echo(f"{record}: archived")


def _chart(context: Context, account: str) -> KeepsRecords:
    """The account's provider, if it shows its records. Raises BadParameter (exit code 2)."""
    from tasks.providers.base import KeepsRecords
    from tasks.providers.table import KINDS

    check_account(context, account)
    provider = context.runtime.accounts[account].provider
    if isinstance(provider, KeepsRecords):
        return provider
    able = ", ".join(kind for kind, made in KINDS.items() if hasattr(made, "archive"))
    raise click.BadParameter(
        f"{account} is an account at {provider.kind}, which does not let us list or archive records; "
        f"this works for accounts at {able}.",
        param_hint="--account",
    )
