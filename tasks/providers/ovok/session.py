"""Ovok's sessions: who calls, by login and refresh, and calls in that name.

https://docs.ovok.com/dev/api/high-level/authentication: login v2, which answers in camelCase, and refresh-token, in
snake_case. Refresh tokens are taken to be good once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, Field, JsonValue, StringConstraints

from config.accounts import OvokAccount
from tasks.http.api import ApiClient, Body, understood
from tasks.http.clients import Clients
from tasks.http.commit_gate import CommitGate
from tasks.http.exchange import Answer
from tasks.model.errors import AccountBlocked
from tasks.providers.auth.tokens import Token, Tokens, good_for
from tasks.providers.base import Cache
from tasks.providers.statuses import Answers

NAME = "Ovok"

_KEEP_SECONDS = 86_400.0
_LONGEST_SECONDS = 31_536_000.0
_UNSAID_SECONDS = 600.0  # what a token is taken to be good for where its answer does not say
_REPLACEMENTS = (False, True)  # a token that is refused is replaced by refresh or login, and the next by login alone


class Session:
    """Every call to one account's API. `limiter` and `on_call` are asked and told before each.

    The calls raise RetryLater, and AccountBlocked where login or address are refused.
    """

    def __init__(
        self,
        account: OvokAccount,
        *,
        clients: Clients,
        limiter: Callable[[], None],
        on_call: Callable[[], None],
        cache: Cache,
    ) -> None:
        self._login = {
            "email": account.email,
            "password": account.password.get_secret_value(),
            "clientId": account.client_id,
        }
        self.api = ApiClient(
            clients,
            account.base_url,
            provider=NAME,
            headers={},
            limiter=limiter,
            on_call=on_call,
            insecure=account.insecure,
        )
        scope = "\0".join(("ovok", account.base_url, *self._login.values()))
        self._tokens = Tokens(cache, scope, self._obtain, keep=_KEEP_SECONDS)
        who = "\0".join((account.base_url, account.email, account.client_id))
        self.who = sha256(who.encode()).hexdigest()[:12]

    def call(
        self, method: str, *segments: str, params: Sequence[tuple[str, str]] = (), json: JsonValue = None
    ) -> Answer:
        """One request, whatever the status of its answer."""
        return self._with_token(
            lambda headers: self.api.call(method, *segments, params=params, json=json, headers=headers)
        )

    def create(self, *segments: str, content: bytes, gate: CommitGate) -> Answer:
        """A POST that creates something, with `guard`'s leave. Raises OutcomeUnknown besides.

        A 401 means that nothing was made, so that the request may go once more with another token.
        """
        return self._with_token(
            lambda headers: self.api.create("POST", *segments, body=Body.of(content), gate=gate, headers=headers)
        )

    def _with_token(self, send: Callable[[Mapping[str, str]], Answer]) -> Answer:
        token = self._tokens.current()
        answer = send(_bearer(token))
        for forgetting in _REPLACEMENTS:
            if answer.status != 401:
                break
            token = self._tokens.instead_of(token, forgetting=forgetting)
            answer = send(_bearer(token))
        return answer

    # --- tokens ------------------------------------------------------------------------------------------------

    def _obtain(self, last: Token | None) -> Token:
        """By the last token's refresh token where there is one and it still is good, else by the login."""
        return (last and last.refresh and self._refreshed(last.refresh)) or self._logged_in()

    def _refreshed(self, refresh: str) -> Token | None:
        answer = self.api.call("POST", "auth", "refresh-token", json={"refresh_token": refresh})
        return None if answer.status in _NO_SESSION else _token(_ANSWERS.success(answer))

    def _logged_in(self) -> Token:
        answer = self.api.call("POST", "v2", "auth", "login", json=dict(self._login))
        if answer.status in _NO_SESSION:
            raise AccountBlocked(
                f"{NAME} refused the login ({answer.status}): check email, password, client_id and base_url of this "
                "account.",
                credentials=True,
            )
        return _token(_ANSWERS.success(answer))


def _bearer(token: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token}"}


# --- answers ---------------------------------------------------------------------------------------------------------

_NO_SESSION = (400, 401, 403, 404, 422)
_ANSWERS = Answers(NAME, {})

_Opaque = Annotated[str, StringConstraints(strict=True, pattern=r"^[\x21-\x7e]{1,20000}$")]


class _Session(BaseModel):
    """What a login or a refresh answers, each in its own words. `expires`: in seconds from now."""

    access: _Opaque = Field(validation_alias=AliasChoices("accessToken", "access_token"))
    refresh: Any = Field(default="", validation_alias=AliasChoices("refreshToken", "refresh_token"))
    expires: Any = Field(default=None, validation_alias=AliasChoices("expiresIn", "expires_in"))


def _token(answer: Answer) -> Token:
    said = understood(answer, _Session, NAME)
    refresh = said.refresh if isinstance(said.refresh, str) else ""
    return Token(access=said.access, expires_at=good_for(_seconds(said.expires)), refresh=refresh)


def _seconds(said: object) -> float:
    """How long a token is good; text in digits is a number too."""
    if isinstance(said, str) and said.isascii() and said.isdecimal():
        said = int(said[:12])
    if isinstance(said, bool) or not isinstance(said, (int, float)) or not said > 0:
        return _UNSAID_SECONDS
    return float(min(said, _LONGEST_SECONDS))
