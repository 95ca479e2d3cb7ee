"""What is wrong with the settings, said in sentences that name the key and never a value."""

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
    """The settings cannot be used. `faults` holds one sentence for each thing that is wrong."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: the keys that it rests on, of which the first leads the sentence, and what to say."""

    keys: tuple[KeyPath, ...]
    words: str

    def __str__(self) -> str:
        return f"{dotted(self.keys[0])} {self.words}" + ("" if self.words.endswith("?") else ".")


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


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """A suggestion of the nearest known word, else what to do when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def missing(path: KeyPath, *, may_be_in_file: bool, because: str = "") -> Fault:
    """The fault of a key that is needed and not given."""
    ways = ["set it"]
    if may_be_in_file:
        ways.append(f"{path[-1]}_file")
    if all(re.fullmatch(r"[A-Za-z0-9_]+", str(part)) for part in path):  # else no variable can name it
        ways.append(environment_name(path))
    reason = f" ({because})" if because else ""
    return Fault((path,), f"is missing{reason}: {', or '.join(ways)}")


WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
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
# Follows from another fault, which is reported itself.
CONSEQUENCES = {"default_factory_not_called"}


def words_for(error: ErrorDetails) -> str:
    """What to say of a key whose value has the wrong type or range."""
    words = WORDS.get(error["type"])
    return words(error.get("ctx", {})) if words else "has a value that cannot be used"
