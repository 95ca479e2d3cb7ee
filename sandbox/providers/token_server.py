"""What the token endpoints share: the request for client credentials with a signed assertion, and refusals.

RFC 6749 sections 4.4 and 5.2, RFC 7523 section 2.2.
"""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

FORM = "application/x-www-form-urlencoded"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class TokenRefused(Exception):
    """An error of RFC 6749 section 5.2 or of RFC 9449."""

    def __init__(self, status: int, code: str, description: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.code = code
        self.description = description
        self.headers = headers or {}
        super().__init__(code)

    def answer(self) -> web.Response:
        body = {"error": self.code, "error_description": self.description}
        return web.json_response(body, status=self.status, headers={"Cache-Control": "no-store"} | dict(self.headers))


async def token_request(request: web.Request) -> dict[str, str]:
    """The fields of a form that asks for client credentials. Raises TokenRefused."""
    if request.content_type != FORM:
        raise TokenRefused(400, "invalid_request", f"Content-Type is not {FORM}")
    fields = await request.post()
    form = {name: value for name, value in fields.items() if isinstance(value, str)}
    if len(form) != len(fields):
        raise TokenRefused(400, "invalid_request", "a parameter is repeated")
    if form.get("grant_type") != "client_credentials":
        raise TokenRefused(400, "unsupported_grant_type", "grant_type is not client_credentials")
    if form.get("client_assertion_type") != ASSERTION_TYPE or not form.get("client_assertion"):
        raise TokenRefused(400, "invalid_request", f"there is no client_assertion of type {ASSERTION_TYPE}")
    return form


def token_answer(body: Mapping[str, Any]) -> web.Response:
    return web.json_response(body, headers={"Cache-Control": "no-store"})
