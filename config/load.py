"""Reads the settings and checks them as a whole: every problem is reported at once, before anything starts."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from config.accounts import ACCOUNT_KINDS
from config.errors import CONSEQUENCES, KeyPath, Problem, SettingsError, did_you_mean, message_for, missing
from config.gather import Tree, gather
from config.origin import FileStamp, Origin
from config.rules import cautions, contradictions, roots_that_hold
from config.schema import ACCOUNTS, PRODUCERS, Schema, may_have_secret_file
from config.secret_key import read_or_make_key
from config.settings import Settings

# For required keys that are missing and accept only some texts; "stand-in" is good for all others.
STAND_INS: dict[str, object] = {
    "provider": next(iter(ACCOUNT_KINDS)),
    "contact": "Stand-in (it@stand-in.example)",
    "environment": "Development",
    "home_community_id": "2.999",
}


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the settings: `path`, else `$CHARTPOST_CONFIG`, else `./chartpost.toml`; the environment on top.

    Raises SettingsError with all problems. Opens no connection; reads secret files and CA files.
    """
    check_file_system_encoding(sys.getfilesystemencoding())
    gathered = gather(Settings, path, environ)
    settings, wrong_values = _checked(gathered.values, gathered.schema)
    # A value that was replaced by a stand-in would cause contradictions that the operator cannot understand.
    problems = _add_independent(gathered.problems, wrong_values)
    problems = _add_independent(problems, contradictions(settings))
    secret_files = [stamp.path for stamp in gathered.secret_files if stamp.seen]
    problems = _add_independent(problems, roots_that_hold(settings, secret_files, "a file with a secret"))
    if gathered.file:
        problems = _add_independent(problems, roots_that_hold(settings, [gathered.file], "the settings file"))
    if problems:
        raise SettingsError(str(problem) for problem in problems)
    ca_files = tuple(FileStamp.of(account.ca_bundle) for account in settings.accounts.values() if account.ca_bundle)
    origin = Origin(gathered.file, tuple(gathered.secret_files), ca_files)
    return settings.with_warnings([*gathered.warnings, *cautions(settings)]).with_origin(origin)


def check_file_system_encoding(encoding: str) -> None:
    """Raises SettingsError if Python decodes the names of files by anything but UTF-8.

    Every name with another letter than ASCII would come into the chart as rubbish. Python takes the encoding from the
    locale (https://docs.python.org/3/library/sys.html#sys.getfilesystemencoding).
    """
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        raise SettingsError(
            [
                f"The locale is not one of UTF-8: file names would be read as {encoding}, and come into the charts as "
                "rubbish. Set LC_ALL=C.UTF-8, or PYTHONUTF8=1, in the environment of every process."
            ]
        )


def ensure_secret_key(settings: Settings) -> Settings:
    """Settings that hold a secret key: the given one, else the one kept in `data_dir/secret_key`, made on first use.

    Processes that start together agree on one key. Raises SettingsError if the file cannot be made or read, or if
    `redis.url` is set: processes on other machines could not know a key made here.
    """
    if settings.secret_key.get_secret_value():
        return settings
    if settings.redis.url:
        raise SettingsError(str(problem) for problem in contradictions(settings) if problem.keys[0] == ("secret_key",))
    return settings.model_copy(update={"secret_key": SecretStr(read_or_make_key(settings.data_dir))})


def _checked(values: Tree, schema: Schema) -> tuple[Settings, list[Problem]]:
    """The settings, and what is wrong with single values.

    Wrong values are replaced by defaults or stand-ins, so that the others can still be compared with each other. The
    settings are for that comparison only, unless there is no problem.
    """
    try:
        return Settings.model_validate(values), []
    except ValidationError as error:
        errors = _details(error)
    problems = [_problem(error, schema) for error in errors if error["type"] not in CONSEQUENCES]
    # A replacement can bring up errors of its own: an account that gets a provider misses that provider's keys.
    for _ in range(3):
        for wrong in errors:
            _replace(values, wrong["loc"], required=wrong["type"] == "missing")
        try:
            return Settings.model_validate(values), problems
        except ValidationError as error:
            errors = _details(error)
    for wrong in errors:  # still not good: drop the whole table
        _replace(values, wrong["loc"][: 2 if wrong["loc"][0] in (ACCOUNTS, PRODUCERS) else 1], required=False)
    return Settings.model_validate(values), problems


def _details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_input=False)  # the input may be a secret


def _problem(error: ErrorDetails, schema: Schema) -> Problem:
    key = error["loc"]
    secret = may_have_secret_file(schema.field(key))
    if error["type"] == "missing" or (secret and error["type"] == "too_short"):
        return missing(key, may_have_secret_file=secret)
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(str(key[-1]), schema.names(key[:-1]), "remove it")
        return Problem((key,), f"is not a setting: {hint}")
    if key[-1] == "[key]" and error["type"] == "value_error":
        return Problem((key[:-1],), message_for(error))
    if key[-1] == "[key]":  # pydantic's mark for an error in a dict's key instead of its value
        whom = "a producer" if key[0] == PRODUCERS else "an account"
        message = f"is not a name for {whom}: begin with a letter, and use only a-z, 0-9 and _"
        return Problem((key[:-1],), message)
    return Problem((key,), message_for(error))


def _replace(values: Tree, key: KeyPath, *, required: bool) -> None:
    *tables, name = key if key[-1] != "[key]" else key[:-1]
    for table in tables:
        if not isinstance(values.get(str(table)), dict):  # the error lies in an item of a list: replace the list
            name, required = table, False
            break
        values = values[str(table)]
    values.pop(str(name), None)
    if required:
        values[str(name)] = STAND_INS.get(str(name), "stand-in")


def _add_independent(problems: list[Problem], more: Iterable[Problem]) -> list[Problem]:
    """The problems, and those of `more` that do not depend on a key that one of the former is about."""
    wrong = {key for problem in problems for key in problem.keys}
    return [*problems, *(problem for problem in more if not _depends_on(problem, wrong))]


def _depends_on(problem: Problem, wrong: set[KeyPath]) -> bool:
    """Whether a key of the problem is one of the wrong ones, or lies in or around one."""
    return any(key[: len(other)] == other[: len(key)] for key in problem.keys for other in wrong)
