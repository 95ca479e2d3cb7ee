"""Logins at Ovok: bearer tokens that expire, refresh tokens that are good once.

https://docs.ovok.com/dev/api/high-level/authentication: auth-login-controller-login-v-2, auth-controller-refresh-token.
The staff of a tenant log in by two steps with PKCE (RFC 7636).
"""

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass

from joserfc import jwt
from joserfc.jwk import OctKey

from sandbox.faults.state import State

NAME = "ovok"


@dataclass(frozen=True)
class Login:
    """A user of one client application."""

    email: str
    password: str
    client_id: str

    @property
    def all(self) -> set[str]:
        return {self.email, self.password, self.client_id}


@dataclass(frozen=True)
class Tokens:
    """The answer to a login or a refresh. The access token is a JWT and good for `seconds`."""

    access: str
    refresh: str
    seconds: int


class Sessions:
    """One user's sessions. A token is good because it was issued here; its claims are not read."""

    def __init__(self, login: Login, state: State) -> None:
        self._login = login
        self._state = state
        self._key = OctKey.generate_key(256)
        self._issued: dict[str, tuple[float, float]] = {}  # access token → issued and expires, by time.time()
        self._refresh_tokens: set[str] = set()
        self._started: dict[str, str] = {}  # session code → code challenge

    def log_in(self, login: Login) -> Tokens | None:
        return self._new_tokens() if login == self._login and not self._revoked else None

    def start(self, email: str, password: str, challenge: str) -> str | None:
        """The code of a login that `finish` completes; None if it is refused."""
        if (email, password) != (self._login.email, self._login.password) or self._revoked:
            return None
        code = secrets.token_urlsafe(24)
        self._started[code] = challenge
        return code

    def finish(self, code: str, verifier: str) -> Tokens | None:
        """A code is good once, for whoever knows the verifier of its challenge (RFC 7636, 4.6)."""
        challenge = self._started.pop(code, None)
        digest = hashlib.sha256(verifier.encode()).digest()
        proof = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return self._new_tokens() if challenge == proof and not self._revoked else None

    def refresh(self, refresh_token: str) -> Tokens | None:
        """The refresh token is used up. Access tokens that were issued earlier stay good until they expire."""
        if self._revoked or refresh_token not in self._refresh_tokens:
            return None
        self._refresh_tokens.remove(refresh_token)
        return self._new_tokens()

    def admits(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or self._revoked or token not in self._issued:
            return False
        issued_at, expires_at = self._issued[token]
        return not self._state.token_is_dead(NAME, issued_at) and time.time() < expires_at

    @property
    def _revoked(self) -> bool:
        return bool(self._login.all & self._state.revoked)

    def _new_tokens(self) -> Tokens:
        now, seconds = time.time(), self._state.ovok_token_seconds
        claims = {"sub": self._login.email, "iat": int(now), "exp": int(now) + seconds, "jti": secrets.token_hex(8)}
        access = jwt.encode({"alg": "HS256", "typ": "JWT"}, claims, self._key)
        tokens = Tokens(access, secrets.token_urlsafe(32), seconds)
        self._issued[access] = (now, now + seconds)
        self._refresh_tokens.add(tokens.refresh)
        return tokens
