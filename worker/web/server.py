"""Serves the page until the process is told to end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import structlog
import uvicorn

from config.hosts import is_loopback
from config.settings import Web
from tasks.ledger.redis import REDIS_ERRORS
from tasks.runtime import Runtime
from worker.web.app import build_app
from worker.web.certificate import LOOK_SECONDS, Certificate
from worker.web.connections import AT_ONCE, Connection
from worker.web.job_index import Search
from worker.web.origin import is_trusted
from worker.web.pages.send import sweep_uploads
from worker.web.services import build_services

log = structlog.get_logger()

_IDLE_SECONDS = 10


class PageServer:
    def __init__(self, runtime: Runtime) -> None:
        """Raises OSError if it cannot listen there, and CertificateUnusable."""
        web = runtime.settings.web
        self._stopping = runtime.stopping
        self.certificate = (
            Certificate(web.tls_certificate, web.tls_key) if web.tls_certificate and web.tls_key else None
        )
        self._socket = _listening(web)
        context = self.certificate.context if self.certificate else None
        connection: Any = partial(Connection, lambda address: is_loopback(address) or is_trusted(address, web))
        self._services = build_services(runtime)
        config = uvicorn.Config(
            build_app(self._services),
            http=connection,
            # Our own log names no path, which may hold what somebody has typed.
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            # `origin` reads X-Forwarded-For itself, from the proxies of the settings alone.
            proxy_headers=False,
            limit_concurrency=AT_ONCE,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_IDLE_SECONDS,
            lifespan="off",
            ws="none",
            ssl_context_factory=(lambda *_: context) if context else None,
        )
        self._server = _Server(config)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port, *_ = self._socket.getsockname()
        return host, port

    def run(self) -> None:
        """Returns when `runtime.stopping` is set and what was asked before is answered."""
        log.info("page_ready", address="{}:{}".format(*self.address))
        threading.Thread(target=self._attend, name="page-attendant", daemon=True).start()
        threading.Thread(target=self._begin, name="page-begin", daemon=True).start()
        self._server.run(sockets=[self._socket])

    def _attend(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            if self.certificate:
                self.certificate.take_up_changes()
        self._server.should_exit = True

    def _begin(self) -> None:
        """Remove what a kill has left, and read the jobs, so that the first person need not wait for that."""
        with suppress(OSError):  # another start tries again
            sweep_uploads(self._services.runtime.folders.processing)
        with suppress(*REDIS_ERRORS):
            self._services.index.find(Search(()), 0)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: our own handlers are in force, and begin a deadline too."""
        yield


def _listening(web: Web) -> socket.socket:
    if ":" not in web.address:
        return socket.create_server((web.address, web.port))
    both = web.address == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((web.address, web.port), family=socket.AF_INET6, dualstack_ipv6=both)
