"""Puts the sandbox together: the engine, the storage front, the providers and the admin pages on one port."""

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sandbox.admin import PREFIX as ADMIN_PREFIX
from sandbox.admin import Admin
from sandbox.charts import Charts
from sandbox.context import Provider, Surroundings
from sandbox.faults.connection import ConnectionCut, reset
from sandbox.faults.state import World
from sandbox.faults.words import Turns
from sandbox.providers.table import PROVIDERS
from sandbox.request_log import Journal
from sandbox.s3.engine import LOOPBACK, Engine
from sandbox.s3.objects import Objects
from sandbox.s3.uploads import Front

SOURCES_BUCKET = "sources"
SHUTDOWN_SECONDS = 0.5  # hanging answers do not hold up the end

log = logging.getLogger(__name__)


class Serves(Protocol):
    """Whatever has addresses of its own."""

    def routes(self) -> Sequence[web.AbstractRouteDef]: ...


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox."""

    base_url: str
    engine: Engine
    providers: dict[str, Provider]


@asynccontextmanager
async def running(
    engine: Engine, port: int, world: World, seed: int | None, *, host: str = LOOPBACK, public_url: str = ""
) -> AsyncIterator[Sandbox]:
    """A sandbox that serves until the block ends; port 0 picks a free one.

    `public_url` is its address as others see it, where that is not `host` and port.
    """
    listener = listen(host, port)
    base_url = public_url.rstrip("/") or f"http://{host}:{listener.getsockname()[1]}"
    async with engine_running(engine), engine_client() as http:
        journal, charts, turns, objects = Journal(), Charts(), Turns(), Objects(engine, http)
        front = Front(base_url, engine, http, world, turns, journal)
        around = Surroundings(base_url, world, objects, front, charts, turns, random.Random(seed))
        providers = {name: make(around) for name, make in PROVIDERS.items()}
        await asyncio.to_thread(objects.prepare, [SOURCES_BUCKET, *(each.bucket for each in providers.values())])
        app = web.Application(middlewares=[keeping(journal)])
        served: list[Serves] = [Admin(world, charts, journal), front, *providers.values()]
        for each in served:
            app.add_routes(each.routes())
        async with serving(app, listener):
            yield Sandbox(base_url, engine, providers)
        await asyncio.gather(*(each.stop() for each in providers.values()))


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
    """For our own calls to the engine: as many at once as there are documents, each as long as it takes."""
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


def keeping(journal: Journal) -> Middleware:
    """Notes every request, and turns what ends without an answer into that."""

    @web.middleware
    async def noted(request: web.Request, handler: Handler) -> web.StreamResponse:
        status = "500"
        try:
            response = await handler(request)
            status = str(response.status)
        except web.HTTPException as answer:
            status = str(answer.status)
            raise
        except ConnectionCut:
            status = "reset"
            reset(request)
            return web.Response()  # to a connection that is no more
        except (ConnectionError, aiohttp.ClientPayloadError):
            status = "gone"
            return web.Response()
        finally:
            note(journal, request, status)
        return response

    return noted


def note(journal: Journal, request: web.Request, status: str) -> None:
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "unknown"
    if not route.startswith(ADMIN_PREFIX):
        journal.note(request.method, route, request.path, status)
