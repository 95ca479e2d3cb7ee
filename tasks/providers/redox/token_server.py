"""Redox's access tokens, for a signed assertion (RFC 7523, 2.2).

https://developer.redoxengine.com/api-reference/fhir-api-reference/authenticate-an-oauth-api-key
"""

from __future__ import annotations

from config.accounts import RedoxAccount
from tasks.providers.auth.client_credentials import granted
from tasks.providers.auth.jwt import ASSERTION_TYPE, Signer
from tasks.providers.auth.tokens import Token, Tokens
from tasks.providers.connection import Connection
from tasks.providers.redox.answers import NAME
from tasks.providers.statuses import StatusTable, blocked, locked_out

_ASSERTION_SECONDS = 240  # of 300 that Redox allows: clocks differ
_KEEP_SECONDS = 3600.0


class TokenServer:
    """The tokens of one account."""

    def __init__(self, name: str, account: RedoxAccount, connection: Connection) -> None:
        key = account.private_key.get_secret_value()
        self._account = account
        self._signer = Signer(key, account.algorithm, usual=account.usual_algorithms, now=connection.clock.now)
        self._api = connection.api(account.token_url, provider=NAME, headers={})
        scope = "\0".join((name, account.base_url, account.token_url, account.client_id, account.key_id, key))
        self.tokens = Tokens(connection.cache, scope, self._obtain, keep=_KEEP_SECONDS)

    def _obtain(self, last: Token | None) -> Token:
        account = self._account
        header = {"kid": account.key_id, "typ": "JWT"}
        assertion = self._signer.assertion(account.client_id, account.token_url, _ASSERTION_SECONDS, header)
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
        }
        return granted(self._api.call("POST", form=form), _STATUSES, NAME)


# --- answers ---------------------------------------------------------------------------------------------------------


_NO_TOKEN = locked_out(
    "Redox gives no token: check client_id, key_id (the kid of the public key there), algorithm (Redox's keys are for "
    "RS384), private_key, token_url and environment of this account, and this machine's clock."
)
_STATUSES = StatusTable(
    f"{NAME}'s token server",
    {
        400: _NO_TOKEN,
        401: _NO_TOKEN,
        403: _NO_TOKEN,
        404: blocked("There is no token server at this account's token_url (404): check token_url, or base_url."),
    },
)
