"""Calls with bearer tokens (RFC 6750); a token that is refused is replaced, and the call made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks.http.api import ApiClient
from tasks.http.exchange import Answer
from tasks.providers.auth.tokens import Tokens
from tasks.providers.connection import Connection

Call = Callable[[ApiClient], Answer]
"""One call, made with the client that it is given. Made again, it must be the same call."""


KEEP_LAST, FORGET_LAST = False, True
"""How `Tokens.replace` replaces a refused token: by way of the last one, or without it."""


class BearerApi:
    """An API whose calls carry one of these tokens.

    `replacements` are the ways to replace a refused token, one after the other, as long as the new one is refused too.
    """

    def __init__(
        self,
        connection: Connection,
        base_url: str,
        *,
        provider: str,
        tokens: Tokens,
        replacements: Sequence[bool] = (KEEP_LAST,),
    ) -> None:
        self._connection = connection
        self.base_url = base_url.rstrip("/")
        self._provider = provider
        self._tokens = tokens
        self._replacements = replacements

    def url(self, *segments: str) -> str:
        """The address of a resource, as `ApiClient.url`."""
        return self._client("").url(*segments)

    def send(self, call: Call) -> Answer:
        """The answer to a call, whatever its status. Raises what the call raises, and what getting a token does.

        A 401 says that nothing was done, so a call that creates something may be made again as well.
        """
        token = self._tokens.current()
        answer = call(self._client(token))
        for forget_last in self._replacements:
            if answer.status != 401:
                break
            token = self._tokens.replace(token, forget_last=forget_last)
            answer = call(self._client(token))
        return answer

    def send_fresh(self, call: Call) -> Answer:
        """As `send`, once, with a token that was given just now."""
        return call(self._client(self._tokens.fresh()))

    def _client(self, token: str) -> ApiClient:
        headers = {"Authorization": f"Bearer {token}"}
        return self._connection.api(self.base_url, provider=self._provider, headers=headers)
