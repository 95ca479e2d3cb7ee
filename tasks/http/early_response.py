"""Notices, while a request is still being sent, that the other side has answered or closed the connection.

Storage may refuse an upload before all of it has arrived, and close. Noticing that saves sending the rest, and keeps a
job from being marked as committed when nothing can have been stored.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore

_READ_AHEAD_BYTES = 65_536
_STALL_SECONDS = 1.0

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class StopSending(httpcore.WriteError):
    """Raised from a request's body: send no more, and read the answer.

    httpcore treats a failed write as the sign of an early answer and goes on to read, which is what we want.
    """


class EarlyResponseTrace:
    """A request's `trace` extension that knows whether its response has begun.

    It learns of the request's connection from httpcore's trace events. That works only on clients with an
    `EarlyResponseBackend`, and only for a connection that was opened for this request.
    """

    def __init__(self) -> None:
        self._stream: EarlyResponseStream | None = None

    def __call__(self, event: str, details: Mapping[str, Any]) -> None:
        stream = details.get("return_value")
        if isinstance(stream, EarlyResponseStream):
            self._stream = stream

    def response_begun(self) -> bool:
        return self._stream is not None and self._stream.response_begun()


class EarlyResponseBackend(httpcore.SyncBackend):
    """Opens `EarlyResponseStream` connections."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> EarlyResponseStream:
        return EarlyResponseStream(super().connect_tcp(host, port, timeout, local_address, socket_options))


class EarlyResponseStream(httpcore.NetworkStream):
    """A connection that reads ahead between writes, and keeps what it has read until it is asked for."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._early = b""
        self._ended = False

    def response_begun(self) -> bool:
        """Whether an answer has begun to arrive, or the connection has ended. Never waits."""
        if not self._early and not self._ended and self._stream.get_extra_info("is_readable"):
            self._read_ahead()
        return bool(self._early) or self._ended

    def _read_ahead(self) -> None:
        connection: socket.socket = self._stream.get_extra_info("socket")
        connection.settimeout(0)
        try:
            self._early = connection.recv(_READ_AHEAD_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return  # readable is not yet an answer: TLS 1.3 servers send session tickets unasked
        except OSError:
            self._ended = True
        else:
            self._ended = not self._early

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self._early:
            return self._stream.read(max_bytes, timeout)
        early, self._early = self._early[:max_bytes], self._early[max_bytes:]
        return early

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of it, and check for an answer whenever the other side takes nothing for a second.

        Raises httpcore's errors and StopSending.
        """
        rest, progress_at = memoryview(buffer), time.monotonic()
        while rest:
            if taken := self._send(rest, _STALL_SECONDS if timeout is None else min(timeout, _STALL_SECONDS)):
                rest, progress_at = rest[taken:], time.monotonic()
            elif self.response_begun():
                raise StopSending("The other side has answered and reads no more.")
            elif timeout is not None and time.monotonic() - progress_at >= timeout:
                raise httpcore.WriteTimeout("The other side reads no more.")

    def _send(self, rest: memoryview, seconds: float) -> int:
        """How many bytes the other side took; 0 if it took none for so many seconds."""
        connection: socket.socket = self._stream.get_extra_info("socket")
        connection.settimeout(seconds)
        try:
            return connection.send(rest)
        except TimeoutError:
            return 0
        except OSError as error:
            raise httpcore.WriteError(type(error).__name__) from error

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> EarlyResponseStream:
        return EarlyResponseStream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # as httpcore declares it
        return self._stream.get_extra_info(info)
