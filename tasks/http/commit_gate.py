"""The body of a request that creates something: its last block leaves only when the commit has succeeded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import httpx


class CommitGate(Protocol):
    """What a creating request asks while it is being sent. An error that either method raises cuts the connection."""

    def check(self) -> None:
        """Called before each block. Raises if sending must stop."""
        ...

    def commit(self) -> None:
        """Called once, when all but the last block has left. Raises if that one must not leave."""
        ...


class NoCommit:
    """The gate of a call that may be repeated freely, so that it has no commit point."""

    def __init__(self, gate: CommitGate) -> None:
        self.check = gate.check
        self.commit = gate.check


class GatedBody(httpx.SyncByteStream):
    """The `blocks` of a request's body; the last one waits for `commit`.

    The transport asks for a block only when all earlier ones have left and no answer has begun. At an empty block it
    makes sure of that again.

    `may_be_whole` is True once the last block may have left: from then on a missing answer means an unknown outcome.
    """

    def __init__(self, blocks: Iterable[bytes], commit: Callable[[], None]) -> None:
        self.may_be_whole = False
        self._blocks = blocks
        self._commit = commit

    def __iter__(self) -> Iterator[bytes]:
        # One block behind: only when the blocks have ended is it known which one was the last.
        held = b""
        for block in self._blocks:
            if held:
                yield held
            held = block
        yield b""  # an answer that has begun meanwhile prevents the commit
        self._commit()
        yield b""  # committed, but the last block need not leave
        self.may_be_whole = True
        yield held
