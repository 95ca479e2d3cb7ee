"""`chartpost records`: the records in a provider's chart, as far as the provider lets us list and change them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tasks.model.errors import DocumentRefused
from tasks.providers.base import (
    ArchivesRecords,
    DeletesRecords,
    GivesFiles,
    KeepsRecords,
    Provider,
    RecordQuery,
    RenamesRecords,
)
from tasks.providers.table import KINDS
from worker.cli.commands.records.saving import SavedFile
from worker.cli.context import Context, pass_context
from worker.cli.output import Output, note, output_option
from worker.cli.params import ProviderId, TextOrFile, require_account
from worker.cli.startup import open_runtime

if TYPE_CHECKING:
    from worker.cli.table import Column

_COLUMNS = ("id", "file_name", "size_bytes", "processed", "created_at", "description", "patient_id")
_AT_A_TERMINAL = 50
_NOTED_SECONDS = 2.0  # a shorter wait needs no words

account_option = click.option("--account", required=True, help="The account whose chart it is.")
record_argument = click.argument("record", type=ProviderId(), metavar="ID")


@click.group
def records() -> None:
    """List, show, download and change the records in a chart."""


@records.command("list")
@account_option
@click.option("--patient", type=ProviderId(), help="Only this patient's; @FILE or @- reads the id.")
@click.option("--all", "everyone", is_flag=True, help="Those of all patients.")
@click.option("--case", type=ProviderId(), help="Only the records of this case; @FILE or @- reads its id.")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    type=TextOrFile(),
    help="Only those that fit, in the provider's words, such as 'created_at:>2026-11-21T00:00:00Z'. "
    "May be repeated: all must fit. @FILE or @- reads it.",
)
@click.option("--sort", help="In this order, in the provider's words, such as created_at:desc.")
@click.option("--archived", is_flag=True, help="Only archived records, instead of only those that are not.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many. Without it 50 at a terminal, else all.")
@click.option("--page", type=click.IntRange(min=1), help="Only the page of this number.")
@click.option("--per-page", type=click.IntRange(min=1), help="So many records a page.")
@click.option("--no-names", is_flag=True, help="Leave out file names where each costs a call (PracSuite).")
@output_option
@pass_context
def list_records(
    context: Context,
    account: str,
    patient: str | None,
    everyone: bool,
    case: str | None,
    filters: tuple[str, ...],
    sort: str | None,
    archived: bool,
    limit: int | None,
    page: int | None,
    per_page: int | None,
    no_names: bool,
    output: Output,
) -> None:
    """List a patient's records, or with --all those of all patients.

    Oldest first, without archived ones, unless options say otherwise. A long list comes page by page; while the
    account's limit of calls is used up, it waits.
    """
    if (patient is not None) == everyone:
        raise click.UsageError("Name a patient with --patient, or say --all.")
    provider = _provider(context, account)
    if not isinstance(provider, KeepsRecords):
        _refuse(provider, account, "records", "list records")
    query = RecordQuery(patient, case, filters, sort, archived, page, per_page, whole=not no_names, wait=_wait)
    try:
        provider.check_query(query)
    except DocumentRefused as error:
        raise click.UsageError(f"{error.message} {error.hint}") from None
    rows = (record.fields() for record in provider.records(query))
    if not output.at_terminal:
        output.rows(_COLUMNS, islice(rows, limit))
        return
    shown = limit or _AT_A_TERMINAL
    print_records(list(islice(rows, shown + 1)), shown)  # one more tells that there are more


@records.command
@record_argument
@account_option
@output_option
@pass_context
def show(context: Context, record: str, account: str, output: Output) -> None:
    """Show one record by its ID, archived or not."""
    provider = _provider(context, account)
    if not isinstance(provider, KeepsRecords):
        _refuse(provider, account, "record", "show records")
    output.sheet(provider.record(record).fields())


@records.command
@record_argument
@account_option
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
@click.option("--force", is_flag=True, help="Replace that file if it is there.")
@click.option("--max-bytes", type=click.IntRange(min=1), help="At most so many; without it, the account's max_bytes.")
@output_option
@pass_context
def download(
    context: Context, record: str, account: str, out: Path, force: bool, max_bytes: int | None, output: Output
) -> None:
    """Download a record's file to --out, and print its size and SHA-256.

    Only its owner can read the file. It gets its name when it is whole.
    """
    provider = _provider(context, account)
    if not isinstance(provider, GivesFiles):
        _refuse(provider, account, "download", "download files")
    if os.path.lexists(out) and not force:
        raise click.BadParameter(
            f"{_shown(out)} is there already: name another file, or say --force.", param_hint="--out"
        )
    if not out.parent.is_dir():
        raise click.BadParameter(f"{_shown(out.parent)} is not a folder.", param_hint="--out")
    most_bytes = max_bytes or context.settings.accounts[account].max_bytes
    with SavedFile(out) as file:
        given = provider.download(record, file.take, most_bytes=most_bytes)
        try:
            file.keep(replace=force)
        except FileExistsError:
            raise click.ClickException(f"{_shown(out)} was made meanwhile by another program, and stays.") from None
    output.sheet(
        {
            "id": record,
            "path": str(out),
            "size_bytes": file.size_bytes,
            "sha256": file.sha256,
            "etag_verified": given.etag is not None and given.etag.lower() == file.md5,
        }
    )


@records.command
@record_argument
@account_option
@pass_context
def archive(context: Context, record: str, account: str) -> None:
    """Archive a record by its ID.

    The chart no longer shows it, and the provider keeps it.
    """
    provider = _provider(context, account)
    if not isinstance(provider, ArchivesRecords):
        _refuse(provider, account, "archive", "archive records")
    provider.archive(record)
    click.echo(f"{record}: archived")


@records.command
@record_argument
@account_option
@click.option("--yes", is_flag=True, help="Do not ask first.")
@pass_context
def delete(context: Context, record: str, account: str, yes: bool) -> None:
    """Delete a record and its file for good, by its ID.

    Shows the record and asks first. Where nobody can answer, --yes is needed.
    """
    provider = _provider(context, account)
    if not isinstance(provider, DeletesRecords):
        _refuse(provider, account, "delete", "delete records")
    if not yes:
        if not is_answered():
            raise click.UsageError("This deletes the record for good: say --yes.")
        if isinstance(provider, KeepsRecords):
            Output().sheet(provider.record(record).fields())
        click.confirm("Delete this record and its file for good?", abort=True, err=True)
    provider.delete(record)
    click.echo(f"{record}: deleted")


@records.command
@record_argument
@click.argument("name", type=TextOrFile())
@account_option
@pass_context
def rename(context: Context, record: str, name: str, account: str) -> None:
    """Give the file of the record ID another NAME; @FILE or @- reads it."""
    provider = _provider(context, account)
    if not isinstance(provider, RenamesRecords):
        _refuse(provider, account, "rename", "rename records")
    provider.rename(record, name)
    click.echo(f"{record}: renamed")


def is_answered() -> bool:
    """Whether somebody is there who can answer a question."""
    return sys.stdin.isatty()


def _provider(context: Context, account: str) -> Provider:
    """The account's provider. Raises BadParameter (exit code 2) for an account that is not in the settings."""
    require_account(context.settings.accounts, account)
    return open_runtime(context).accounts[account].provider


def _refuse(provider: Provider, account: str, method: str, what: str) -> NoReturn:
    """Raises BadParameter (exit code 2) for what this provider's API does not have."""
    able = [name for name, kind in KINDS.items() if hasattr(kind.provider(), method)]
    instead = " `chartpost records archive` hides a record." if isinstance(provider, ArchivesRecords) else ""
    raise click.BadParameter(
        f"{account} is an account at {provider.kind}, which does not let us {what}. "
        f"Accounts at {', '.join(able)} do.{instead}",
        param_hint="--account",
    )


def _wait(seconds: float) -> None:
    if seconds >= _NOTED_SECONDS:
        note(f"The account's limit of calls is used up: the list goes on in {seconds:.0f} s.")
    time.sleep(seconds)


def _shown(path: Path) -> str:
    return click.format_filename(str(path))


# --- at a terminal ---------------------------------------------------------------------------------------------------


def print_records(rows: Sequence[Mapping[str, Any]], shown: int) -> None:
    """The first `shown` of these records as a table, and a sentence if there are more, or none."""
    from worker.cli.table import print_table  # late: it imports rich, which a pipe does not need

    print_table(_columns(), rows[:shown])
    if len(rows) > shown:
        note(f"There are more than these {shown}: --limit N shows N.")
    if not rows:
        note("No record fits.")


def _columns() -> list[Column]:
    from worker.cli.table import Column  # late, too

    def date(row: Mapping[str, Any]) -> str:
        # To the minute, as the provider writes it: Cliniko and Ovok in UTC, PracSuite the day alone.
        return str(row["created_at"] or row["updated_at"] or "")[:16].replace("T", " ")

    return [
        Column("id", lambda row: row["id"]),
        Column("date", date, dispensable=2),
        Column("patient", lambda row: row["patient_id"], flexible=True, least=8, most=16, dispensable=4),
        Column("file", lambda row: row["file_name"], flexible=True, least=12, most=40),
        Column("bytes", lambda row: row["size_bytes"], right=True, dispensable=3),
        Column("processed", lambda row: row["processed"], dispensable=5),
        Column("archived", lambda row: row["archived"] or "", dispensable=6),
        Column("description", lambda row: row["description"], flexible=True, least=12, most=80, dispensable=1),
    ]
