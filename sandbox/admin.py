"""What tests and curious people may ask of the sandbox itself, under `/_sandbox`."""

from collections.abc import Sequence

from aiohttp import web

from sandbox.charts import Charts
from sandbox.faults.state import UnknownChange, World
from sandbox.request_log import Journal

PREFIX = "/_sandbox"


class Admin:
    """The sandbox's own answers."""

    def __init__(self, world: World, charts: Charts, journal: Journal) -> None:
        self._world = world
        self._charts = charts
        self._journal = journal

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.get(PREFIX + "/charts", self._show_charts),
            web.get(PREFIX + "/requests", self._show_requests),
            web.delete(PREFIX + "/requests", self._forget_requests),
            web.get(PREFIX + "/leaks", self._show_leaks),
            web.delete(PREFIX + "/leaks", self._forget_leaks),
            web.get(PREFIX + "/world", self._show_world),
            web.post(PREFIX + "/world", self._change_world),
        ]

    async def _show_charts(self, request: web.Request) -> web.Response:
        return web.json_response(self._charts.as_json())

    async def _show_requests(self, request: web.Request) -> web.Response:
        return web.json_response(self._journal.requests_as_json())

    async def _forget_requests(self, request: web.Request) -> web.Response:
        self._journal.forget_requests()
        return web.Response(status=204)

    async def _show_leaks(self, request: web.Request) -> web.Response:
        return web.json_response(self._journal.leaks_as_json())

    async def _forget_leaks(self, request: web.Request) -> web.Response:
        self._journal.leaks.clear()
        return web.Response(status=204)

    async def _show_world(self, request: web.Request) -> web.Response:
        return web.json_response(self._world.as_json())

    async def _change_world(self, request: web.Request) -> web.Response:
        try:
            self._world.change(await request.json())
        except (UnknownChange, ValueError, LookupError, TypeError, AttributeError) as wrong:
            return web.json_response({"error": str(wrong)}, status=400)
        return web.json_response(self._world.as_json())
