"""What is wrong with the settings, in sentences that name the key and never its value, which may be secret."""

import difflib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

ENVIRONMENT_PREFIX = "CHARTPOST_"
KeyPath = tuple[str | int, ...]


class SettingsError(Exception):
    """The settings cannot be used. `problems` has one sentence for each thing that is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    `keys` are all keys that it depends on. The first one begins the sentence, and `message` follows it without a full
    stop: "must be a number".
    """

    keys: tuple[KeyPath, ...]
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.keys[0])} {self.message}" + ("" if self.message.endswith("?") else ".")


def missing(path: KeyPath, *, may_have_secret_file: bool, reason: str = "") -> Problem:
    """The problem of a key that is required and not given; the sentence lists the ways to give it."""
    ways = ["set it"]
    if may_have_secret_file:
        ways.append(f"{path[-1]}_file")
    # An account name with a space or a hyphen in it cannot be part of a variable's name.
    if all(re.fullmatch(r"[A-Za-z0-9_]+", str(part)) for part in path):
        ways.append(environment_name(path))
    return Problem((path,), f"is missing{f' ({reason})' if reason else ''}: {', or '.join(ways)}")


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """A suggestion of the nearest known word; `otherwise` if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def dotted(path: KeyPath) -> str:
    """A key's path as TOML writes it: `accounts.north_clinic.upload_hosts[0]`."""
    written = ""
    for part in path:
        if isinstance(part, int):
            written += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            written += ("." if written else "") + (part if bare else json.dumps(part))
    return written


def environment_name(path: KeyPath) -> str:
    """The variable that sets a key: `CHARTPOST_REDIS__URL`."""
    return ENVIRONMENT_PREFIX + "__".join(str(part).upper() for part in path)


def message_for(error: ErrorDetails) -> str:
    """What is wrong with a value of the wrong type or out of range. Pydantic's own text would quote the value."""
    message = MESSAGES.get(error["type"])
    return message(error.get("ctx", {})) if message else "has a value that cannot be used"


# By pydantic's error type (https://docs.pydantic.dev/latest/errors/validation_errors/); each gets the error's context.
MESSAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    "bool_parsing": lambda _: "must be true or false",
    "bool_type": lambda _: "must be true or false",
    "float_parsing": lambda _: "must be a number",
    "float_type": lambda _: "must be a number",
    "finite_number": lambda _: "must be a finite number",
    "int_parsing": lambda _: "must be a whole number",
    "int_parsing_size": lambda _: "must be a smaller whole number",
    "int_type": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "greater_than": lambda context: f"must be greater than {context['gt']:g}",
    "greater_than_equal": lambda context: f"must be at least {context['ge']:g}",
    "less_than_equal": lambda context: f"must be at most {context['le']:.12g}",
    "literal_error": lambda context: f"must be one of {context['expected']}",
    "string_type": lambda _: "must be text",
    "string_unicode": lambda _: "must be text in UTF-8",
    "path_type": lambda _: "must be a path",
    "tuple_type": lambda _: "must be a list",
    "dict_type": lambda _: "must be a table",
    "model_type": lambda _: "must be a table",
    "model_attributes_type": lambda _: "must be a table",
    "string_pattern_mismatch": lambda _: "must begin with a letter or digit and hold only letters, digits and . _ -",
    "value_error": lambda context: str(context["error"]),
}
# Pydantic reports these only because another key is wrong, which it reports as well.
CONSEQUENCES = {"default_factory_not_called"}
