"""What differs between two settings: names of keys, never values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from config.errors import KeyPath, dotted
from config.settings import Settings
from config.types import Section

NEEDS_RESTART = ("data_dir", "secret_key", "redis.url", "inbox.enabled", "worker.processes", "web.enabled")
"""The processes of one installation must agree on the first three at all times. The others decide what `run` starts."""


def changed_keys(old: Settings, new: Settings) -> list[str]:
    """Keys as in `accounts.north_clinic.api_key`; an account that has come or gone as `accounts.north_clinic`."""
    return [dotted(key) for key in _changed(old, new, ())]


def changed_accounts(keys: list[str]) -> list[str]:
    """The names of the accounts among these keys."""
    return sorted({key.split(".")[1] for key in keys if key.startswith("accounts.")})


def _changed(old: object, new: object, key: KeyPath) -> Iterator[KeyPath]:
    if isinstance(old, Section) and type(old) is type(new):
        for name in type(old).model_fields:
            yield from _changed(getattr(old, name), getattr(new, name), (*key, name))
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            yield from _changed(old.get(name), new.get(name), (*key, name))
    elif old != new:
        yield key
