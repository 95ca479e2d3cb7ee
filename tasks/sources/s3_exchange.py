"""How an exchange with S3 ends: one deadline for all of it, and a bound on what is read at once.

botocore bounds each wait for the socket. It does not bound an answer that comes a byte at a time, interim answers
without end, or the body of an error, which it reads whole. So each of its connections is cut when time is up, and what
it would read whole is read here. Imported late, with boto3.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import botocore.awsrequest
from botocore.exceptions import ConnectionClosedError, HTTPClientError
from urllib3.exceptions import HTTPError

_MOST_BYTES = 5_000_000  # a page of a list has at most 1,000 keys of 1,024 bytes
_OTHER_SECONDS = 300.0  # parts of a file that boto3 sends from threads of its own
_of_this_thread = threading.local()


class Exchange:
    """A call of boto3's with all that belongs to it: repetitions, and the body that is read from its answer."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Requests that this thread makes in the block belong to it."""
        _of_this_thread.exchange = self
        try:
            yield
        finally:
            _of_this_thread.exchange = None

    def watch(self, connection: socket.socket) -> None:
        """Cut this connection, too, when time is up. Raises TimeoutError if it is."""
        with self._lock:
            if self.over:
                raise TimeoutError
            # A descriptor of our own: TLS takes the socket over, and http.client closes it while a body is read.
            self._sockets.append(socket.socket(fileno=os.dup(connection.fileno())))

    def end(self) -> None:
        self._timer.cancel()
        with self._lock:
            for each in self._sockets:
                each.close()
            self._sockets.clear()

    def _cut(self) -> None:
        with self._lock:
            self.over = True
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


class _Watched:
    """Mixed into botocore's connections."""

    sock: socket.socket | None

    def _new_conn(self) -> socket.socket:
        connection: socket.socket = super()._new_conn()  # type: ignore[misc]
        try:
            _exchange().watch(connection)  # before TLS
        except TimeoutError:
            connection.close()
            raise
        return connection

    def request(self, *args: Any, **kwargs: Any) -> Any:
        if self.sock is not None:  # one that was kept
            _exchange().watch(self.sock)
        return super().request(*args, **kwargs)  # type: ignore[misc]


class _Connection(_Watched, botocore.awsrequest.AWSHTTPConnection):  # type: ignore[misc]
    pass


class _SecureConnection(_Watched, botocore.awsrequest.AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _Pool(botocore.awsrequest.AWSHTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(botocore.awsrequest.AWSHTTPSConnectionPool):
    ConnectionCls = _SecureConnection


def _exchange() -> Exchange:
    exchange: Exchange = _of_this_thread.exchange
    return exchange


def bound(client: Any) -> None:
    """Make this client of boto3's keep the deadlines of exchanges. Any, since botocore has no types for its inside."""
    session = client._endpoint.http_session
    session._pool_classes_by_scheme.update(http=_Pool, https=_SecurePool)
    client.meta.events.register("before-send.s3", lambda request, **_: _send(session, request))


def _send(session: Any, request: Any) -> Any:
    """What botocore's own sending does, within the exchange of this thread."""
    if getattr(_of_this_thread, "exchange", None) is not None:
        return _sent(session, request)
    exchange = Exchange(_OTHER_SECONDS)
    try:
        with exchange.calling():
            return _sent(session, request)
    finally:
        if not request.stream_output:
            exchange.end()  # else with its time


def _sent(session: Any, request: Any) -> Any:
    streamed, request.stream_output = request.stream_output, True
    try:
        response = session.send(request)
    finally:
        request.stream_output = streamed
    if streamed and response.status_code < 300:
        return response
    try:
        body = response.raw.read(_MOST_BYTES + 1, decode_content=False)
    except (HTTPError, OSError) as error:
        raise ConnectionClosedError(endpoint_url="", request=request, error=error) from None
    if _exchange().over:  # a body that was cut may look like one that has ended
        raise ConnectionClosedError(endpoint_url="", request=request)
    if len(body) > _MOST_BYTES:
        response.raw.close()
        raise HTTPClientError(error="its answer is too long")
    response.raw.release_conn()
    return botocore.awsrequest.AWSResponse(request.url, response.status_code, response.headers, _Whole(body))


class _Whole:
    """A body that was read."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._content
