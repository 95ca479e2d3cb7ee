"""A provider that answers whatever a test has written down, and keeps every request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """An answer; text stands as it is, anything else as JSON."""

    status: int = 200
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)


Answering = Reply | Callable[[Request], Reply]


class OddServer:
    """`answers` maps a method and path ("GET /v1/…") to what is answered; anything else is answered `otherwise`.

    A reply of status 0 cuts the connection without an answer. A reply in `early` is sent before the body is read.
    """

    otherwise: Answering = Reply(404, {"message": "Not Found"})

    def __init__(self) -> None:
        self.answers: dict[str, Answering] = {}
        self.early: dict[str, Reply] = {}
        self.requests: list[Request] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def paths(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        answer = self.answers.get(f"{request.method} {request.path}", self.otherwise)
        return answer if isinstance(answer, Reply) else answer(request)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65_536  # head and body in one packet

            def do_GET(self) -> None:
                length = int(self.headers.get("content-length", 0))
                address = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                if early := world.early.get(f"{self.command} {address.path}"):
                    self._say(early)
                    self.close_connection = True
                body = self.rfile.read(length)
                if early or len(body) < length:  # it broke off: no provider would act on it
                    self.close_connection = True
                    return
                request = Request(self.command, address.path, parse_qs(address.query), headers, body)
                self._say(world.answer(request))

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 (http.server names them)

            def _say(self, reply: Reply) -> None:
                if not reply.status:
                    self.close_connection = True
                    return
                body = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(body.encode())), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        return Handler
