"""Ovok's access tokens, by login and refresh.

https://docs.ovok.com/dev/api/high-level/authentication: login v2, which answers in camelCase, and refresh-token, in
snake_case.
"""

from __future__ import annotations

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


class Login:
    """One login, and the tokens that it gets."""

    def __init__(self, account: OvokAccount, connection: Connection) -> None:
        self._credentials = {
            "email": account.email,
            "password": account.password.get_secret_value(),
            "clientId": account.client_id,
        }
        self._api = connection.api(account.base_url, provider=NAME, headers={})
        scope = "\0".join(("ovok", account.base_url, *self._credentials.values()))
        self.tokens = Tokens(connection.cache, scope, self._obtain, keep=_KEEP_SECONDS)

    def _obtain(self, last: Token | None) -> Token:
        """By the last token's refresh token, if there is one and it is still good, else by the login."""
        if last and last.refresh:
            answer = self._api.call("POST", "auth", "refresh-token", json={"refresh_token": last.refresh})
            if answer.status not in _REFUSED:  # refresh tokens are taken to be good once
                return _token(answer)
        answer = self._api.call("POST", "v2", "auth", "login", json=dict(self._credentials))
        if answer.status in _REFUSED:
            raise AccountBlocked(
                f"{NAME} refused the login ({answer.status}): check email, password, client_id and base_url of this "
                "account.",
                credentials=True,
            )
        return _token(answer)


# --- answers ---------------------------------------------------------------------------------------------------------


_Opaque = Annotated[str, StringConstraints(strict=True, pattern=r"^[\x21-\x7e]{1,20000}$")]


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
