"""`chartpost notes`: what notes say, on one sheet for a front desk's wall."""

from __future__ import annotations

import sys
import typing
from pathlib import Path

import click

from config.types import Language
from tasks.wording.language import Words
from tasks.wording.sheet import sheet as sheet_of
from worker.cli.context import Context, pass_context


@click.command
@click.option("--sheet", is_flag=True, required=True, help="The page that explains every failure.")
@click.option("--language", type=click.Choice(typing.get_args(Language)), help="Without it, notes.language.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write; else it is printed.")
@pass_context
def notes(context: Context, sheet: bool, language: str | None, out: Path | None) -> None:
    """Print a sheet that explains all failures to a front desk.

    It is a page in HTML, to be printed from a browser.
    """
    told = context.settings.notes
    page = sheet_of(Words(language or told.language), told.contact).encode()
    if out is None:
        sys.stdout.buffer.write(page)
        return
    try:
        out.write_bytes(page)
    except OSError as error:
        raise click.ClickException(f"{click.format_filename(out)} cannot be written: {error.strerror}.") from None
