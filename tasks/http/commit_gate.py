"""The body of a request that creates something: its last block leaves only when the commit has succeeded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from tasks.http.early_response import Ear, StopSending


class CommitGate(Protocol):
    """What a creating request asks while it is being sent. Whatever either raises cuts the connection."""

    def beat(self) -> None:
        """May it go on? Asked before each block."""
        ...

    def commit(self) -> None:
        """May the last block leave? Asked once, when all but that has left."""
        ...


class GatedBody:
    """`blocks` as they are sent, one behind. Give `ear` to the request as its `trace` extension.

    `sent_whole` says that the last block may have left: without an answer, nobody knows what became of the request.
    """

    def __init__(self, blocks: Iterable[bytes], commit: Callable[[], None]) -> None:
        self.sent_whole = False
        self.ear = Ear()
        self._blocks = blocks
        self._commit = commit

    def __iter__(self) -> Iterator[bytes]:
        held = b""
        for block in self._blocks:
            if held:
                yield held
            self._listen()
            held = block
        self._listen()
        self._commit()
        self._listen()  # committed, but the last block need not leave
        self.sent_whole = True
        yield held

    def _listen(self) -> None:
        if self.ear.heard():
            raise StopSending("The other side answered before it had the whole of it.")
