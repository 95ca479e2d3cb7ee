"""HTTP's Basic scheme (RFC 7617), and APIs whose calls all carry the same header."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from tasks.http.exchange import Answer
from tasks.providers.auth.bearer import Call
from tasks.providers.connection import Connection


def basic(user: str, password: str) -> dict[str, str]:
    """The header for this user and password."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


class FixedHeaderApi:
    """An API whose calls carry the same headers each time: a token that a person has set, a password, or nothing."""

    def __init__(self, connection: Connection, base_url: str, *, provider: str, headers: Mapping[str, str]) -> None:
        self._api = connection.api(base_url, provider=provider, headers=headers)
        self.base_url = self._api.base_url

    def url(self, *segments: str) -> str:
        """The address of a resource, as `ApiClient.url`."""
        return self._api.url(*segments)

    def send(self, call: Call) -> Answer:
        """The answer to a call, whatever its status. Raises what the call raises."""
        return call(self._api)

    def send_fresh(self, call: Call) -> Answer:
        """The same: there is nothing to renew."""
        return call(self._api)
