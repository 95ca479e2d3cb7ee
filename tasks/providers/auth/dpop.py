"""Calls with access tokens bound to our key (DPoP, RFC 9449): a fresh proof for each, and the server's nonce."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from tasks.http.api import ApiClient
from tasks.http.clients import Clients
from tasks.http.exchange import Answer
from tasks.providers.auth.jwt import Signer
from tasks.providers.base import Cache

_TOPIC = "dpop nonce"
_NONCE_SECONDS = 3600.0
_LONGEST_NONCE = 1000
_ERROR = re.compile(r"\berror=\"?([a-z_]+)")
_NONCE_WANTED = "use_dpop_nonce"
PROOF_REFUSED = "invalid_dpop_proof"


class Nonces:
    """The nonce that one server wants to see in the next proof (RFC 9449, 8); all workers share it."""

    def __init__(self, cache: Cache, server: str) -> None:
        self._cache = cache
        self._server = server

    def current(self) -> str:
        """The last that it gave; empty where it gave none."""
        return self._cache.get(_TOPIC, self._server) or ""

    def note(self, answer: Answer) -> None:
        """Any answer may bring another one, a success too (RFC 9449, 8.2)."""
        nonce = answer.headers.get("dpop-nonce", "")
        if 0 < len(nonce) <= _LONGEST_NONCE:
            self._cache.put(_TOPIC, self._server, nonce, _NONCE_SECONDS)


class Tokens(Protocol):
    """Where tokens come from. Both raise our errors."""

    def current(self) -> str: ...

    def instead_of(self, refused: str) -> str: ...


Call = Callable[[ApiClient], Answer]
"""One call, made with the client that it is given. Made again, it must be the same call."""


class DpopApi:
    """An API whose calls carry such a token. The proof is made when the call is about to leave, never used twice."""

    def __init__(
        self,
        clients: Clients,
        base_url: str,
        *,
        provider: str,
        signer: Signer,
        tokens: Tokens,
        limiter: Callable[[], None],
        on_call: Callable[[], None],
        cache: Cache,
        insecure: bool,
    ) -> None:
        self._clients = clients
        self._base_url = base_url
        self._provider = provider
        self._signer = signer
        self._tokens = tokens
        self._limiter = limiter
        self._on_call = on_call
        self._insecure = insecure
        self._nonces = Nonces(cache, base_url)

    def url(self, *segments: str) -> str:
        return self._with("").url(*segments)

    def sent(self, call: Call) -> Answer:
        """The answer to a call, whatever its status. Raises what the call raises, and what getting a token does.

        Refused for want of a nonce it is made once more with that nonce (RFC 9449, 9), refused for its token once more
        with another one.
        """
        token = self._tokens.current()
        nonce_given = token_renewed = False
        while True:
            answer = call(self._with(token))
            self._nonces.note(answer)
            error = proof_error(answer)
            if error == _NONCE_WANTED and not nonce_given:
                nonce_given = True
            elif answer.status == 401 and error not in (_NONCE_WANTED, PROOF_REFUSED) and not token_renewed:
                token, token_renewed = self._tokens.instead_of(token), True
            else:
                return answer

    def _with(self, token: str) -> ApiClient:
        """A client for one call with this token."""

        def sign(method: str, url: str) -> dict[str, str]:
            proof = self._signer.proof(method, url, nonce=self._nonces.current(), access_token=token)
            return {"Authorization": f"DPoP {token}", "DPoP": proof}

        return ApiClient(
            self._clients,
            self._base_url,
            provider=self._provider,
            headers=sign,
            limiter=self._limiter,
            on_call=self._on_call,
            insecure=self._insecure,
        )


def proof_error(answer: Answer) -> str:
    """What a 401 says to be wrong (RFC 9449, 7.1); empty for other answers, and where it says nothing."""
    if answer.status != 401:
        return ""
    found = _ERROR.search(answer.headers.get("www-authenticate", ""))
    return found[1] if found else ""


def nonce_wanted(answer: Answer) -> bool:
    """Whether it was refused for want of a nonce."""
    return proof_error(answer) == _NONCE_WANTED
