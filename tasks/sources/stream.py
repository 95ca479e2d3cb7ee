"""A document's bytes as they go by: in blocks, with their digests, and only if they are what was accepted."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from typing import Protocol

from tasks.model.errors import Code, DocumentRefused

BLOCK_BYTES = 256 * 1024  # larger ones run into write timeouts on slow links; smaller ones cost CPU
_BASE64_BLOCK_BYTES = BLOCK_BYTES // 3 * 3  # whole groups of three: no padding between blocks


class Source(Protocol):
    """An open document: a fresh stream of exactly `size` bytes."""

    @property
    def size(self) -> int: ...

    def read(self, count: int, /) -> bytes: ...

    def unchanged(self) -> bool:
        """Whether it still is what was accepted."""
        ...


class HashingReader:
    """The blocks of a source, once. `beat` is asked before each; the digests are those of what has gone by.

    Iterating raises DocumentRefused (`file_changed`) instead of ending if there were more or fewer bytes than there
    should be, or if the document has changed meanwhile. What is sent of it should therefore wait for the end.
    """

    def __init__(self, source: Source, beat: Callable[[], None]) -> None:
        self._source = source
        self._beat = beat
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        return self._of(BLOCK_BYTES)

    def base64(self) -> Iterator[bytes]:
        """The same in base64 (RFC 4648, 4), which has `base64_length(size)` bytes."""
        return map(base64.b64encode, self._whole(_BASE64_BLOCK_BYTES))

    def _whole(self, count: int) -> Iterator[bytes]:
        """Blocks of exactly so many bytes, save the last: a source may return fewer than asked for."""
        held = bytearray()
        for block in self._of(count):
            held += block
            if len(held) >= count:
                yield bytes(held[:count])
                del held[:count]
        if held:
            yield bytes(held)

    def _of(self, count: int) -> Iterator[bytes]:
        passed = 0
        while block := self._next_block(count):
            passed += len(block)
            if passed > self._source.size:
                break
            self._sha256.update(block)
            self._md5.update(block)
            yield block
        if passed != self._source.size or not self._source.unchanged():
            raise DocumentRefused(
                Code.FILE_CHANGED,
                "The file changed while it was being sent.",
                hint="Send it again once it is written completely.",
            )

    def _next_block(self, count: int) -> bytes:
        self._beat()
        return self._source.read(count)


def base64_length(size: int) -> int:
    """How many characters `size` bytes have in base64, with padding."""
    return (size + 2) // 3 * 4
