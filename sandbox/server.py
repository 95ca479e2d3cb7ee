"""Puts the sandbox together: the engine behind it; storage, providers and admin pages on one port."""

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Protocol

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sandbox.admin import PREFIX as ADMIN_PREFIX
from sandbox.admin import Admin
from sandbox.charts import Charts
from sandbox.context import Context, Provider
from sandbox.faults.connection import ConnectionCut, Filtered, filters_answer, reset
from sandbox.faults.state import State
from sandbox.faults.words import Turns
from sandbox.providers.table import PROVIDERS
from sandbox.request_log import RequestLog
from sandbox.s3.engine import LOOPBACK, Engine
from sandbox.s3.objects import Objects
from sandbox.s3.storage import Storage

SOURCES_BUCKET = "sources"
SHUTDOWN_SECONDS = 0.5  # answers that hang must not delay the end

log = logging.getLogger(__name__)


class HasRoutes(Protocol):
    """A part of the sandbox with addresses of its own."""

    def routes(self) -> Sequence[web.AbstractRouteDef]: ...


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox."""

    base_url: str
    engine: Engine
    providers: dict[str, Provider]


@asynccontextmanager
async def running(
    engine: Engine, port: int, state: State, seed: int | None, *, host: str = LOOPBACK, public_url: str = ""
) -> AsyncIterator[Sandbox]:
    """A sandbox that serves until the block ends; port 0 picks a free one.

    `public_url` is its address as others see it, where that is not `host` and port.
    """
    listener = listen(host, port)
    base_url = public_url.rstrip("/") or f"http://{host}:{listener.getsockname()[1]}"
    async with engine_running(engine), engine_client() as http:
        request_log, charts, turns, objects = RequestLog(), Charts(), Turns(), Objects(engine, http)
        storage = Storage(base_url, engine, http, state, turns, request_log)
        context = Context(base_url, state, objects, storage, charts, turns, random.Random(seed))
        providers = {name: make(context) for name, make in PROVIDERS.items()}
        await asyncio.to_thread(
            objects.prepare, [SOURCES_BUCKET, *(provider.bucket for provider in providers.values())]
        )
        app = web.Application(middlewares=[logging_requests(request_log)])
        app.on_response_prepare.append(dating(state))
        parts: list[HasRoutes] = [Admin(state, charts, request_log), storage, *providers.values()]
        for part in parts:
            app.add_routes(part.routes())
        async with serving(app, listener):
            yield Sandbox(base_url, engine, providers)
        await asyncio.gather(*(provider.stop() for provider in providers.values()))


def listen(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


@asynccontextmanager
async def engine_running(engine: Engine) -> AsyncIterator[None]:
    try:
        await engine.start()
        yield
    finally:
        await engine.stop()


def engine_client() -> aiohttp.ClientSession:
    """For the sandbox's own calls to the engine: as many at once as there are documents, without a timeout."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
    )


@asynccontextmanager
async def serving(app: web.Application, listener: socket.socket) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, listener, backlog=512).start()
        yield
    finally:
        await runner.cleanup()


def dating(state: State) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Writes the Date of each answer, by a clock that may be ahead of this machine's."""

    async def dated(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = format_datetime(
            datetime.now(UTC) + timedelta(seconds=state.date_seconds), usegmt=True
        )

    return dated


def logging_requests(request_log: RequestLog) -> Middleware:
    """Logs every request but those to the admin pages, and resets the connections of those that must get no answer."""

    @web.middleware
    async def logged(request: web.Request, handler: Handler) -> web.StreamResponse:
        status = "500"
        try:
            response = await handler(request)
            status = str(response.status)
        except web.HTTPException as answer:  # aiohttp's own refusals, such as 404
            status = str(answer.status)
            raise
        except ConnectionCut:
            status = "reset"
            reset(request)
            return web.Response()  # aiohttp wants one; the connection is closed
        except Filtered:
            status = "filtered"
            return await filters_answer(request)
        except (ConnectionError, aiohttp.ClientPayloadError):
            status = "gone"
            return web.Response()
        finally:
            resource = request.match_info.route.resource
            route = resource.canonical if resource else "unknown"
            if not route.startswith(ADMIN_PREFIX):
                request_log.add(request.method, route, request.path, status)
        return response

    return logged
