"""Logging in and out, and choosing a language: what a stranger may ask for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import anyio
import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from worker.web.language import LANGUAGE_COOKIE, LANGUAGES, language_of
from worker.web.origin import address_of
from worker.web.passwords import is_password_of
from worker.web.services import Services
from worker.web.templates import render
from worker.web.visit import Endpoint, Visit, check_origin, cookie_name, page, read_form, refusals_told

log = structlog.get_logger()

_FORM_BYTES = 8192
_THREADS = 4  # of the process's forty: passwords take long, and must not keep those who are logged in from their pages
_YEAR_SECONDS = 31_536_000
# A page of ours, and nothing that a browser would take for another host's.
_OUR_PAGE = re.compile(r"/(?!/)[A-Za-z0-9/_-]*")


def routes() -> Sequence[Route]:
    return [
        Route("/login", show_login, methods=["GET"]),
        Route("/login", _for_strangers(log_in), methods=["POST"]),
        Route("/logout", page(log_out), methods=["POST"]),
        Route("/language", _for_strangers(choose_language), methods=["POST"]),
    ]


async def show_login(request: Request) -> Response:
    return _login_page(request, there=request.query_params.get("next", "/"))


def log_in(request: Request, form: dict[str, str]) -> Response:
    services: Services = request.app.state.services
    name, password = form.get("name", "").strip().casefold()[:64], form.get("password", "")
    there = form.get("next", "/")
    address = address_of(request, services.settings.web)
    if not services.login_limit.take(name, address):
        log.warning("login_limited", address=address)
        return _login_page(request, "limited", 429, there)
    user = services.users.get(name)
    if not is_password_of(user, password) or user is None:
        # The name only if somebody has it: people type their password into the wrong field.
        log.warning("login_failed", address=address, user=user.name if user else None)
        services.audit.did(user.name if user else "", address, "log_in", "refused")
        return _login_page(request, "wrong", 403, there)
    services.login_limit.forget(name, address)
    services.audit.did(user.name, address, "log_in", "done")
    answer = RedirectResponse(our_page(there), status_code=303)
    secure = services.settings.web.secure
    earlier = request.cookies.get(cookie_name(secure))
    if earlier and (session := services.sessions.find(earlier, renew=False)):
        services.sessions.end(session)  # somebody else sat at this browser
    token = services.sessions.begin(user)
    answer.set_cookie(cookie_name(secure), token, httponly=True, samesite="strict", secure=secure, path="/")
    return answer


def log_out(visit: Visit) -> Response:
    visit.did("log_out", "done")
    if visit.session:
        visit.services.sessions.end(visit.session)
    answer = RedirectResponse("/login", status_code=303)
    secure = visit.services.settings.web.secure
    answer.delete_cookie(cookie_name(secure), path="/", secure=secure, httponly=True, samesite="strict")
    # What the browser still holds of the pages goes with it.
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    return answer


def choose_language(request: Request, form: dict[str, str]) -> Response:
    there, language = form.get("next", "/"), form.get("language", "")
    answer = RedirectResponse(our_page(there), status_code=303)
    if language in LANGUAGES:
        secure = request.app.state.services.settings.web.secure
        answer.set_cookie(
            LANGUAGE_COOKIE, language, max_age=_YEAR_SECONDS, httponly=True, samesite="lax", secure=secure, path="/"
        )
    return answer


def our_page(address: str) -> str:
    """The address, if it is a page of ours; else the first page."""
    return address if _OUR_PAGE.fullmatch(address) else "/"


def _login_page(request: Request, problem: str = "", status: int = 200, there: str = "/") -> Response:
    services: Services = request.app.state.services
    values = {"visit": None, "problem": problem, "next": our_page(there)}
    return HTMLResponse(render("login.html", language_of(request, services.settings), **values), status_code=status)


def _for_strangers(
    handler: Callable[[Request, dict[str, str]], Response],
) -> Endpoint:
    """An endpoint for a form that needs no session: from our own page all the same."""
    threads = anyio.CapacityLimiter(_THREADS)

    async def answer(request: Request) -> Response:
        check_origin(request)
        async with read_form(request, _FORM_BYTES) as form:
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
        return await anyio.to_thread.run_sync(handler, request, fields, limiter=threads)

    return refusals_told(answer)
