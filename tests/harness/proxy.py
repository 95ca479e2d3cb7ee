"""An HTTP proxy on a real socket: it knows CONNECT and absolute addresses, and may ask for a password."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Proxy:
    """`heads` are the requests that it got, without what went through its tunnels."""

    def __init__(self, *, user: str = "", password: str = "", refuses: str = "") -> None:
        self.heads: list[str] = []
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self._refuses = refuses
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        with suppress(OSError):  # the listener is closed at the end
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            got = b""
            while b"\r\n\r\n" not in got:
                block = connection.recv(65_536)
                if not block:
                    return
                got += block
            head = got.partition(b"\r\n\r\n")[0].decode()
            self.heads.append(head)
            if self._authorization and f"Proxy-Authorization: {self._authorization}" not in head:
                connection.sendall(
                    b'HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
                )
                return
            if self._refuses:
                connection.sendall(f"HTTP/1.1 {self._refuses}\r\nContent-Length: 0\r\n\r\n".encode())
                return
            method, target = head.split()[:2]
            if method == "CONNECT":
                host, _, port = target.rpartition(":")
            else:
                host, port = urlsplit(target).hostname or "", str(urlsplit(target).port or 80)
            with socket.create_connection((host, int(port))) as other:
                if method == "CONNECT":
                    connection.sendall(b"HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n")
                else:
                    other.sendall(got)
                back = threading.Thread(target=_copy, args=(other, connection), daemon=True)
                back.start()
                _copy(connection, other)
                back.join(10)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(65_536):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def proxy(*, user: str = "", password: str = "", refuses: str = "") -> Iterator[Proxy]:
    server = Proxy(user=user, password=password, refuses=refuses)
    threading.Thread(target=server.serve, daemon=True).start()
    try:
        yield server
    finally:
        server.close()
