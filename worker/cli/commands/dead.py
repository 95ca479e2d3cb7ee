"""`chartpost dead`: the messages that were taken out of a queue and became no job."""

from __future__ import annotations

from typing import Any

import click

from tasks.intake.foreign_messages import DeadLetter
from worker.cli.context import Context, pass_context
from worker.cli.output import Output, output_option
from worker.cli.startup import open_runtime

_COLUMNS = ("entry", "at", "code", "queue", "id", "size_bytes", "reason")


@click.group
def dead() -> None:
    """Look at messages that no worker takes.

    Each was taken out of its queue and became no job. The message itself is sealed; only `show` opens it.
    """


@dead.command("list")
@output_option
@pass_context
def list_(context: Context, output: Output) -> None:
    """List the messages, the newest first."""
    output.rows(_COLUMNS, (_fields(letter) for letter in open_runtime(context).dead_letters.newest()))


@dead.command
@click.argument("entry")
@output_option
@pass_context
def show(context: Context, entry: str, output: Output) -> None:
    """Show one message, as far as it is kept: its first 64 KiB. It may hold patient data."""
    letters = open_runtime(context).dead_letters
    letter = letters.find(entry)
    if letter is None:
        raise _not_found(entry)
    output.sheet(_fields(letter) | {"message": letters.open(letter).decode("utf-8", "backslashreplace")})


@dead.command
@click.argument("entries", metavar="ENTRY...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Delete all that are there now.")
@pass_context
def drop(context: Context, entries: tuple[str, ...], every: bool) -> None:
    """Delete messages for good. Nothing of them is kept, so look at them first."""
    if bool(entries) == every:
        raise click.UsageError("Name the entries to delete, or say --all.")
    letters = open_runtime(context).dead_letters
    chosen = list(entries) or [letter.entry for letter in letters.newest()]
    dropped = letters.drop(*chosen) if chosen else 0
    click.echo(f"{dropped} deleted")
    if entries and dropped < len(set(entries)):
        raise click.ClickException("Some of these entries were not there: see chartpost dead list.")


def _fields(letter: DeadLetter) -> dict[str, Any]:
    return {
        "entry": letter.entry,
        "id": letter.id or None,
        "code": letter.code,
        "reason": letter.reason,
        "queue": letter.queue,
        "at": letter.at,
        "size_bytes": letter.size_bytes,
        "sha256": letter.sha256,
    }


def _not_found(entry: str) -> click.ClickException:
    return click.ClickException(f"There is no message {entry}: see chartpost dead list.")
