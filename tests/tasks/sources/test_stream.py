"""A document's bytes as they are read, plain and in base64."""

from __future__ import annotations

import base64
from hashlib import md5, sha256
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.model.errors import Code, DocumentRefused
from tasks.sources.stream import BLOCK_BYTES, HashingReader, base64_length


class Dripping:
    """A source that gives as little as it likes at a time."""

    def __init__(self, content: bytes, drip: int, *, size: int | None = None, unchanged: bool = True) -> None:
        self.size = len(content) if size is None else size
        self._rest = content
        self._drip = drip
        self._unchanged = unchanged

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def read(self, count: int) -> bytes:
        block, self._rest = self._rest[: min(count, self._drip)], self._rest[min(count, self._drip) :]
        return block

    def unchanged(self) -> bool:
        return self._unchanged


@given(st.binary(max_size=2000), st.integers(1, 700))
def test_base64_is_one_text_however_the_source_drips(content: bytes, drip: int) -> None:
    passing = HashingReader(Dripping(content, drip), lambda: None)
    text = b"".join(passing.base64())
    assert text == base64.b64encode(content)
    assert len(text) == base64_length(len(content))
    assert passing.sha256 == sha256(content).hexdigest()
    assert passing.md5 == md5(content, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("size", [BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 2])
def test_base64_of_many_blocks_has_padding_at_its_end_only(size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    assert b"".join(HashingReader(Dripping(content, 10**9), lambda: None).base64()) == base64.b64encode(content)


@pytest.mark.parametrize(
    "source",
    [
        Dripping(b"x" * 10, 5, size=11),
        Dripping(b"x" * 12, 5, size=11),
        Dripping(b"x" * 10, 5, unchanged=False),
    ],
)
def test_what_is_not_what_was_accepted_never_ends_well(source: Dripping) -> None:
    with pytest.raises(DocumentRefused) as refused:
        list(HashingReader(source, lambda: None).base64())
    assert refused.value.code is Code.FILE_CHANGED


def test_it_asks_before_each_block() -> None:
    checks: list[int] = []
    list(HashingReader(Dripping(b"x" * 30, 10), lambda: checks.append(1)))
    assert len(checks) == 4
