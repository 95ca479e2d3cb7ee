"""Names on disk: how they are cleaned, tagged and cut, so that Linux takes them and no character is cut in half."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from itertools import count

from tasks.model.errors import About, invalid_request

MAX_NAME_BYTES = 255
SIDECAR_ENDING = ".meta.json"
"""A sidecar is called as its document, with this at the end."""
_UNCLEAN = ("Cc", "Cs")  # control characters, and the surrogates that stand for bytes which are not UTF-8


def clean(disk_name: str) -> str:
    """The name to give the provider: as on disk, with `_` for control characters and for bytes that are not UTF-8."""
    return "".join("_" if unicodedata.category(char) in _UNCLEAN else char for char in disk_name)


def check_is_text(disk_name: str) -> None:
    """Raises DocumentRefused for a name with bytes that are not UTF-8: nobody can tell what the chart should show."""
    if any(unicodedata.category(char) == "Cs" for char in disk_name):
        raise invalid_request(
            "The file's name is not in UTF-8: a program with another character set gave it.",
            "Rename the file; in the inbox its sidecar may give file_name instead. For IT: mount a share with "
            "iocharset=utf8.",
            about=About.FILE_NAME,
        )


def byte_length(name: str) -> int:
    return len(os.fsencode(name))


def cut(name: str, max_bytes: int) -> str:
    """As many whole characters from the beginning as fit into `max_bytes`."""
    # Character by character, since a byte that is not UTF-8 is a surrogate here, which no codec would cut right.
    while byte_length(name) > max_bytes:
        name = name[:-1]
    return name


def tagged(name: str, tag: str) -> str:
    """The name with `tag` before its last suffix. The stem is cut only if there is no room for the tag."""
    if not tag:
        return name
    dot = name.rfind(".")
    stem, suffix = (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")
    if byte_length(suffix + tag) >= MAX_NAME_BYTES:  # one long "suffix" is not a suffix
        stem, suffix = name, ""
    return cut(stem, MAX_NAME_BYTES - byte_length(suffix + tag)) + tag + suffix


def beside(name: str, tag: str, ending: str) -> str:
    """The name of a companion of `name`: `ending` appended, the stem cut where both together are too long."""
    if byte_length(name + ending) <= MAX_NAME_BYTES:
        return name + ending
    # The tag is appended again: the cut may have taken it, and two long names that begin alike need two companions.
    return cut(name, MAX_NAME_BYTES - byte_length(tag + ending)) + tag + ending


def tags(job_id: str) -> Iterator[str]:
    """What to put into a name until it is free: nothing, the job's first eight digits, those and a number."""
    yield ""
    short = "-" + job_id[:8]
    yield short
    for number in count(2):
        yield f"{short}-{number}"
