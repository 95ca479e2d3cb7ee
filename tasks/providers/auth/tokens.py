"""Access tokens: sealed in Redis, shared by all workers, and renewed by one of them at a time."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ValidationError

from tasks.model.errors import AccountBlocked
from tasks.providers.connection import Cache

_MARGIN_SECONDS = 30.0
_RENEWING_SECONDS = 15.0  # token servers answer sooner; the others wait this long for a worker that died meanwhile
_TOPIC = "token"


class Token(BaseModel, frozen=True):
    """An access token that was given for so many seconds. `refresh`, if there is one, obtains the next."""

    access: str
    seconds: float
    refresh: str = ""

    def usable(self, age_seconds: float) -> bool:
        """True while it is good, and a little less: calls take time."""
        return age_seconds < max(self.seconds - _MARGIN_SECONDS, self.seconds / 2)


class Tokens:
    """The tokens of one account. All methods return an access token, and raise what `obtain` raises.

    An AccountBlocked that `obtain` raises is never the document's fault: the token server does not see it.

    `obtain` gets a new token; it is given the last one, if that is still known. `scope` tells this account's tokens
    from all others (account, address, client, key); it may hold secrets. A token is remembered for `keep` seconds, so
    that its `refresh` can be used after it has expired.
    """

    def __init__(self, cache: Cache, scope: str, obtain: Callable[[Token | None], Token], *, keep: float) -> None:
        self._cache = cache
        self._scope = scope
        self._obtain = obtain
        self._keep = keep

    def current(self) -> str:
        """A usable one, remembered or new."""
        token, age = self._remembered()
        return token.access if token and token.usable(age) else self._renewed(None)

    def replace(self, refused: str, *, forget_last: bool = False) -> str:
        """Another one than the provider has just refused.

        With `forget_last` the refused token is not given to `obtain`: the provider may have ended its session.
        """
        return self._renewed(refused, forget_last)

    def fresh(self) -> str:
        """One that was given just now, whatever is remembered."""
        with self._cache.lock(_TOPIC, self._scope, _RENEWING_SECONDS):
            return self._obtained(self._remembered()[0])

    def _renewed(self, refused: str | None, forget_last: bool = False) -> str:
        with self._cache.lock(_TOPIC, self._scope, _RENEWING_SECONDS):
            token, age = self._remembered()
            if token and token.usable(age) and token.access != refused:
                return token.access  # another worker was faster
            return self._obtained(None if forget_last else token)

    def _obtained(self, last: Token | None) -> str:
        try:
            token = self._obtain(last)
        except AccountBlocked as error:
            error.never_the_document = True
            raise
        self._cache.put(_TOPIC, self._scope, token.model_dump_json(), self._keep)
        return token.access

    def _remembered(self) -> tuple[Token | None, float]:
        """The last one and its age, by the cache's clock: a worker's own may be wrong."""
        value, age = self._cache.get_with_age(_TOPIC, self._scope) or ("", 0.0)
        try:
            return Token.model_validate_json(value) if value else None, age
        except ValidationError:  # of an earlier version
            return None, age
