"""Kinds of arguments and options that several commands take."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Collection
from typing import Any

import click

# click declares convert() with Any, and so must these.


class TextOrFile(click.ParamType[Any]):
    """Text, or the content of `@FILE` or `@-` (standard input).

    What is read from a file does not stand in the process list, where every user of the machine could read it.
    """

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


class Line(TextOrFile):
    """Text on one line, of a length that people read."""

    def __init__(self, most_characters: int) -> None:
        self._most = most_characters

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = " ".join(super().convert(value, param, ctx).split())
        if not text or not text.isprintable() or len(text) > self._most:
            self.fail(f"It must be 1 to {self._most} characters that can be printed.", param, ctx)
        return text


def person() -> str:
    """Who runs this command, by their name on this system."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account that the system has no name for, as in a container
        return f"user {os.getuid()}"


by_option = click.option("--by", type=Line(100), help="Who has decided this; without it, the user of this system.")
note_option = click.option("--note", type=Line(1000), help="Why, for those who look later; @FILE for patient data.")


class ProviderId(TextOrFile):
    """An id at the provider. It becomes part of an address, so an empty one would name the whole collection."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = super().convert(value, param, ctx).strip()
        return text or self.fail("It is empty.", param, ctx)


class KeyAndValue(TextOrFile):
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
        except (ValueError, RecursionError):  # RecursionError: thousands of brackets
            self.fail(f"The value of {key} begins like JSON and is not JSON.", param, ctx)


def require_account(accounts: Collection[str], account: str, param_hint: str = "--account") -> None:
    """Raises BadParameter (exit code 2) for an account that the settings do not name."""
    if account not in accounts:
        known = ", ".join(accounts) or "none"
        raise click.BadParameter(
            f"{account} is not in the settings; accounts there are: {known}.", param_hint=param_hint
        )
