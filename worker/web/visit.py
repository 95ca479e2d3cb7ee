"""One request of one person: who it is, what was sent, and what the answer is made with.

Pages are plain functions from a `Visit` to a response. They run in threads, since Redis, disk and the ledger are read
with blocking calls. `page` makes Starlette's endpoint of one: it finds out who asks, refuses strangers, and checks that
a form came from our own page.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from config.redaction import crash_site
from tasks.ledger.redis import REDIS_ERRORS
from worker.web.language import language_of
from worker.web.origin import address_of, is_our_page, user_told_by_proxy
from worker.web.services import Services
from worker.web.sessions import Session
from worker.web.templates import render
from worker.web.users import Right, User, UsersDamaged

log = structlog.get_logger()

_MOST_FIELDS = 2000  # a list of a thousand documents, ticked
_MOST_FILES = 100
_FIELD_BYTES = 64 * 1024
# A form may take so long: half a minute, and as long as its bytes need on a slow line.
_FORM_SECONDS, _BYTES_A_SECOND = 30.0, 32 * 1024

REFRESH_HEADER = "Chartpost-Refresh"
"""What a page sends along when it asks by itself, without anybody at it: this keeps no session alive."""


@dataclass(frozen=True, slots=True)
class Visit:
    services: Services
    user: User
    # Of the browser, or of the proxy's client.
    address: str
    language: str
    # What a form must bring along: it follows from the session, which no other site knows.
    form_token: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    # None for someone whom a proxy lets in.
    session: Session | None = None
    form: FormData = field(default_factory=FormData)
    # True: htmx asks for a part of the page.
    partial: bool = False

    def accounts(self, right: Right = Right.LOOK) -> list[str]:
        """The accounts at which this person has the right."""
        return self.user.accounts(right, self.services.settings.accounts)

    @property
    def contact(self) -> str:
        """Whom to ask; empty if the settings name nobody."""
        return self.services.settings.notes.contact

    def text(self, name: str) -> str:
        """A field of the form, without blanks around it; empty if it is not there."""
        value = self.form.get(name, "")
        return value.strip() if isinstance(value, str) else ""

    def texts(self, name: str) -> Sequence[str]:
        """All values of a field, as of boxes that are ticked."""
        return [value for value in self.form.getlist(name) if isinstance(value, str)]

    def files(self, name: str) -> Sequence[UploadFile]:
        return [value for value in self.form.getlist(name) if isinstance(value, UploadFile) and value.filename]

    def render(self, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
        """A page, or the part of one that htmx has asked for."""
        shown = render(template, self.language, visit=self, Right=Right, **values)
        return HTMLResponse(shown, status_code=status)

    def looked(self, what: str, **where: str | None) -> None:
        self.services.audit.looked(self.user.name, self.address, what, **where)

    def searched(self, patients: Mapping[str, str]) -> None:
        self.services.audit.searched(self.user.name, self.address, patients)

    def did(self, act: str, outcome: str, **where: str | None) -> None:
        self.services.audit.did(self.user.name, self.address, act, outcome, **where)


Handler = Callable[[Visit], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """The request is answered with this status and a page that says so."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        # A word of `templates/refused.html`.
        self.reason = reason


def page(handler: Handler, *, most_bytes: int = _FIELD_BYTES * 16) -> Endpoint:
    """An endpoint for someone who is logged in. A form may have `most_bytes`; files are spooled to disk."""

    async def answer(request: Request) -> Response:
        services: Services = request.app.state.services
        who = await run_in_threadpool(_who, request, services)
        if who is None:
            return _to_login(request)
        if request.method != "POST":
            return await run_in_threadpool(handler, _visit(request, who, FormData()))
        check_origin(request)
        async with read_form(request, most_bytes) as form:
            visit = _visit(request, who, form)
            # Before anything else of the form is used.
            if not hmac.compare_digest(visit.text("form_token").encode(), visit.form_token.encode()):
                raise Refused(403, "forged")
            return await run_in_threadpool(handler, visit)

    return refusals_told(answer)


def refusals_told(answer: Endpoint) -> Endpoint:
    """The same endpoint, with a page that says so where it refuses, or where the users, Redis or the disk are away."""

    async def endpoint(request: Request) -> Response:
        try:
            return await answer(request)
        except Refused as refused:
            return refusal(request, refused)
        except UsersDamaged as error:
            log.error("web_users_damaged", reason=str(error))
            return refusal(request, Refused(503, "users"))
        except REDIS_ERRORS:
            return refusal(request, Refused(503, "redis"))
        except OSError as error:
            log.error("page_failed", **crash_site(error))
            return refusal(request, Refused(500, "disk"))

    return endpoint


@dataclass(frozen=True, slots=True)
class _Who:
    user: User
    address: str
    session: Session | None


def _visit(request: Request, who: _Who, form: FormData) -> Visit:
    services: Services = request.app.state.services
    # It follows from the session, or from the person whom a proxy lets in, and no other site knows the key.
    known = f"session {who.session.digest}" if who.session else f"proxy {who.user.name} {who.user.stamp}"
    return Visit(
        services=services,
        user=who.user,
        address=who.address,
        language=language_of(request, services.settings),
        form_token=services.runtime.seal.sign("web form", known),
        path=request.path_params,
        query=request.query_params,
        session=who.session,
        form=form,
        partial=request.headers.get("HX-Request") == "true",
    )


def refusal(request: Request, refused: Refused) -> Response:
    services: Services = request.app.state.services
    language = language_of(request, services.settings)
    shown = render("refused.html", language, visit=None, reason=refused.reason, status=refused.status)
    return HTMLResponse(shown, status_code=refused.status)


def _who(request: Request, services: Services) -> _Who | None:
    """None for a stranger. Raises Refused, UsersDamaged and REDIS_ERRORS."""
    web = services.settings.web
    address = address_of(request, web)
    name = user_told_by_proxy(request, web)
    if name is not None:
        user = services.users.get(name) if name else None
        if user is None:
            raise Refused(403, "unknown_user")
        return _Who(user, address, None)
    token = request.cookies.get(cookie_name(web.secure))
    session = services.sessions.find(token, renew=REFRESH_HEADER not in request.headers) if token else None
    user = services.users.get(session.user) if session else None
    # The password or the rights were changed since the session began, or the person was removed.
    if session is None or user is None or user.stamp != session.stamp:
        return None
    return _Who(user, address, session)


def cookie_name(secure: bool) -> str:
    # Browsers accept a cookie of the first name over https alone, for this host alone, from no other path.
    return "__Host-chartpost" if secure else "chartpost"


def _to_login(request: Request) -> Response:
    """After login the person goes on here, if it is a page."""
    if request.headers.get("HX-Request") == "true":
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    there = request.url.path if request.method == "GET" else "/"
    return RedirectResponse("/login" if there == "/" else f"/login?next={quote(there)}", status_code=303)


def check_origin(request: Request) -> None:
    """Raises Refused for a form that a browser says another site has sent."""
    web = request.app.state.services.settings.web
    sites, origins = request.headers.getlist("Sec-Fetch-Site"), request.headers.getlist("Origin")
    ours = all(is_our_page(origin, request.headers.get("Host", ""), web) for origin in origins)
    if not ours or set(sites) - {"same-origin", "none"}:
        raise Refused(403, "forged")


@asynccontextmanager
async def read_form(request: Request, most_bytes: int) -> AsyncIterator[FormData]:
    """The form; its files are removed at the end of the block.

    Raises Refused for one that is too large, malformed, or too slow.
    """
    length = request.headers.get("Content-Length", "")
    # A body of unknown length could fill the disk before it ends. Beside Transfer-Encoding the length says nothing.
    if not length.isdecimal() or int(length) > most_bytes or "Transfer-Encoding" in request.headers:
        raise Refused(413, "too_large")
    try:
        async with asyncio.timeout(_FORM_SECONDS + int(length) / _BYTES_A_SECOND):
            form = await request.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=_FIELD_BYTES)
    except TimeoutError as error:
        raise Refused(408, "malformed") from error
    except (HTTPException, ClientDisconnect) as error:
        raise Refused(400, "malformed") from error
    try:
        yield form
    finally:
        await form.close()
