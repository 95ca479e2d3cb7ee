"""The application: its addresses, and what every answer has in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from config.redaction import crash_site
from config.settings import Web
from worker.web.origin import is_known_host
from worker.web.pages import login
from worker.web.pages.attention import act_on_several, attention
from worker.web.pages.document import act_on_document, document, download
from worker.web.pages.find import find, search
from worker.web.pages.send import MOST_BYTES, send, send_form
from worker.web.pages.today import resume, today
from worker.web.services import Services
from worker.web.visit import Refused, page, refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

log = structlog.get_logger()

# Nothing from elsewhere, and no script or style inside a page: a file name that is markup can do nothing.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), microphone=(), geolocation=()",
}
_STATIC = "/static"


def build_app(services: Services) -> Application:
    routes = [
        Route("/", page(today), methods=["GET"]),
        Route("/resume", page(resume), methods=["POST"]),
        Route("/attention", page(attention), methods=["GET"]),
        Route("/attention", page(act_on_several), methods=["POST"]),
        Route("/find", page(find), methods=["GET"]),
        Route("/find", page(search), methods=["POST"]),
        Route("/document/{job}", page(document), methods=["GET"]),
        Route("/document/{job}", page(act_on_document), methods=["POST"]),
        Route("/document/{job}/file", page(download), methods=["GET"]),
        Route("/send", page(send_form), methods=["GET"]),
        Route("/send", page(send, most_bytes=MOST_BYTES), methods=["POST"]),
        *login.routes(),
        Mount(_STATIC, StaticFiles(packages=[("worker.web", "static")]), name="static"),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _not_here, Exception: _failed})
    app.router.redirect_slashes = False  # it would send people to an address made of the Host that they have sent
    app.state.services = services
    web = services.settings.web
    # Around Starlette, not inside it: its own answer to an error passes no middleware.
    return HeadersEverywhere(ErrorsUntold(KnownHost(app, web)), web)


async def _not_here(request: Request, error: Exception) -> Response:
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    answer = refusal(request, Refused(status, "not_here" if status in (404, 405) else "failed"))
    answer.headers.update(headers or {})  # `Allow`, for a method that is not known here
    return answer


async def _failed(request: Request, error: Exception) -> Response:
    return refusal(request, Refused(500, "failed"))


class ErrorsUntold:
    """Logs where an error happened, and not what it says: that may quote a document, or a password that was typed."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001  Starlette has answered, and hands it on for the log
            log.error("page_failed", **crash_site(error))


class HeadersEverywhere:
    """Every answer says what a browser may do with it, and none with patient data is kept."""

    def __init__(self, app: Application, web: Web) -> None:
        self._app = app
        self._secure = web.secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name.lower() not in _HEADERS]
                kept = [(name, value) for name, value in kept if name.lower() != b"cache-control"]
                # What lies in /static is the same for everybody, and names nobody. It is asked for each time (304 says
                # that it is the same), so that no page of a new version meets the style of the one before.
                static = scope["path"].startswith(f"{_STATIC}/") and message["status"] in (200, 304)
                ours = [*_HEADERS.items(), (b"cache-control", b"no-cache" if static else b"no-store")]
                if self._secure:
                    ours.append((b"strict-transport-security", b"max-age=31536000"))
                message["headers"] = [*kept, *ours]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class KnownHost:
    """Refuses other host names, which lead here if a stranger's site has this machine's address in its DNS."""

    def __init__(self, app: Application, web: Web) -> None:
        self._app = app
        self._web = web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
            if not is_known_host(host, scope["server"][0], self._web):
                answer = PlainTextResponse("This name is not one of this page's: set web.url to it.\n", 421)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)
