"""The transport under httpx: libcurl, made for exchanges of which each must end and each outcome must be known.

httpx's own transport cannot keep what we promise. It knows no deadline of a whole exchange, decodes what it receives
before anybody can count it, and sends the last byte of a body whenever it likes. Two engines could: libcurl, or h11
with ssl and sockets. It is libcurl, because all of this was tried with it and works, and because it brings what we
would have to write: proxies with passwords, name look-ups that can be given up, two address families at once, TLS.

- Deadline: TIMEOUT_MS ends everything, look-up and TLS included. QUICK_EXIT: nobody waits for a look-up that hangs.
- Commit: the read callback takes a block only when all earlier ones have left; else it pauses, and the progress
  callback wakes it. To refuse is READFUNC_ABORT, which cuts the connection.
- An early answer: libcurl reads while it writes. The read callback pauses as long as something can be read.
- The last acknowledged byte: the socket callback gives the socket, and the kernel tells what is on its way.
- Authorities: CAINFO, the system's and the account's in one file, which libcurl parses once for each handle.
- Requests that create something have a new connection each; reading keeps connections open. libcurl sends nothing
  again on a connection that is new.
- Headers leave as they are written, and nothing is added but Host and Content-Length. No redirects, cookies, .netrc,
  `Expect`, HTTP/2, nor proxies of the environment.
- A child after a fork makes handles of its own; its parent's are left alone, since closing one would end TLS on it.

It is also CPU: the work is done without the GIL, and an answer is parsed in C.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import socket
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import httpx
import pycurl

from config.types import ProxyAddress
from tasks.http.failures import failure_of
from tasks.http.trust import Trust

MOST_BYTES = 10_000_000
# What a whole exchange may take where nothing else is said, and what more for each byte of a body that is sent.
DEADLINE_SECONDS = 120.0
SLOWEST_BYTES_PER_SECOND = 20_000

_MOST_HEADER_BYTES = 100_000  # of all headers of an answer, those of 1xx and trailers included
_MOST_INTERIM = 16  # answers of status 1xx
_BUFFER_BYTES = 256 * 1024  # a block of a document, so that it is copied once
_KEEP_SECONDS = 15

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SENDABLE_VALUE = re.compile(rb"[^\r\n\0\x01-\x08\x0b-\x1f\x7f]*")
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+", re.IGNORECASE)
_PATH = re.compile(rb"/[!-~]*")

# Options that pycurl has no name for (curl/curl.h).
_SUPPRESS_CONNECT_HEADERS = 265
_QUICK_EXIT = 322

_PAUSE: int = pycurl.READFUNC_PAUSE
_ABORT: int = pycurl.READFUNC_ABORT


class CurlTransport(httpx.BaseTransport):
    """One libcurl handle; it belongs to one thread of one process.

    `keep`: connections are kept and used again. Without it, each request has a new one. Through a `proxy` all go in
    tunnels, so that it sees host names and nothing else.

    Extensions of a request: `timeout` as httpx makes it: `connect`; `write`, without any progress; `read`, from the
    last acknowledged byte to the answer, and without any progress after it. `deadline`: seconds for all of it, and more
    for a long body.
    `most_bytes`: no more of the body is kept, and one byte in excess. `take` is given the body of a 200 instead.

    A body of more than one block is asked for its next block only when all earlier ones have left and no answer has
    begun; an empty block is a place to look for one. Whatever the body or `take` raises cuts the connection, and comes
    out.

    `response.extensions["lost"]`: the connection ended within the body, or time was up.
    """

    def __init__(self, trust: Trust, *, keep: bool, proxy: ProxyAddress | None = None) -> None:
        self._trust = trust
        self._keep = keep
        self._proxy = proxy
        self._curl = pycurl.Curl()
        self._pid = os.getpid()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self._pid != os.getpid():
            raise RuntimeError("A transport was used on both sides of a fork.")
        exchange = _Exchange(self._curl, request, watched=not self._keep, proxied=self._proxy is not None)
        curl = self._curl
        try:
            curl.reset()
            self._set_options(curl)
            exchange.set_options()
            error = None
            try:
                curl.perform()
            except pycurl.error as raised:
                error = raised
            return exchange.response(error)
        finally:
            curl.reset()  # drops the references to the exchange, and keeps the connections
            exchange.close()

    def close(self) -> None:
        if self._pid == os.getpid():
            self._curl.close()

    def __del__(self) -> None:
        if self._pid != os.getpid():
            _OF_THE_PARENT.append(self._curl)

    def _set_options(self, curl: Any) -> None:
        """What is the same for all requests."""
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(_QUICK_EXIT, 1)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.HTTP09_ALLOWED, 0)
        curl.setopt(pycurl.PATH_AS_IS, 1)
        # Empty, not unset: libcurl would look into the environment.
        curl.setopt(pycurl.NOPROXY, "")
        curl.setopt(pycurl.PROXY, self._proxy.url if self._proxy else "")
        if self._proxy:
            # A tunnel for http:// too, so that no answer of the proxy can be taken for the other side's.
            curl.setopt(pycurl.HTTPPROXYTUNNEL, 1)
            curl.setopt(_SUPPRESS_CONNECT_HEADERS, 1)
            curl.setopt(pycurl.PROXYAUTH, pycurl.HTTPAUTH_BASIC)
            if self._proxy.user or self._proxy.password:
                curl.setopt(pycurl.PROXYUSERNAME, self._proxy.user.encode())
                curl.setopt(pycurl.PROXYPASSWORD, self._proxy.password.encode())
        curl.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
        curl.setopt(pycurl.CAINFO, self._trust.file)
        if self._trust.folder:
            curl.setopt(pycurl.CAPATH, self._trust.folder)
        if self._keep:
            curl.setopt(pycurl.MAXAGE_CONN, _KEEP_SECONDS)
        else:
            curl.setopt(pycurl.FRESH_CONNECT, 1)
            curl.setopt(pycurl.FORBID_REUSE, 1)


# Handles of a parent process, never freed in the child: freeing one says goodbye on connections that the parent uses.
_OF_THE_PARENT: list[Any] = []


class _Exchange:
    """One request and its answer, as libcurl's callbacks see them."""

    def __init__(self, curl: Any, request: httpx.Request, *, watched: bool, proxied: bool) -> None:
        self._curl = curl
        self._request = request
        self._watched = watched
        self._proxied = proxied
        self._sockets: list[socket.socket] = []
        timeout = request.extensions.get("timeout", {})
        self._connect_seconds: float = timeout.get("connect") or DEADLINE_SECONDS
        self._write_seconds: float = timeout.get("write") or DEADLINE_SECONDS
        self._read_seconds: float = timeout.get("read") or DEADLINE_SECONDS
        self._most_bytes: int = request.extensions.get("most_bytes", MOST_BYTES)
        self._take: Callable[[bytes], object] | None = request.extensions.get("take")
        # What is sent.
        self._blocks: Iterator[bytes] = iter(())
        self._length = 0
        self._rest = b""
        self._given = 0
        self._left = 0
        self._paused = False
        self._all_given = True
        self._looked = False
        # What has come.
        self._header_bytes = 0
        self._interim = 0
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._complete = False  # the headers of the final answer
        self._body = bytearray()
        self._received = 0
        self._enough = False
        # How it goes on.
        self._connected = False
        self._progress_at = 0.0
        self._unacknowledged = 0
        self._waiting_since: float | None = None
        self._raised: BaseException | None = None
        self._failed: httpx.TransportError | None = None

    # --- before ----------------------------------------------------------------------------------------------

    def set_options(self) -> None:
        request, curl = self._request, self._curl
        curl.setopt(pycurl.URL, _address(request.url))
        headers = [b"Expect:", b"Accept:", b"User-Agent:", b"Content-Type:"]
        announced = None
        for name, value in request.headers.raw:
            if not _NAME.fullmatch(name) or not _SENDABLE_VALUE.fullmatch(value):
                raise httpx.LocalProtocolError("A header cannot be sent.", request=request)
            if name.lower() == b"content-length":
                announced = int(value)
            else:
                headers.append(name + b": " + value if value.strip() else name + b";")
        self._set_body(announced)
        curl.setopt(pycurl.HTTPHEADER, headers)
        curl.setopt(pycurl.HEADERFUNCTION, self._on_header)
        curl.setopt(pycurl.WRITEFUNCTION, self._on_body)
        curl.setopt(pycurl.PREREQFUNCTION, self._on_connected)
        curl.setopt(pycurl.NOPROGRESS, 0)
        curl.setopt(pycurl.XFERINFOFUNCTION, self._on_progress)
        if self._watched:
            curl.setopt(pycurl.OPENSOCKETFUNCTION, self._on_socket)
        deadline = request.extensions.get("deadline", DEADLINE_SECONDS) + self._length / SLOWEST_BYTES_PER_SECOND
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(self._connect_seconds * 1000)))
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(deadline * 1000)))

    def _set_body(self, announced: int | None) -> None:
        method, stream, curl = self._request.method, self._request.stream, self._curl
        content = b"".join(stream) if isinstance(stream, httpx.ByteStream) else None
        if content is None or content or method == "POST":
            curl.setopt(pycurl.POST, 1)
            if content is not None:
                self._length = len(content)
                curl.setopt(pycurl.POSTFIELDSIZE_LARGE, self._length)
                curl.setopt(pycurl.POSTFIELDS, content)
            else:
                if announced is None:
                    raise httpx.LocalProtocolError("A body has no length.", request=self._request)
                self._length = announced
                self._blocks = iter(cast(httpx.SyncByteStream, stream))
                self._all_given = False
                curl.setopt(pycurl.POSTFIELDSIZE_LARGE, announced)
                curl.setopt(pycurl.UPLOAD_BUFFERSIZE, _BUFFER_BYTES)
                curl.setopt(pycurl.READFUNCTION, self._on_read)
        elif method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)
        curl.setopt(pycurl.CUSTOMREQUEST, method)

    # --- callbacks: none may raise, pycurl would print it ------------------------------------------------------

    def _on_socket(self, purpose: int, address: Any) -> Any:
        try:
            # libcurl gets a duplicate.
            self._sockets.append(socket.socket(address[0], address[1], address[2]))
        except OSError:
            return pycurl.SOCKET_BAD
        return self._sockets[-1]

    def _on_connected(self, *where: object) -> int:
        self._connected = True
        self._progress_at = time.monotonic()
        return int(pycurl.PREREQFUNC_OK)

    def _on_read(self, count: int) -> bytes | int:
        try:
            while not self._rest:
                if self._complete or not self._looked or self._left < self._given or self._readable():
                    self._looked = True
                    self._paused = True
                    return _PAUSE
                block = next(self._blocks, None)
                self._progress_at = time.monotonic()
                if block is None:
                    if self._given != self._length:
                        raise httpx.LocalProtocolError("A body is not as long as it was said.", request=self._request)
                    return b""
                self._rest = block
                self._given += len(block)
                self._all_given = self._given >= self._length
                if self._given > self._length:
                    raise httpx.LocalProtocolError("A body is longer than it was said.", request=self._request)
            piece, self._rest = self._rest[:count], self._rest[count:]  # copies nothing of a block that fits
            return piece
        except BaseException as error:  # noqa: BLE001 (raised again when libcurl has cut the connection)
            self._raised = error
            return _ABORT

    def _on_header(self, line: bytes) -> int | None:
        self._progress_at = time.monotonic()
        self._header_bytes += len(line)
        if self._header_bytes > _MOST_HEADER_BYTES:
            return self._refuse("its headers are too long")
        if self._complete:  # trailers
            return None
        if not self._status:
            match = _STATUS_LINE.fullmatch(line)
            if match is None:
                return self._refuse("it is not HTTP/1.1")
            self._status = int(match[1])
            self._headers = []
            return None
        if line in (b"\r\n", b"\n"):
            return self._on_headers_complete()
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            return self._refuse("it has a header that cannot be read")
        self._headers.append((name, value.strip(b" \t\r\n")))
        return None

    def _on_headers_complete(self) -> int | None:
        if self._status < 200:
            self._interim += 1
            if self._interim > _MOST_INTERIM or self._status == 101:
                return self._refuse("it goes on with interim answers")
            self._status = 0
            return None
        if fault := _framing_fault(self._headers):
            return self._refuse(fault)
        self._complete = True
        # From 300 on libcurl stops sending by itself. An early success means nothing, and need not be read.
        return -1 if self._status < 300 and not self._all_given else None

    def _on_body(self, block: bytes) -> int | None:
        self._progress_at = time.monotonic()
        try:
            if self._take is not None and self._status == 200:
                self._take(block)
                return None
            self._body += block
            if len(self._body) > self._most_bytes:
                self._enough = True
                return -1
        except BaseException as error:  # noqa: BLE001 (as above)
            self._raised = error
            return -1
        return None

    def _on_progress(self, down_total: int, down: int, up_total: int, up: int) -> int:
        try:
            if up != self._left:
                self._left = up
                self._progress_at = time.monotonic()
            if self._paused and self._left >= self._given and not self._complete:
                self._paused = False
                self._curl.pause(pycurl.PAUSE_CONT)
            return self._time_is_up() if self._connected else 0
        except BaseException as error:  # noqa: BLE001 (as above)
            self._raised = error
            return 1

    def _time_is_up(self) -> int:
        now = time.monotonic()
        if self._complete:
            return int(now - self._progress_at > self._read_seconds)  # lost
        if self._left >= self._length and self._all_given:
            if self._waiting_since is None:
                unacknowledged = self._on_its_way()
                if unacknowledged != self._unacknowledged:
                    self._unacknowledged, self._progress_at = unacknowledged, now
                if not unacknowledged:
                    self._waiting_since = now
            if self._waiting_since is not None:
                if now - max(self._waiting_since, self._progress_at) > self._read_seconds:
                    self._failed = httpx.ReadTimeout("it got the request and did not answer in time")
                    return 1
                return 0
        if now - self._progress_at > self._write_seconds:
            self._failed = httpx.WriteTimeout("it stopped reading the request")
            return 1
        return 0

    def _refuse(self, why: str) -> int:
        self._failed = httpx.RemoteProtocolError(f"its answer cannot be trusted: {why}")
        return -1

    def _readable(self) -> bool:
        """Whether an answer may have begun to come. libcurl reads it, or TLS's own messages, before it goes on."""
        if not self._sockets:
            return False
        poll = select.poll()
        poll.register(self._sockets[-1], select.POLLIN)
        return bool(poll.poll(0))

    def _on_its_way(self) -> int:
        """How many bytes the other side has not acknowledged, as far as the system can tell; of the proxy, if any."""
        if not self._sockets:
            return 0
        try:
            if sys.platform == "linux":
                return int(struct.unpack("i", fcntl.ioctl(self._sockets[-1].fileno(), termios.TIOCOUTQ, bytes(4)))[0])
            if sys.platform == "darwin":
                return self._sockets[-1].getsockopt(socket.SOL_SOCKET, 0x1024)  # SO_NWRITE
        except OSError:
            pass
        return 0

    # --- after -------------------------------------------------------------------------------------------------

    def response(self, error: Any) -> httpx.Response:
        """What came, or raise what went wrong; `error` is pycurl's."""
        if self._raised is not None:
            raise self._raised
        if self._failed is not None:
            self._failed.request = self._request
            raise self._failed
        if not self._complete:
            raise failure_of(error, self._curl, self._request, connected=self._connected, proxied=self._proxied)
        response = httpx.Response(
            self._status,
            headers=self._headers,
            stream=httpx.ByteStream(bytes(self._body)),
            extensions={"lost": error is not None and not self._enough},
            request=self._request,
        )
        response.read()
        return response

    def close(self) -> None:
        for each in self._sockets:
            each.close()


def _framing_fault(headers: list[tuple[bytes, bytes]]) -> str:
    """Why it is not certain where the answer ends, or what it says; empty if it is."""
    lengths = {value for name, value in headers if name.lower() == b"content-length"}
    transfer = [value.lower() for name, value in headers if name.lower() == b"transfer-encoding"]
    if len(lengths) > 1 or any(not re.fullmatch(rb"[0-9]{1,18}", value) for value in lengths):
        return "its length is not certain"
    if transfer and (transfer != [b"chunked"] or lengths):
        return "its length is not certain"
    codings = {value.lower() for name, value in headers if name.lower() == b"content-encoding"}
    if codings - {b"identity", b""}:
        return "it is compressed, which was not asked for"
    return ""


def _address(url: httpx.URL) -> str:
    """The address for libcurl, of parts that no parser can read in another way."""
    host = url.raw_host.decode("ascii")
    path = url.raw_path
    if url.scheme not in ("http", "https") or not _HOST.fullmatch(host) or not _PATH.fullmatch(path):
        raise httpx.UnsupportedProtocol("It is not an address that can be called.")
    host = f"[{host}]" if ":" in host else host
    port = "" if url.port is None else f":{url.port}"
    return f"{url.scheme}://{host}{port}{path.decode('ascii')}"
