"""The sandbox's own pages, under `/_sandbox`: for tests, and for people who want to see what arrived."""

from collections.abc import Sequence

from aiohttp import web

from sandbox.charts import Charts
from sandbox.faults.state import State, UnknownChange
from sandbox.request_log import RequestLog

PREFIX = "/_sandbox"


class Admin:
    def __init__(self, state: State, charts: Charts, request_log: RequestLog) -> None:
        self._state = state
        self._charts = charts
        self._request_log = request_log

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.get(PREFIX + "/charts", self._show_charts),
            web.get(PREFIX + "/requests", self._show_requests),
            web.delete(PREFIX + "/requests", self._forget_requests),
            web.get(PREFIX + "/leaks", self._show_leaks),
            web.delete(PREFIX + "/leaks", self._forget_leaks),
            web.get(PREFIX + "/world", self._show_state),
            web.post(PREFIX + "/world", self._change_state),
        ]

    async def _show_charts(self, request: web.Request) -> web.Response:
        return web.json_response(self._charts.as_json())

    async def _show_requests(self, request: web.Request) -> web.Response:
        return web.json_response(self._request_log.requests_as_json())

    async def _forget_requests(self, request: web.Request) -> web.Response:
        self._request_log.forget_requests()
        return web.Response(status=204)

    async def _show_leaks(self, request: web.Request) -> web.Response:
        return web.json_response(self._request_log.leaks_as_json())

    async def _forget_leaks(self, request: web.Request) -> web.Response:
        self._request_log.leaks.clear()
        return web.Response(status=204)

    async def _show_state(self, request: web.Request) -> web.Response:
        return web.json_response(self._state.as_json())

    async def _change_state(self, request: web.Request) -> web.Response:
        try:
            self._state.change(await request.json())
        except (UnknownChange, ValueError, LookupError, TypeError, AttributeError) as wrong:
            return web.json_response({"error": str(wrong)}, status=400)
        return web.json_response(self._state.as_json())
