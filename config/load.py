"""TODO"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from config.accounts import ACCOUNT_KINDS
from config.errors import CONSEQUENCES, Fault, KeyPath, SettingsError, did_you_mean, missing, words_for
from config.gather import Tree, gather
from config.rules import cautions, contradictions
from config.schema import ACCOUNTS, Keys, may_be_in_file
from config.secret_key import read_or_make_key
from config.settings import Settings

# Where any text will not do for a key that is missing.
_STAND_INS: dict[str, object] = {
    "provider": next(iter(ACCOUNT_KINDS)),
    "contact": "Stand-in (it@stand-in.example)",
    "environment": "Development",
    "home_community_id": "2.999",
    "organization": {"child": "stand-in"},
}


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the settings: `path`, else `$CHARTPOST_CONFIG`, else `./chartpost.toml`; the environment on top.

    Raises SettingsError with every fault that was found. Opens no connection; reads secret files and CA files.
    """
    gathered = gather(Settings, path, environ)
    settings, wrong_values = _checked(gathered.tree, gathered.keys)
    faults = _without_consequences(gathered.faults, wrong_values)
    faults = _without_consequences(faults, contradictions(settings))
    if faults:
        raise SettingsError(str(fault) for fault in faults)
    settings._warnings = (*gathered.warnings, *cautions(settings))
    return settings


def ensure_secret_key(settings: Settings) -> Settings:
    """Settings that hold a secret key: the given one, else the one kept in `data_dir/secret_key`, made on first use.

    Processes that start together agree on one key. Raises SettingsError if the file cannot be made or read, or if
    `redis.url` is set: processes on other machines could not know a key made here.
    """
    if settings.secret_key.get_secret_value():
        return settings
    if settings.redis.url:
        raise SettingsError(str(fault) for fault in contradictions(settings) if fault.keys[0] == ("secret_key",))
    return settings.model_copy(update={"secret_key": SecretStr(read_or_make_key(settings.data_dir))})


def _without_consequences(faults: list[Fault], further: Iterable[Fault]) -> list[Fault]:
    """The faults, and of the further ones those that do not rest on a key already at fault."""
    at_fault = {key for fault in faults for key in fault.keys}
    return [*faults, *(fault for fault in further if not _rests_on(fault, at_fault))]


def _rests_on(fault: Fault, at_fault: set[KeyPath]) -> bool:
    """Whether a key of the fault is one of those, or lies in or around one."""
    return any(key[: len(other)] == other[: len(key)] for key in fault.keys for other in at_fault)


def _checked(tree: Tree, keys: Keys) -> tuple[Settings, list[Fault]]:
    """The settings, and what is wrong with single values; those are replaced, so that the rest can be compared."""
    try:
        return Settings.model_validate(tree), []
    except ValidationError as error:
        errors = _errors(error)
    faults = [_fault(error, keys) for error in errors if error["type"] not in CONSEQUENCES]
    return _what_remains(tree, errors), faults


def _errors(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_input=False)


def _fault(error: ErrorDetails, keys: Keys) -> Fault:
    key = error["loc"]
    secret = may_be_in_file(keys.field(key))
    if error["type"] == "missing" or (secret and error["type"] == "too_short"):
        return missing(key, may_be_in_file=secret)
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(str(key[-1]), keys.names(key[:-1]), "remove it")
        return Fault((key,), f"is not a setting: {hint}")
    if key[-1] == "[key]":
        return Fault((key[:-1],), "is not a name for an account: begin with a letter, and use only a-z, 0-9 and _")
    return Fault((key,), words_for(error))


def _what_remains(tree: Tree, errors: list[ErrorDetails]) -> Settings:
    """The settings with the values at fault replaced by defaults or stand-ins; in the end whole tables are dropped."""
    for _ in range(3):
        for wrong in errors:
            _replace(tree, wrong["loc"], needed=wrong["type"] == "missing")
        try:
            return Settings.model_validate(tree)
        except ValidationError as error:
            errors = _errors(error)
    for wrong in errors:
        _replace(tree, wrong["loc"][: 2 if wrong["loc"][0] == ACCOUNTS else 1], needed=False)
    return Settings.model_validate(tree)


def _replace(tree: Tree, key: KeyPath, *, needed: bool) -> None:
    *tables, name = key if key[-1] != "[key]" else key[:-1]
    for table in tables:
        if not isinstance(tree.get(str(table)), dict):  # the fault lies in an item of a list
            name, needed = table, False
            break
        tree = tree[str(table)]
    tree.pop(str(name), None)
    if needed:
        tree[str(name)] = _STAND_INS.get(str(name), "stand-in")
