"""Ovok's access tokens, by one of three logins, and by refresh.

https://docs.ovok.com/dev/api/high-level: authentication (login v2, refresh-token), authentication-b-2-b, and
tenant-authentication (the staff of a tenant, with PKCE: RFC 7636). All three answer in camelCase, the refresh in
snake_case.
"""

from __future__ import annotations

import base64
import re
import secrets
from hashlib import sha256
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, Field, StringConstraints

from config.accounts import OvokAccount
from tasks.http.api import parse_answer
from tasks.http.exchange import Answer
from tasks.model.errors import AccountBlocked
from tasks.providers.auth.tokens import Token, Tokens
from tasks.providers.connection import Connection
from tasks.providers.ovok.answers import NAME
from tasks.providers.statuses import StatusTable

_KEEP_SECONDS = 86_400.0
_MAX_SECONDS = 31_536_000.0
_DEFAULT_SECONDS = 600.0  # where the answer does not say how long its token is good
_REFUSED = (400, 401, 403, 404, 422)
_STATUSES = StatusTable(NAME, {})
_STAFF = ("auth", "tenant", "Practitioner", "login")


class Login:
    """One login, and the tokens that it gets."""

    def __init__(self, account: OvokAccount, connection: Connection) -> None:
        self._account = account
        self._credentials = {"email": account.email, "password": account.password.get_secret_value()}
        self._api = connection.api(account.base_url, provider=NAME, headers={})
        # Those of the client's login are as they were in earlier versions, whose tokens are remembered.
        own = (account.client_id,) if account.login == "client" else (account.client_id, account.login, account.tenant)
        scope = "\0".join(("ovok", account.base_url, *self._credentials.values(), *own))
        self.tokens = Tokens(connection.cache, scope, self._obtain, keep=_KEEP_SECONDS)

    def _obtain(self, last: Token | None) -> Token:
        """By the last token's refresh token, if there is one and it is still good, else by the login."""
        if last and last.refresh:
            answer = self._api.call("POST", "auth", "refresh-token", json={"refresh_token": last.refresh})
            if answer.status not in _REFUSED:  # refresh tokens are taken to be good once
                return _token(answer)
        return _token(self._log_in())

    def _log_in(self) -> Answer:
        account = self._account
        match account.login:
            case "client":
                return self._ask("client_id", "v2", "auth", "login", clientId=account.client_id)
            case "b2b":
                fields = {"clientId": account.client_id, "tenantId": account.tenant}
                return self._ask("client_id, tenant", "auth", "b2b", "login", **fields)
            case "staff":
                return self._log_in_as_staff()

    def _log_in_as_staff(self) -> Answer:
        """In two steps, of which the second proves that the first was made by the same caller."""
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode()
        pkce = {"codeChallenge": challenge, "codeChallengeMethod": "S256"}
        answer = self._ask("login", *_STAFF, "start", **pkce)
        started = parse_answer(_STATUSES.success(answer), _Started, NAME)
        if started.nextStep not in (None, "token"):
            raise AccountBlocked(
                f"{NAME} asks this account's user for a second factor: give chartpost a user of its own without one.",
                credentials=True,
            )
        proof = {"sessionCode": started.sessionCode, "codeVerifier": verifier, "tenantCode": self._tenant(started)}
        return self._refused_or(self._api.call("POST", *_STAFF, "token", json=dict(proof)), "tenant")

    def _tenant(self, started: _Started) -> str:
        """The tenant of the settings, else the only one that the user belongs to."""
        offered = {started.tenantCode, *(profile.tenantCode for profile in started.profiles)} - {None, ""}
        wanted = self._account.tenant
        if wanted in offered or (wanted and not offered):
            return wanted
        if not wanted and len(offered) == 1:
            return offered.pop() or ""
        shown = ", ".join(sorted(code for code in offered if code and _CODE.fullmatch(code))[:20])
        raise AccountBlocked(
            f"{NAME} does not say into which tenant this account's user logs in: set tenant to one of its codes "
            f"({shown or 'none was named'}).",
            credentials=True,
        )

    def _ask(self, also: str, *path: str, **fields: str) -> Answer:
        """Send the credentials. `also`: what else may be wrong if they are refused."""
        return self._refused_or(self._api.call("POST", *path, json={**self._credentials, **fields}), also)

    def _refused_or(self, answer: Answer, also: str) -> Answer:
        if answer.status in _REFUSED:
            raise AccountBlocked(
                f"{NAME} refused the login ({answer.status}): "
                f"check email, password, {also} and base_url of this account.",
                credentials=True,
            )
        return answer


# --- answers ---------------------------------------------------------------------------------------------------------


_Opaque = Annotated[str, StringConstraints(strict=True, pattern=r"^[\x21-\x7e]{1,20000}$")]
_CODE = re.compile(r"[A-Za-z0-9._-]{1,100}")


class _Profile(BaseModel):
    tenantCode: str | None = None  # noqa: N815 (Ovok's name)


class _Started(BaseModel):
    """The answer to the first step. The page shows one `tenantCode`; callers have seen a list of profiles instead."""

    sessionCode: _Opaque  # noqa: N815 (Ovok's names)
    nextStep: Any = None  # noqa: N815
    tenantCode: str | None = None  # noqa: N815
    profiles: list[_Profile] = []


class _Session(BaseModel):
    """The answer to a login or a refresh. `expires`: in seconds from now."""

    access: _Opaque = Field(validation_alias=AliasChoices("accessToken", "access_token"))
    refresh: Any = Field(default="", validation_alias=AliasChoices("refreshToken", "refresh_token"))
    expires: Any = Field(default=None, validation_alias=AliasChoices("expiresIn", "expires_in"))


def _token(answer: Answer) -> Token:
    session = parse_answer(_STATUSES.success(answer), _Session, NAME)
    refresh = session.refresh if isinstance(session.refresh, str) else ""
    return Token(access=session.access, seconds=_seconds(session.expires), refresh=refresh)


def _seconds(expires: object) -> float:
    """How long a token is good; text in digits is a number too."""
    if isinstance(expires, str) and expires.isascii() and expires.isdecimal():
        expires = int(expires[:12])
    if isinstance(expires, bool) or not isinstance(expires, (int, float)) or not expires > 0:
        return _DEFAULT_SECONDS
    return float(min(expires, _MAX_SECONDS))
