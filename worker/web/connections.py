"""Connections that end: a browser that sends slowly, or only pretends to send, keeps nobody else out.

uvicorn ends a connection on which nothing happens after an answer. It waits without end for the first request, for
headers that come byte by byte, and for the rest of a form that was already answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 15.0
"""In which the headers of a request must have come."""
DRAIN_SECONDS = 5.0
"""How long the rest of a form is taken after its answer, which browsers show once they have sent all of the form."""
UNREAD_SECONDS = 60.0
"""How long an answer waits for a browser that does not take it."""
AT_ONCE = 512
"""Connections; a browser has up to six."""
OF_ONE_ADDRESS = 64
"""Connections from one address that is not this machine's or a proxy's."""


class Connection(H11Protocol):
    """One connection. `is_many` is true for an address whose connections are those of many people, as a proxy's are."""

    def __init__(self, is_many: Callable[[str], bool], **options: Any) -> None:  # uvicorn's, handed on as they are
        super().__init__(**options)
        self._is_many = is_many
        self._due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn's own
        super().connection_made(transport)
        self._end_in(REQUEST_SECONDS)
        if self._too_many():
            transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:  # a request has begun, and its headers are not all there
            if self._due is None:
                self._end_in(REQUEST_SECONDS)
        elif self.conn.our_state is not h11.DONE:
            self._go_on()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._end_in(DRAIN_SECONDS)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._end_in(UNREAD_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._go_on()
        super().connection_lost(exc)

    def _end_in(self, seconds: float) -> None:
        self._go_on()
        self._due = self.loop.call_later(seconds, self.transport.abort)

    def _go_on(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _too_many(self) -> bool:
        if self.client is None or self._is_many(self.client[0]):
            return False
        address = self.client[0]
        others = [each for each in self.connections if isinstance(each, Connection) and each.client]
        return sum(each.client[0] == address for each in others if each.client) > OF_ONE_ADDRESS
