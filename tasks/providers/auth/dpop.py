"""Calls with access tokens bound to our key (DPoP, RFC 9449): a fresh proof for each, and the server's nonce."""

from __future__ import annotations

import re

from tasks.http.api import ApiClient
from tasks.http.exchange import Answer
from tasks.providers.auth.bearer import Call
from tasks.providers.auth.jwt import Signer
from tasks.providers.auth.tokens import Tokens
from tasks.providers.connection import Cache, Connection

PROOF_REFUSED = "invalid_dpop_proof"
NONCE_WANTED = "use_dpop_nonce"

_TOPIC = "dpop nonce"
_NONCE_SECONDS = 3600.0
_MAX_NONCE = 1000
_ERROR = re.compile(r"\berror=\"?([a-z_]+)")


class DpopApi:
    """An API whose calls carry one of these tokens and a proof, which is made when the call is about to leave."""

    def __init__(self, connection: Connection, base_url: str, *, provider: str, signer: Signer, tokens: Tokens) -> None:
        self._connection = connection
        self.base_url = base_url.rstrip("/")
        self._provider = provider
        self._signer = signer
        self._tokens = tokens
        self._nonces = Nonces(connection.cache, base_url)

    def url(self, *segments: str) -> str:
        """The address of a resource, as `ApiClient.url`."""
        return self._client("").url(*segments)

    def send(self, call: Call, *, renew: bool = True) -> Answer:
        """The answer to a call, whatever its status. Raises what the call raises, and what getting a token does.

        Retries once with the nonce that the server asks for (RFC 9449, 9), and with `renew` once with a new token after
        a 401.
        """
        token = self._tokens.current()
        nonce_given, token_renewed = False, not renew
        while True:
            answer = call(self._client(token))
            self._nonces.note(answer)
            error = proof_error(answer)
            if error == NONCE_WANTED and not nonce_given:
                nonce_given = True
            elif answer.status == 401 and error not in (NONCE_WANTED, PROOF_REFUSED) and not token_renewed:
                token, token_renewed = self._tokens.replace(token), True
            else:
                return answer

    def _client(self, token: str) -> ApiClient:
        def sign(method: str, url: str) -> dict[str, str]:
            proof = self._signer.proof(method, url, nonce=self._nonces.current(), access_token=token)
            return {"Authorization": f"DPoP {token}", "DPoP": proof}

        return self._connection.api(self.base_url, provider=self._provider, headers=sign)


class Nonces:
    """The nonce that one server wants in the next proof (RFC 9449, 8), shared by all workers."""

    def __init__(self, cache: Cache, server: str) -> None:
        self._cache = cache
        self._server = server

    def current(self) -> str:
        """The last one that the server gave; empty if it gave none."""
        return self._cache.get(_TOPIC, self._server) or ""

    def note(self, answer: Answer) -> None:
        """Any answer may bring a new nonce, a success too (RFC 9449, 8.2)."""
        nonce = answer.headers.get("dpop-nonce", "")
        if 0 < len(nonce) <= _MAX_NONCE:
            self._cache.put(_TOPIC, self._server, nonce, _NONCE_SECONDS)


def proof_error(answer: Answer) -> str:
    """The error that a 401 names (RFC 9449, 7.1); empty for other answers, and if it names none."""
    if answer.status != 401:
        return ""
    match = _ERROR.search(answer.headers.get("www-authenticate", ""))
    return match[1] if match else ""
