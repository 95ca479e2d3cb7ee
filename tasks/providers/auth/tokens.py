"""Access tokens: sealed in Redis, shared by all workers, and renewed by one of them at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic import BaseModel, ValidationError

from tasks.providers.base import Cache

_MARGIN_SECONDS = 30.0
_RENEWING_SECONDS = 15.0  # a token server answers sooner; a worker that died meanwhile holds the others up so long
_TOPIC = "token"


class Token(BaseModel, frozen=True):
    """An access token, good until `expires_at` (seconds since 1970); `refresh`, where there is one, gets another."""

    access: str
    expires_at: float
    refresh: str = ""

    @property
    def usable(self) -> bool:
        """Whether it is good for a call that is about to be made."""
        return self.expires_at - time.time() > 0


def good_for(seconds: float) -> float:
    """`expires_at` of a token that was just given for so many seconds, a little early."""
    return time.time() + max(seconds - _MARGIN_SECONDS, seconds / 2)


class Tokens:
    """The token of one account. `obtain` gets a new one, given the last if that is still known; it raises our errors.

    `scope` tells this account's tokens from any others (account, address, client, key): it may hold secrets.
    """

    def __init__(self, cache: Cache, scope: str, obtain: Callable[[Token | None], Token], *, keep: float) -> None:
        """`keep`: for how many seconds a token is worth remembering, so that its `refresh` may still be used."""
        self._cache = cache
        self._scope = scope
        self._obtain = obtain
        self._keep = keep

    def current(self) -> str:
        """A usable access token. Raises what `obtain` raises."""
        token = self._remembered()
        return token.access if token and token.usable else self._renewed(None)

    def instead_of(self, refused: str, *, forgetting: bool = False) -> str:
        """Another access token, since the provider has just refused this one. Raises what `obtain` raises.

        `forgetting`: the last one is of no more use to get it, though it may say otherwise.
        """
        return self._renewed(refused, forgetting)

    def anew(self) -> str:
        """An access token that was given just now, whatever is remembered. Raises what `obtain` raises."""
        with self._cache.lock(_TOPIC, self._scope, _RENEWING_SECONDS):
            return self._obtained(self._remembered())

    def _renewed(self, refused: str | None, forgetting: bool = False) -> str:
        with self._cache.lock(_TOPIC, self._scope, _RENEWING_SECONDS):
            token = self._remembered()
            if token and token.usable and token.access != refused:
                return token.access  # somebody was faster
            return self._obtained(None if forgetting else token)

    def _obtained(self, last: Token | None) -> str:
        token = self._obtain(last)
        self._cache.put(_TOPIC, self._scope, token.model_dump_json(), self._keep)
        return token.access

    def _remembered(self) -> Token | None:
        said = self._cache.get(_TOPIC, self._scope)
        try:
            return Token.model_validate_json(said) if said else None
        except ValidationError:
            return None
