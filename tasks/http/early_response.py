"""Sockets that can be asked, while we still write, whether the other side has answered or hung up already.

Storage may refuse an upload before it has come whole, and close. Hearing that saves sending the rest, and keeps a job
from being marked as committed when nothing can have been stored.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore

_ANSWER_BYTES = 65_536
_LISTEN_SECONDS = 1.0

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class StopSending(httpcore.WriteError):
    """Raised from a request's body: send no more, and read the answer.

    httpcore takes a failed write for the sign of an early answer: it goes on to read, as we want.
    """


class EarlyResponseStream(httpcore.NetworkStream):
    """A connection that keeps what it hears between writes until it is read."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._early = b""
        self._ended = False

    def heard(self) -> bool:
        """Whether an answer has begun to arrive, or the connection has ended. Never waits."""
        if not self._early and not self._ended and self._stream.get_extra_info("is_readable"):
            self._listen(self._stream.get_extra_info("socket"))
        return bool(self._early) or self._ended

    def _listen(self, connection: socket.socket) -> None:
        # A readable socket is no answer yet: TLS 1.3 servers send session tickets of their own accord.
        connection.settimeout(0)
        try:
            self._early = connection.recv(_ANSWER_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
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
        """Write it all, listening whenever nothing is taken for a while. Raises httpcore's errors and StopSending."""
        rest, moved_at = memoryview(buffer), time.monotonic()
        while rest:
            patience = _LISTEN_SECONDS if timeout is None else min(timeout, _LISTEN_SECONDS)
            if taken := self._send(rest, patience):
                rest, moved_at = rest[taken:], time.monotonic()
            elif self.heard():
                raise StopSending("The other side has answered and reads no more.")
            elif timeout is not None and time.monotonic() - moved_at >= timeout:
                raise httpcore.WriteTimeout("The other side reads no more.")

    def _send(self, rest: memoryview, patience: float) -> int:
        """How many bytes were taken; none if the other side takes nothing for so many seconds."""
        connection: socket.socket = self._stream.get_extra_info("socket")
        connection.settimeout(patience)
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


class EarlyResponseBackend(httpcore.SyncBackend):
    """Opens connections that listen."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> EarlyResponseStream:
        return EarlyResponseStream(super().connect_tcp(host, port, timeout, local_address, socket_options))


class Ear:
    """Give it to a request as its `trace` extension; then ask it whether an answer came before we were done.

    It learns of the request's connection from httpcore's trace events. It hears nothing on a client that was not
    built with `ListeningBackend`, nor on a connection that was open before the request.
    """

    def __init__(self) -> None:
        self._stream: EarlyResponseStream | None = None

    def __call__(self, event: str, details: Mapping[str, Any]) -> None:
        stream = details.get("return_value")
        if isinstance(stream, EarlyResponseStream):
            self._stream = stream

    def heard(self) -> bool:
        return self._stream is not None and self._stream.heard()
