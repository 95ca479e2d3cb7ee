"""The body of a request that creates something: its last block leaves only when the commit has succeeded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from tasks.http.early_response import EarlyResponseTrace, StopSending


class CommitGate(Protocol):
    """What a creating request asks while it is being sent. An error that either method raises cuts the connection."""

    def check(self) -> None:
        """Called before each block. Raises if sending must stop."""
        ...

    def commit(self) -> None:
        """Called once, when all but the last block has left. Raises if that one must not leave."""
        ...


class GatedBody:
    """The `blocks` of a request's body; the last one waits for `commit`. Pass `trace` as the request's extension.

    `may_be_whole` is True once the last block may have left: from then on a missing answer means an unknown outcome.
    """

    def __init__(self, blocks: Iterable[bytes], commit: Callable[[], None]) -> None:
        self.may_be_whole = False
        self.trace = EarlyResponseTrace()
        self._blocks = blocks
        self._commit = commit

    def __iter__(self) -> Iterator[bytes]:
        # One block behind: only when the blocks have ended is it known which one was the last.
        held = b""
        for block in self._blocks:
            if held:
                yield held
            self._stop_if_answered()
            held = block
        self._stop_if_answered()
        self._commit()
        self._stop_if_answered()  # committed, but the last block need not leave
        self.may_be_whole = True
        yield held

    def _stop_if_answered(self) -> None:
        if self.trace.response_begun():
            raise StopSending("The other side answered before it had the whole request.")
