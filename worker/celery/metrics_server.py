"""The HTTP server of the metrics: few connections at once, and each for a short time.

Whoever can reach the port could otherwise hold a thread and a descriptor of the worker with each connection, for ever.
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from config.redaction import crash_site

log = structlog.get_logger()

AT_ONCE = 4  # one Prometheus, and a person who looks
DEADLINE_SECONDS = 10.0  # of a whole connection; a scrape takes some hundredths


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, the standard library's name
        """A scrape is no news."""


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Listens from the beginning. What comes while as many as may are served is cut off at once."""

    daemon_threads = True

    def __init__(self, address: str, port: int, registry: CollectorRegistry) -> None:
        """Raises OSError, with EADDRINUSE if the port is taken."""
        family, _, _, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        self._free = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(where[:2], _SilentHandler)  # type: ignore[arg-type]  # an address of its family
        self.set_app(make_wsgi_app(registry))
        self._thread = threading.Thread(target=self.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # Ends whatever waits for this connection's other side, whether it says nothing or a byte now and then.
        deadline = threading.Timer(DEADLINE_SECONDS, _cut, (request,))
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has gone, or was cut off. The standard library would print a traceback."""
        error = sys.exception()
        if error and not isinstance(error, OSError):
            log.warning("scrape_failed", **crash_site(error))

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)
