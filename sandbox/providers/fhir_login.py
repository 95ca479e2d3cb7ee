"""How callers of the FHIR server show who they are: SMART Backend Services, a client's secret, a fixed token, Basic.

https://hl7.org/fhir/smart-app-launch/backend-services.html, RFC 6749 (2.3.1, 4.4) and RFC 7617.
"""

import base64
import binascii
import secrets
import time
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote

from aiohttp import web
from joserfc.jwk import RSAKey

from sandbox.faults.state import State
from sandbox.providers.jose import AssertionRules, Assertions, Client, NotProven, as_pem, new_key
from sandbox.providers.token_server import ASSERTION_TYPE, FORM, TokenRefused, token_answer

CLIENT_ID = "sandbox-fhir-client"
CLIENT_SECRET = "sandbox fhir: a secret/with+signs"
KEY_ID = "sandbox-fhir-key"
BEARER = "sandbox-fhir-token"
USER, PASSWORD = "sandbox-fhir-user", "sandbox-fhir-password"
SCOPES = frozenset({"system/DocumentReference.crs", "system/Binary.crs", "system/Patient.rs"})
ASSERTION_SECONDS = 300  # "no more than five minutes in the future"


@dataclass(frozen=True)
class Grant:
    """What a token stands for; times are time.time()'s."""

    scopes: frozenset[str]
    issued_at: float
    expires_at: float


class Logins:
    """The token server, and the check of what a call carries."""

    def __init__(self, provider: str, token_url: str, state: State) -> None:
        self._provider = provider
        self._token_url = token_url
        self._state = state
        self._grants: dict[str, Grant] = {}

    @cached_property
    def _key(self) -> RSAKey:
        """Made when it is first asked for, since that takes a tenth of a second."""
        return new_key()

    @property
    def private_key(self) -> str:
        return as_pem(self._key)

    @cached_property
    def _assertions(self) -> Assertions:
        rules = AssertionRules(self._token_url, ("RS384", "ES384"), ASSERTION_SECONDS, typ="JWT")
        return Assertions(Client(CLIENT_ID, KEY_ID, self._key), rules)

    async def issue(self, request: web.Request) -> web.Response:
        """A token for client credentials. Raises TokenRefused."""
        if request.content_type != FORM:
            raise TokenRefused(400, "invalid_request", f"Content-Type is not {FORM}")
        form = {name: str(value) for name, value in (await request.post()).items()}
        if form.get("grant_type") != "client_credentials":
            raise TokenRefused(400, "unsupported_grant_type", "grant_type is not client_credentials")
        self._check_client(request, form)
        if CLIENT_ID in self._state.revoked:
            raise TokenRefused(401, "invalid_client", "the client has been revoked")
        if not form.get("scope"):
            raise TokenRefused(400, "invalid_scope", "scope is missing")
        wanted = frozenset(form["scope"].split())
        given = wanted & SCOPES
        if not given:
            raise TokenRefused(400, "invalid_scope", "none of these scopes is this client's")
        token, now, seconds = secrets.token_urlsafe(32), time.time(), self._state.fhir_token_seconds
        self._grants[token] = Grant(given, now, now + seconds)
        said = {"access_token": token, "token_type": "bearer", "expires_in": seconds, "scope": " ".join(sorted(given))}
        return token_answer(said)

    def _check_client(self, request: web.Request, form: dict[str, str]) -> None:
        if form.get("client_assertion"):
            if form.get("client_assertion_type") != ASSERTION_TYPE:
                raise TokenRefused(400, "invalid_request", f"client_assertion_type is not {ASSERTION_TYPE}")
            try:
                self._assertions.check(form["client_assertion"])
            except NotProven as wrong:
                raise TokenRefused(401, "invalid_client", str(wrong)) from None
            return
        user, _, password = _basic(request).partition(":")
        shown = (unquote(user), unquote(password)) if user else (form.get("client_id"), form.get("client_secret"))
        if shown != (CLIENT_ID, CLIENT_SECRET):
            raise TokenRefused(401, "invalid_client", "neither a good assertion nor the client's secret")

    def is_known(self, request: web.Request) -> bool:
        """Whether the call carries a token that is good now, or the user's password."""
        if BEARER not in self._state.revoked and request.headers.get("Authorization") == f"Bearer {BEARER}":
            return True
        if USER not in self._state.revoked and _basic(request) == f"{USER}:{PASSWORD}":
            return True
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        grant = self._grants.get(token) if scheme == "Bearer" else None
        if grant is None or CLIENT_ID in self._state.revoked:
            return False
        return grant.expires_at > time.time() and not self._state.token_is_dead(self._provider, grant.issued_at)


def _basic(request: web.Request) -> str:
    """user:password of a Basic header; empty if there is none."""
    scheme, _, coded = request.headers.get("Authorization", "").partition(" ")
    try:
        return base64.b64decode(coded, validate=True).decode() if scheme == "Basic" else ""
    except (binascii.Error, ValueError):
        return ""
