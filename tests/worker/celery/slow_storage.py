"""A storage that does not answer until it is told to: the worker that asks it holds a slot meanwhile."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class SlowStorage(ThreadingHTTPServer):
    """Holds every request until `let_go` is set, and answers then that there is no such object."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked, self.let_go = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), _Holding)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Holding(BaseHTTPRequestHandler):
    server: SlowStorage

    def do_HEAD(self) -> None:
        self.server.asked.set()
        self.server.let_go.wait()
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output is not for this."""
