"""keys.py names every key that we make in Redis, and key_types.py says of each which type it has."""

from __future__ import annotations

import inspect
import re
from datetime import date
from pathlib import Path

from tasks.ledger import key_types, keys
from tasks.ledger.keys import OWN_LANES, PREFIX

NOT_GUARDED = {"writable", "calls:turn", "run:reported", "turn:", "watcher:", "part:", "reload:"}
"""Keys that expire or are made again, so that `key_types.py` does not look at them. Families end with a colon."""


def constants() -> set[str]:
    return {
        value.removeprefix(PREFIX)
        for name, value in vars(keys).items()
        if name.isupper() and isinstance(value, str) and value not in (PREFIX, *OWN_LANES)
    }


def families() -> set[str]:
    """What stands before the first argument of each function that makes a key."""
    found = set()
    for name, make in inspect.getmembers(keys, inspect.isfunction):
        if name == "sealed":  # the part is the family
            found |= {f"{part}:" for part in ("document", "facts", "failure")}
            continue
        (first, *_) = inspect.signature(make).parameters
        argument = {"number": 7, "day": date(2026, 12, 1)}.get(first, "X")
        found.add(make(argument).removeprefix(PREFIX).removesuffix(str(argument)))
    return found


def test_each_key_has_a_type_and_each_type_a_key() -> None:
    assert constants() - NOT_GUARDED == set(key_types._SHARED)
    assert families() - NOT_GUARDED == {f"{family}:" for family in key_types._FAMILIES}
    assert constants() | families() >= NOT_GUARDED


def test_the_scripts_make_no_other_keys() -> None:
    root = Path(keys.__file__).parents[2]
    made = set[str]()
    for script in (*root.glob("tasks/**/*.lua"), *root.glob("worker/**/*.lua")):
        made |= set(re.findall(r"prefix \.\. '([^']+)'", script.read_text()))
    assert len(made) > 20, "the scripts make keys in another way by now"
    assert made <= constants() | families()
