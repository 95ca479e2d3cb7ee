"""Reads a document in blocks, takes its digests, and notices if it is not what was accepted."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator

from tasks.model.errors import Code, DocumentRefused
from tasks.sources.base import OpenSource

BLOCK_BYTES = 256 * 1024  # larger ones run into write timeouts on slow links; smaller ones cost CPU
_BASE64_BLOCK_BYTES = BLOCK_BYTES // 3 * 3  # whole groups of three: no padding between blocks


class HashingReader:
    """The blocks of a document, once, and the digests of those that were read. `before_block` is called before each.

    Iterating ends in DocumentRefused (`file_changed`) if the document has more or fewer bytes than it should have, or
    has changed meanwhile. Its last block should therefore not be sent before the iteration has ended.

    MD5 costs more CPU than everything else that an upload does. `with_md5` is False where nothing can be compared with
    it; `md5` is empty then.
    """

    def __init__(self, source: OpenSource, before_block: Callable[[], None], *, with_md5: bool = True) -> None:
        self._source = source
        self._before_block = before_block
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        return self._md5.hexdigest() if self._md5 else ""

    def __iter__(self) -> Iterator[bytes]:
        return self._read(BLOCK_BYTES)

    def base64(self) -> Iterator[bytes]:
        """The same in base64 (RFC 4648, 4), which has `base64_length(size)` bytes."""
        # A source may return fewer bytes than asked for: they are collected, so that no block but the last is padded.
        held = bytearray()
        for block in self._read(_BASE64_BLOCK_BYTES):
            held += block
            if len(held) >= _BASE64_BLOCK_BYTES:
                yield base64.b64encode(held[:_BASE64_BLOCK_BYTES])
                del held[:_BASE64_BLOCK_BYTES]
        if held:
            yield base64.b64encode(held)

    def _read(self, count: int) -> Iterator[bytes]:
        length = 0
        while True:
            self._before_block()
            block = self._source.read(count)
            length += len(block)
            if not block or length > self._source.size:
                break
            self._sha256.update(block)
            if self._md5:
                self._md5.update(block)
            yield block
        if length != self._source.size or not self._source.unchanged():
            raise changed_while_sending()


def base64_length(size: int) -> int:
    """How many characters `size` bytes have in base64, with padding."""
    return (size + 2) // 3 * 4


def changed_while_sending() -> DocumentRefused:
    return DocumentRefused(
        Code.FILE_CHANGED,
        "The file changed while it was being sent.",
        hint="Send it again once it is written completely.",
    )
