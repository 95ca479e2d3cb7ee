"""Lets the supervisor sleep until a signal comes: the end of a child is one."""

from __future__ import annotations

import select
import signal
import socket
from contextlib import suppress
from types import TracebackType
from typing import Self


class SignalWait:
    """Use it in the main thread, after the last fork: a forked child would have the same socket.

    A wait ends with any signal that has a handler, also with one that came since the last wait. Nothing is locked
    meanwhile, so handlers may do what they like.
    """

    def __init__(self) -> None:
        self._told, self._tells = socket.socketpair()
        for end in (self._told, self._tells):
            end.setblocking(False)

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._tells.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler, Python says nothing of it
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        self._told.close()
        self._tells.close()

    def wait(self, seconds: float) -> None:
        select.select([self._told], [], [], seconds)
        with suppress(BlockingIOError):
            self._told.recv(4096)
