"""Which chartpost this is, and what it says of what a newer one has written."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import version

_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!-]{0,39}")


@cache
def own_version() -> str:
    return version("chartpost")


def written_by_newer(what: str, schema: int, known: int, writer: object) -> str:
    """The sentence for something with a higher schema than is known here. `writer`: which version says it wrote it."""
    # What others may have written is shown only if it looks like a version, and helps.
    is_named = isinstance(writer, str) and _VERSION.fullmatch(writer) and writer != own_version()
    name, start = (f"chartpost {writer}", f"chartpost {writer}") if is_named else ("a newer chartpost", "that one")
    return (
        f"{what} was written by {name} (schema {schema}); this is chartpost {own_version()}, which knows schemas up to "
        f"{known}. Start {start} or a later one here. This one has changed nothing."
    )
