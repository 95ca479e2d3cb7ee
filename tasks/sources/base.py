"""What every kind of source offers: locate a document once, open it for each attempt, remove it if that was asked for.

The refusals at the end of the file are common to all kinds. None of them names the file or its path: messages are
logged, and both may name a patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.sources.whole import Format, Parts


@dataclass(frozen=True, slots=True)
class Located:
    """A document as it was found at its source."""

    size_bytes: int
    # Changes with the content. `open` and `remove` are given it later, and refuse anything else.
    identity: str
    # The last part of the address, as it is there: not yet checked or cleaned.
    file_name: str


class OpenSource(Protocol):
    """A fresh stream of exactly `size` bytes; closed at the end of its `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...

    @property
    def size(self) -> int: ...

    def read(self, count: int, /) -> bytes:
        """At most `count` bytes; none at the end. Raises RetryLater."""
        ...

    def unchanged(self) -> bool:
        """Whether the source still is what was accepted."""
        ...


class OpenParts(Parts, Protocol):
    """A document that is read in parts, for a `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...


class NoParts(Exception):
    """The storage gives a document only as a whole."""


class Store(Protocol):
    """One kind of source. Every method raises DocumentRefused, or RetryLater while the source cannot be reached."""

    def locate(self, address: str) -> Located:
        """The document that is there now. An empty one is refused."""
        ...

    def open(self, address: str, identity: str) -> OpenSource:
        """A fresh stream. Raises DocumentRefused (`file_changed`) if it is not what was located."""
        ...

    def parts(self, address: str, identity: str) -> OpenParts:
        """For reads of parts of what was located; they raise NoParts, too. Raises DocumentRefused (`file_changed`)."""
        ...

    def check_removable(self, address: str) -> None:
        """Raises DocumentRefused where callers may not have their sources removed."""
        ...

    def remove(self, address: str, identity: str) -> bool:
        """Remove what was located. True also if nothing is there any more; False if something else is, which stays.

        Raises DocumentRefused as `check_removable` does.
        """
        ...


class StorageAway(RetryLater):
    """The storage of a source does not answer as it should. It has nothing to do with this one document."""


def invalid(message: str) -> DocumentRefused:
    return DocumentRefused(Code.INVALID_REQUEST, message, hint="Write file:///path or s3://bucket/key.")


def missing() -> DocumentRefused:
    return DocumentRefused(Code.FILE_MISSING, "The file is not there.", hint="Put it back, then send it again.")


def empty() -> DocumentRefused:
    return DocumentRefused(Code.FILE_EMPTY, "The file is empty.", hint="Check that it was written completely.")


def changed() -> DocumentRefused:
    return DocumentRefused(
        Code.FILE_CHANGED,
        "The file has changed since it was accepted.",
        hint="Send it again once it is written completely.",
    )


def incomplete(found: Format, hint: str = "") -> DocumentRefused:
    return DocumentRefused(
        Code.FILE_INCOMPLETE,
        f"The file is a {found} whose end is missing.",
        hint=hint or "Scan or export it again. If it is right as it is, `chartpost retry JOB --as-it-is` sends it.",
    )


def still_written(hint: str) -> DocumentRefused:
    return DocumentRefused(Code.FILE_INCOMPLETE, "Another program still has the file open for writing.", hint=hint)


def irregular(what: str) -> DocumentRefused:
    return DocumentRefused(Code.NOT_A_REGULAR_FILE, f"The source is {what}, not a file.", hint="Send the file itself.")


def not_allowed(why: str, hint: str) -> DocumentRefused:
    return DocumentRefused(Code.SOURCE_NOT_ALLOWED, why, hint=hint)


def not_removable(setting: str, entry: str) -> DocumentRefused:
    return not_allowed(
        "The source may be sent, but not removed after delivery.",
        f"Leave delete_source out, or allow it in the settings, in {setting}: {entry}.",
    )
