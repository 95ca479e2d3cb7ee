"""TODO"""

from __future__ import annotations

import json
from typing import Any

import click

from worker.cli.context import Context


class Said(click.ParamType[Any]):
    """Text as it stands, or what `@FILE` or `@-` (standard input) holds: so it stays out of the process list."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value)
        if not text.startswith("@"):
            return text
        try:
            with click.open_file(text[1:], encoding="utf-8") as file:
                return str(file.read()).rstrip("\r\n")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
            self.fail(f"{click.format_filename(text[1:])} cannot be read: {reason}.", param, ctx)


class Option(Said):
    """`k=v`, where v is text, a JSON object, a JSON list, or one of these in `@FILE`."""

    name = "k=v"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail("An option is written k=v.", param, ctx)
        text = super().convert(text, param, ctx)
        if not text.startswith(("{", "[")):
            return key, text
        try:
            return key, json.loads(text)
        except (ValueError, RecursionError):
            self.fail(f"The value of {key} begins like JSON and is not JSON.", param, ctx)


def check_account(context: Context, account: str) -> None:
    if account not in context.settings.accounts:
        known = ", ".join(context.settings.accounts) or "none"
        raise click.BadParameter(f"{account} is not in the settings, which know: {known}.", param_hint="--account")
