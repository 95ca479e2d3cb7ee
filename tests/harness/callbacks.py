"""A caller that chartpost calls back: an HTTPS server with its own certificate, which keeps the requests."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.harness.tls import Authority, tls_front

SECRET = "shared with the caller"
SECRET_BEFORE = "shared with the caller before"
SETTINGS = (
    f'callback_hosts = ["127.0.0.1"]\ncallback_secret = "{SECRET}"\ncallback_secret_previous = "{SECRET_BEFORE}"\n'
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as received."""

    signature: str
    timed_signature: str
    body: bytes

    @property
    def signed(self) -> bool:
        """Whether its sender knows the secret."""
        return self.signature == "sha256=" + hmac.new(SECRET.encode(), self.body, hashlib.sha256).hexdigest()

    def signed_in_time(self, secret: str, now: float) -> bool:
        """As docs/contract.md tells a receiver to check `X-Chartpost-Signature-V1`."""
        fields = [part.partition("=") for part in self.timed_signature.split(",")]
        [at] = [value for name, _, value in fields if name == "t"]
        right = hmac.new(secret.encode(), f"{at}.".encode() + self.body, hashlib.sha256).hexdigest()
        return abs(now - int(at)) < 300 and right in [value for name, _, value in fields if name == "v1"]

    @property
    def said(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.body)
        return content


@dataclass
class Callee:
    """`answer` chooses the status for a call; None hangs up without one. chartpost is given `url` and `ca_file`."""

    answer: Callable[[Call], int | None] = lambda _: 200
    calls: list[Call] = field(default_factory=list)
    url: str = ""
    ca_file: Path = Path()

    def came(self, call: Call) -> int | None:
        self.calls.append(call)
        return self.answer(call)


@contextmanager
def called_back(folder: Path) -> Iterator[Callee]:
    """A callee that listens during the block; `folder` takes its certificate."""
    callee = Callee()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _answering(callee))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    authority = Authority(folder, "callers")
    with tls_front(*authority.server_files(), server.server_port) as port:
        callee.url, callee.ca_file = f"https://127.0.0.1:{port}/done", authority.ca_file
        yield callee
    server.shutdown()
    server.server_close()


def _answering(callee: Callee) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:
                return  # chartpost was killed in mid-body: such a request does not count
            status = callee.came(
                Call(self.headers["X-Chartpost-Signature"], self.headers["X-Chartpost-Signature-V1"], body)
            )
            if status is not None:
                self.send_response(status)
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not to the terminal."""

    return Answering
