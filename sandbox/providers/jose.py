"""What callers prove with signed JWTs: who they are (RFC 7521, RFC 7523) and that a key is theirs (DPoP, RFC 9449).

joserfc checks the signatures. The claims are checked here, as strictly as the strictest server that the vendors' pages
describe. No message contains a token or a key.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, GuestProtocol, KeyFlexible, RSAKey
from joserfc.jws import JWSRegistry

from sandbox.faults.state import State

PROOF_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
PROOF_SECONDS = 6
CLOCK_SKEW_SECONDS = 5
PUBLIC_PARTS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y")}
PRIVATE_PARTS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
KEY_BITS = 2048


class NotProven(Exception):
    """The message says which rule was broken."""


class NonceWanted(Exception):
    """The proof must hold `nonce` (RFC 9449 section 8)."""

    def __init__(self, nonce: str) -> None:
        self.nonce = nonce
        super().__init__("the proof must hold the server's nonce")


@dataclass(frozen=True)
class Client:
    """A client as it is registered with a token server, with the public half of its key."""

    client_id: str
    key_id: str
    key: RSAKey | ECKey


@dataclass(frozen=True)
class AssertionRules:
    """What a token server requires of a client assertion."""

    audience: str
    algorithms: tuple[str, ...]
    lifetime_seconds: int  # between iat and exp, at most
    typ: str | None = None  # of the header; None: any


@dataclass(frozen=True)
class Proof:
    """A proof that was accepted."""

    thumbprint: str  # of its key (RFC 7638)
    nonce: str | None


@dataclass(frozen=True)
class RegisteredKey:
    """The public half of a client's key; `algorithm` is the only one that it may sign with, empty: any."""

    key: RSAKey | ECKey
    algorithm: str = ""


class Once:
    """Remembers every `jti`, each of which may be used once."""

    def __init__(self) -> None:
        self._used: set[Hashable] = set()

    def use(self, claims: Mapping[str, Any], owner: str) -> None:
        jti = claims.get("jti")
        if not isinstance(jti, str) or not jti:
            raise NotProven("jti is missing")
        if (owner, jti) in self._used:
            raise NotProven("jti has been used before")
        self._used.add((owner, jti))


class Assertions:
    """One token server's check of client assertions (RFC 7523 section 3)."""

    def __init__(self, client: Client, rules: AssertionRules) -> None:
        self._client = client
        self._rules = rules
        self._once = Once()
        self._keys = {client.key_id: RegisteredKey(client.key)}

    def register(self, jwk: Mapping[str, Any]) -> None:
        """Take one more public key of the client, as its owner hands it in (RFC 7517). Raises NotProven."""
        key_id, algorithm = jwk.get("kid"), jwk.get("alg", "")
        if not isinstance(key_id, str) or not key_id or algorithm not in ("", *self._rules.algorithms):
            raise NotProven("the key has no kid, or its alg is none that clients may sign with")
        if jwk.get("use", "sig") != "sig":
            raise NotProven("the key is not for signatures")
        self._keys[key_id] = RegisteredKey(public_key(dict(jwk)), algorithm)

    def check(self, assertion: str) -> dict[str, Any]:
        """The claims. Raises NotProven."""
        token = verify(assertion, self._key_for, self._rules.algorithms)
        if self._rules.typ is not None and token.header.get("typ") != self._rules.typ:
            raise NotProven(f"typ is not {self._rules.typ}")
        claims = token.claims
        for name, wanted in (("iss", self._client.client_id), ("sub", self._client.client_id)):
            if claims.get(name) != wanted:
                raise NotProven(f"{name} is not the client's id")
        if claims.get("aud") not in (self._rules.audience, [self._rules.audience]):
            raise NotProven(f"aud is not {self._rules.audience}")
        self._check_times(claims)
        self._once.use(claims, self._client.client_id)
        return claims

    def _key_for(self, signed: GuestProtocol) -> RSAKey | ECKey:
        registered = self._keys.get(str(signed.headers().get("kid")))
        if registered is None:
            raise NotProven("kid names no registered key")
        if registered.algorithm not in ("", signed.headers().get("alg")):
            raise NotProven("alg is not the one that the key is registered with")
        return registered.key

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = time.time()
        issued, expires = time_in(claims, "iat"), time_in(claims, "exp")
        not_before = time_in(claims, "nbf", issued)
        if expires <= now:
            raise NotProven("exp has passed")
        if max(issued, not_before) > now + CLOCK_SKEW_SECONDS:
            raise NotProven("iat or nbf is in the future")
        if expires - issued > self._rules.lifetime_seconds:
            raise NotProven(f"exp is more than {self._rules.lifetime_seconds} seconds after iat")


class Proofs:
    """One server's check of DPoP proofs (RFC 9449 section 4.3), and its nonces."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._once = Once()
        self._secret = secrets.token_urlsafe(12)

    def check(self, proofs: list[str], method: str, url: str, access_token: str | None = None) -> Proof:
        """Check the values of the request's DPoP headers. `url` has neither query nor fragment.

        With an access token the proof must contain its hash; without one it must not. Raises NotProven or NonceWanted.
        """
        if len(proofs) != 1:
            raise NotProven("there is not exactly one DPoP header")
        token = verify(proofs[0], key_in_header, PROOF_ALGORITHMS)
        if token.header.get("typ") != "dpop+jwt":
            raise NotProven("typ is not dpop+jwt")
        claims = token.claims
        if claims.get("htm") != method:
            raise NotProven("htm is not the request's method")
        if claims.get("htu") != url:
            raise NotProven("htu is not the request's address without query and fragment")
        if claims.get("ath") != (None if access_token is None else access_token_hash(access_token)):
            raise NotProven("ath does not fit the access token")
        if abs(time.time() - time_in(claims, "iat")) > PROOF_SECONDS:
            raise NotProven(f"iat is not within {PROOF_SECONDS} seconds of the server's time")
        thumbprint = public_key(token.header["jwk"]).thumbprint()
        self._once.use(claims, thumbprint)
        if self._state.dpop_nonce and claims.get("nonce") != self._nonce:
            raise NonceWanted(self._nonce)
        return Proof(thumbprint, claims.get("nonce"))

    @property
    def _nonce(self) -> str:
        """Another one each time that a test asks for nonces."""
        return f"{self._secret}.{self._state.dpop_nonce}"


class LongHeaders(JWSRegistry):
    """A proof's header holds a whole public key: an RSA key takes more than joserfc's 512 bytes."""

    max_header_length = 4096


def verify(compact: str, key: KeyFlexible, algorithms: tuple[str, ...]) -> jwt.Token:
    """The token, once its signature has been verified. Raises NotProven."""
    registry = LongHeaders(algorithms=algorithms, strict_check_header=False)
    try:
        return jwt.decode(compact, key, registry=registry)
    except JoseError as wrong:
        raise NotProven(f"the JWT is not good: {wrong.error}") from None
    except (ValueError, TypeError):
        raise NotProven("the JWT is not good") from None


def key_in_header(signed: GuestProtocol) -> RSAKey | ECKey:
    return public_key(signed.headers().get("jwk"))


def public_key(jwk: object) -> RSAKey | ECKey:
    """The key in a proof's header, which must be a public one of a kind that can sign. Raises NotProven."""
    if not isinstance(jwk, dict) or jwk.get("kty") not in PUBLIC_PARTS:
        raise NotProven("jwk is not an RSA or EC key")
    if PRIVATE_PARTS & jwk.keys():
        raise NotProven("jwk holds a private key")
    # Any: joserfc checks whether these values make a key.
    parts: Any = {name: jwk.get(name) for name in ("kty", *PUBLIC_PARTS[jwk["kty"]])}
    try:
        return RSAKey.import_key(parts) if jwk["kty"] == "RSA" else ECKey.import_key(parts)
    except (JoseError, ValueError, TypeError):
        raise NotProven("jwk is not an RSA or EC key") from None


def time_in(claims: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """The claim's NumericDate (RFC 7519 section 2). Raises NotProven."""
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotProven(f"{name} is not a time")
    return value


def access_token_hash(access_token: str) -> str:
    digest = hashlib.sha256(access_token.encode("ascii", "replace")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def new_key() -> RSAKey:
    """A new one in every run, whatever the sandbox's seed: OpenSSL's key generator takes none."""
    return RSAKey.generate_key(KEY_BITS)


def as_pem(key: RSAKey) -> str:
    """The private key as PKCS#8, as the product's settings take it."""
    return key.as_pem(private=True).decode()
