"""`chartpost report`: what became of documents in a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tasks.reporting.report import Report, Reports
from worker.cli.commands.report.fields import as_csv, as_json
from worker.cli.context import Context, pass_context
from worker.cli.open_ledger import open_ledger
from worker.cli.times import Moment

_BY = ("account", "code")
_FORMATS = ("text", "csv", "json", "html")
_FILE_MODE = 0o644  # less the umask: nothing in it names a patient
_WIDTH_IN_A_FILE = 100


class Grouping(click.ParamType[Any]):
    """account, code, or both with a comma."""

    name = "account,code"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
        if not names or not set(names) <= set(_BY):
            self.fail(f"{value} is neither account nor code nor account,code.", param, ctx)
        return tuple(name for name in _BY if name in names)


@click.command
@click.option("--since", type=Moment(), default="7d", help="From when on: 2026-11-30, 36h, 7d, 90d. Without it 7d.")
@click.option("--until", type=Moment(whole_day=True), help="Until when; of a date, that day too. Without it now.")
@click.option("--account", "accounts", multiple=True, help="Only this account's; may be repeated.")
@click.option("--by", type=Grouping(), default="account", help="A line for each account, code, or account,code.")
@click.option("--format", "kind", type=click.Choice(_FORMATS), help="Without it by the name of --out, else text.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file.")
@pass_context
def report(
    context: Context,
    since: datetime,
    until: datetime | None,
    accounts: tuple[str, ...],
    by: tuple[str, ...],
    kind: str | None,
    out: Path | None,
) -> None:
    """Report what became of documents.

    How many were delivered, failed and cancelled, what waits, how long delivery took, and the calls to providers. It
    names no patient and no file. Days whose jobs have left Redis are told by their daily counts.
    """
    until = until or datetime.now(UTC)
    if since >= until:
        raise click.UsageError("--since must be before --until.")
    kind = kind or _kind_of(out)
    render = _renderer(kind, by, to_file=out is not None)  # first: it may need what is not installed
    runtime = open_ledger(context)
    unknown = sorted(set(accounts) - {*context.settings.accounts, *runtime.queries.accounts()})
    if unknown:
        raise click.BadParameter(f"No such account: {', '.join(unknown)}.", param_hint="--account")
    reports = Reports(runtime.redis, jobs_days=context.settings.retention.jobs_days)
    text = render(reports.make(since, until, accounts, by))
    if out:
        _write(out, text)
    else:
        click.echo(text, nl=False, color=True)  # rich has left out colours where they do not belong


def _kind_of(out: Path | None) -> str:
    ending = out.suffix.lower().removeprefix(".") if out else ""
    return {"htm": "html"}.get(ending, ending if ending in _FORMATS else "text")


def _renderer(kind: str, by: tuple[str, ...], *, to_file: bool) -> Callable[[Report], str]:
    """Raises ClickException if the format needs a package that is not installed."""
    match kind:
        case "json":
            return lambda made: as_json(made, by)
        case "csv":
            return as_csv
        case "html":
            try:
                from worker.cli.commands.report.html import as_html  # late: an extra, and it takes a moment
            except ImportError as error:
                raise click.ClickException(
                    f"HTML needs a package that is not installed ({error.name}): pip install 'chartpost[report]'"
                ) from error
            return as_html
    from rich.console import Console  # late: programs need none of it

    from worker.cli.commands.report.text import as_text

    console = Console(width=_WIDTH_IN_A_FILE, color_system=None) if to_file else Console(file=sys.stdout)
    return lambda made: as_text(made, console)


def _write(path: Path, text: str) -> None:
    """Give the file this content; a kill leaves the old one or the new one. Raises OSError."""
    from tasks.folders import durable

    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        durable.replace(path, text.encode(), draft, _FILE_MODE)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
