"""The application: its addresses, and what every answer has in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from config.settings import Web
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


def build_app(services: Services) -> Starlette:
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
    middleware = [
        Middleware(HeadersEverywhere, web=services.settings.web),
        Middleware(KnownHost, web=services.settings.web),
    ]
    app = Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={HTTPException: _not_here},
    )
    app.state.services = services
    return app


async def _not_here(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return refusal(request, Refused(status, "not_here" if status in (404, 405) else "failed"))


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
                # What lies in /static is the same for everybody, and names nobody.
                age = b"max-age=3600" if scope["path"].startswith(f"{_STATIC}/") else b"no-store"
                ours = [*_HEADERS.items(), (b"cache-control", age)]
                if self._secure:
                    ours.append((b"strict-transport-security", b"max-age=31536000"))
                message["headers"] = [*kept, *ours]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class KnownHost:
    """Refuses other host names, which lead here if a stranger's site has this machine's address in its DNS."""

    def __init__(self, app: Application, web: Web) -> None:
        self._app = app
        named = urlsplit(web.url).hostname if web.url else None
        self._hosts = {"localhost", "127.0.0.1", "::1", web.address, *([named] if named else [])}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
            if (urlsplit(f"//{host}").hostname or "") not in self._hosts:
                answer = PlainTextResponse("This name is not one of this page's: set web.url to it.\n", 421)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)
