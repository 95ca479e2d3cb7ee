"""Serves the page until the process is told to end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
import uvicorn

from tasks.ledger.redis import REDIS_ERRORS
from tasks.runtime import Runtime
from worker.web.app import build_app
from worker.web.job_index import Search
from worker.web.services import build_services

log = structlog.get_logger()

_AT_ONCE = 64  # connections; a clinic has some people with a few tabs each
_IDLE_SECONDS = 10


class PageServer:
    def __init__(self, runtime: Runtime) -> None:
        """Raises OSError if it cannot listen there."""
        web = runtime.settings.web
        self._stopping = runtime.stopping
        family = socket.AF_INET6 if ":" in web.address else socket.AF_INET
        self._socket = socket.create_server((web.address, web.port), family=family)
        self._services = build_services(runtime)
        config = uvicorn.Config(
            build_app(self._services),
            # Our own log names no path, which may hold what somebody has typed.
            log_config=None,
            access_log=False,
            server_header=False,
            # `visit` reads X-Forwarded-For itself, from the proxies of the settings alone.
            proxy_headers=False,
            limit_concurrency=_AT_ONCE,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_IDLE_SECONDS,
            lifespan="off",
            ws="none",
            ssl_certfile=web.tls_certificate,
            ssl_keyfile=web.tls_key,
        )
        self._server = _Server(config)
        self._address = web.url or f"{'https' if web.secure else 'http'}://{web.address}:{web.port}"

    def run(self) -> None:
        """Returns when `runtime.stopping` is set and what was asked before is answered."""
        log.info("page_ready", address=self._address)
        threading.Thread(target=self._end_when_told, name="page-end", daemon=True).start()
        threading.Thread(target=self._read_jobs, name="page-jobs", daemon=True).start()
        self._server.run(sockets=[self._socket])

    def _end_when_told(self) -> None:
        self._stopping.wait()
        self._server.should_exit = True

    def _read_jobs(self) -> None:
        """So that the first person need not wait for it."""
        with suppress(*REDIS_ERRORS):
            self._services.index.count(Search(()))


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: our own handlers are in force, and begin a deadline too."""
        yield
