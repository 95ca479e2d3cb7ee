"""What every source offers: it is located once, opened for each attempt, and removed at the end if asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from tasks.model.errors import Code, DocumentRefused


@dataclass(frozen=True, slots=True)
class Located:
    """A source as it was found. `identity` must stay the same from now on; `file_name` is how its address ends."""

    size_bytes: int
    identity: str
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


class Store(Protocol):
    """One kind of source. All methods raise DocumentRefused or, when it cannot be reached, RetryLater."""

    def locate(self, address: str) -> Located: ...

    def open(self, address: str, identity: str) -> OpenSource:
        """A fresh stream. Raises DocumentRefused (file_changed) if it is not what was located."""
        ...

    def remove(self, address: str, identity: str) -> bool:
        """Remove it if it still is what was located, else leave it and return False."""
        ...


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


def irregular(what: str) -> DocumentRefused:
    return DocumentRefused(Code.NOT_A_REGULAR_FILE, f"The source is {what}, not a file.", hint="Send the file itself.")


def not_allowed(why: str, hint: str) -> DocumentRefused:
    return DocumentRefused(Code.SOURCE_NOT_ALLOWED, why, hint=hint)
