"""A storage server on a real socket that keeps the exact bytes it got, and answers, or fails, as a script says."""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import re
import socket
import ssl
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import md5
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PATIENCE_SECONDS = 60  # with what hangs; no test passes or fails by how slow the machine is


class Visit:
    """One connection: what came, and how to answer it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(PATIENCE_SECONDS)
        self.got = bytearray()
        self.released = threading.Event()
        self.ended = threading.Event()

    @property
    def whole(self) -> bool:
        """Whether all has come that was announced."""
        return b"\r\n\r\n" in self.got and len(self.got) >= self.announced

    @property
    def head(self) -> str:
        return self.got.partition(b"\r\n\r\n")[0].decode()

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def body(self) -> bytes:
        return bytes(self.got.partition(b"\r\n\r\n")[2])

    @property
    def announced(self) -> int:
        """How long head and body are to be."""
        return len(self.head) + 4 + int(self.headers.get("content-length", 0))

    @property
    def parts(self) -> list[tuple[str, bytes]]:
        """Each part's head and content."""
        boundary = b"--" + re.findall(r"boundary=(\S+)", self.headers["content-type"])[0].encode()
        pieces = (b"\r\n" + self.body).split(b"\r\n" + boundary)
        assert pieces[0] == b""
        assert pieces[-1] == b"--\r\n"
        split = (piece.removeprefix(b"\r\n").partition(b"\r\n\r\n") for piece in pieces[1:-1])
        return [(head.decode(), content) for head, _, content in split]

    def read_head(self) -> None:
        while b"\r\n\r\n" not in self.got:
            self.read_to(len(self.got) + 1)

    def read_to(self, count: int) -> None:
        """Read until so many bytes have come. Raises EOFError if the other side ends before."""
        while len(self.got) < count:
            block = self._connection.recv(min(65_536, count - len(self.got)))
            if not block:
                raise EOFError
            self.got += block

    def read_all(self) -> None:
        self.read_head()
        self.read_to(self.announced)

    def drain(self) -> None:
        """Read it all and keep the head only."""
        self.read_head()
        left = self.announced - len(self.got)
        del self.got[len(self.head) + 4 :]
        while left > 0:
            left -= len(self._connection.recv(min(1 << 20, left))) or left

    def say(self, text: str | bytes) -> None:
        self._connection.sendall(text.encode() if isinstance(text, str) else text)

    def wait_until_arrived(self) -> None:
        """Until the other side's kernel has all that was said. Linux can tell; elsewhere a moment has to do."""
        if sys.platform != "linux":
            time.sleep(0.2)
            return
        unacknowledged = bytes(4)
        while any(unacknowledged := fcntl.ioctl(self._connection.fileno(), termios.TIOCOUTQ, unacknowledged)):
            time.sleep(0.002)

    def answer(self, status: str, body: str = "", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
        self.say("\r\n".join([*lines, f"Content-Length: {len(body.encode())}", "", body]))

    def store(self, status: str = "204 No Content", body: str = "") -> None:
        """Answer as S3 does when it has stored the last part."""
        self.answer(status, body, ETag=f'"{md5(self.parts[-1][1], usedforsecurity=False).hexdigest()}"')

    def stay(self) -> None:
        """Neither read nor close until the test lets go."""
        self.released.wait(PATIENCE_SECONDS)

    def reset(self) -> None:
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()

    def close(self) -> None:
        self._connection.close()


Script = Callable[[Visit], None]


def store(visit: Visit) -> None:
    visit.read_all()
    visit.store()


class StorageServer:
    """Serves one connection after the other; each visit's script runs in the server's thread."""

    def __init__(self, script: Script = store, *, certificate: Path | None = None) -> None:
        self.script = script
        self.visits: list[Visit] = []
        self._visited = threading.Event()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if self._tls and certificate:
            self._tls.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/"

    @property
    def visit(self) -> Visit:
        """The only visit, when it is over."""
        assert self._visited.wait(PATIENCE_SECONDS)
        (visit,) = self.visits
        visit.released.set()
        assert visit.ended.wait(PATIENCE_SECONDS)
        return visit

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for visit in self.visits:
            visit.released.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_SECONDS)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._receive(connection)

    def _receive(self, connection: socket.socket) -> None:
        try:
            if self._tls:
                connection.settimeout(PATIENCE_SECONDS)
                connection = self._tls.wrap_socket(connection, server_side=True)
        except OSError:
            return
        visit = Visit(connection)
        self.visits.append(visit)
        self._visited.set()
        try:
            self.script(visit)
        except (EOFError, OSError):
            pass
        finally:
            visit.close()
            visit.ended.set()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of loopback at which nobody listens meanwhile, and nobody can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1, its own authority, with its key in the same PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "storage of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + secret)
    return path
