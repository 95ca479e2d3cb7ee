"""Names on disk: what a name may become, never longer than Linux allows and never in the middle of a character."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from itertools import count

MAX_NAME_BYTES = 255
_UNCLEAN = ("Cc", "Cs")  # control characters, and the surrogates that stand for bytes which are not UTF-8


def clean(disk_name: str) -> str:
    """The name to give the provider: as on disk, with `_` for every byte or character that no text should hold."""
    return "".join("_" if unicodedata.category(char) in _UNCLEAN else char for char in disk_name)


def byte_length(name: str) -> int:
    return len(os.fsencode(name))


def cut(name: str, max_bytes: int) -> str:
    """As many whole characters from the beginning as fit into `max_bytes`."""
    while byte_length(name) > max_bytes:
        name = name[:-1]
    return name


def tagged(name: str, tag: str) -> str:
    """`tag` put before the last suffix. Only where nothing else fits is the stem cut to make room for the tag."""
    if not tag:
        return name
    dot = name.rfind(".")
    stem, suffix = (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")
    if byte_length(suffix + tag) >= MAX_NAME_BYTES:  # one long "suffix": no suffix that anyone would miss
        stem, suffix = name, ""
    return cut(stem, MAX_NAME_BYTES - byte_length(suffix + tag)) + tag + suffix


def beside(name: str, tag: str, ending: str) -> str:
    """The name of a companion of `name`: `ending` appended, the stem cut where both together are too long.

    A cut name keeps the tag, so that two documents whose names are cut alike still get two companions.
    """
    if byte_length(name + ending) <= MAX_NAME_BYTES:
        return name + ending
    return cut(name, MAX_NAME_BYTES - byte_length(tag + ending)) + tag + ending


def tags(job_id: str) -> Iterator[str]:
    """What to put into a name until it is free: nothing, the job's first eight digits, those and a number."""
    yield ""
    short = "-" + job_id[:8]
    yield short
    for number in count(2):
        yield f"{short}-{number}"
