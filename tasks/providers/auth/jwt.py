"""Signing with an account's private key, by joserfc: client assertions (RFC 7523) and DPoP proofs (RFC 9449)."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from config.keys import read_key, signing_algorithm

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@lru_cache(maxsize=32)  # importing an RSA key takes 50 ms
def _imported(private_key: str) -> RSAKey | ECKey:
    key = read_key(private_key)
    material: Any = key.material  # joserfc declares a dict of its own kind
    return RSAKey.import_key(material) if key.kind == "RSA" else ECKey.import_key(material)


class Signer:
    """Signs with a private key, in PEM or as JWK.

    It signs with `algorithm`, else with the one that a JWK names as its own, else with the first of `usual` (those that
    the other side takes) that the key can. The settings have checked that these go together.

    `now` is the time that goes into what is signed, aware. The other side judges it by its own clock.
    """

    def __init__(
        self,
        private_key: str,
        algorithm: str = "",
        *,
        usual: Sequence[str] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.algorithm = signing_algorithm(read_key(private_key), algorithm, usual)
        self._key = _imported(private_key)
        self._now = now

    @property
    def thumbprint(self) -> str:
        """The public key's thumbprint (RFC 7638)."""
        return str(self._key.thumbprint())

    def now(self) -> int:
        """In whole seconds since 1970, as claims have it (NumericDate; RFC 7519, 2)."""
        return int(self._now().timestamp())

    def sign(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
        """A JWS in compact form (RFC 7515)."""
        # joserfc signs with RS384 only if that is named here.
        return jwt.encode(
            {"alg": self.algorithm, **header}, dict(claims), self._key, algorithms=[self.algorithm], default_type=None
        )

    def assertion(self, client_id: str, audience: str, seconds: int, header: Mapping[str, Any], **claims: Any) -> str:
        """A new client assertion (RFC 7523), good once and for so many seconds."""
        now = self.now()
        own = {"iss": client_id, "sub": client_id, "aud": audience, "iat": now, "exp": now + seconds}
        return self.sign(header, {**own, "jti": str(uuid.uuid4()), **claims})

    def proof(self, method: str, url: str, *, nonce: str = "", access_token: str = "") -> str:
        """A new DPoP proof for one request (RFC 9449, 4.2). Token requests have no `access_token` yet."""
        claims: dict[str, Any] = {
            "jti": str(uuid.uuid4()),
            "htm": method.upper(),
            # Without query and fragment, which the rule of 4.2 leaves out.
            "htu": url.partition("#")[0].partition("?")[0],
            "iat": self.now(),
        }
        if nonce:
            claims["nonce"] = nonce
        if access_token:
            digest = hashlib.sha256(access_token.encode("ascii")).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return self.sign({"typ": "dpop+jwt", "jwk": self._public()}, claims)

    def _public(self) -> dict[str, Any]:
        """The public key, with only the members that a proof needs."""
        public = self._key.as_dict(private=False)
        return {name: public[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in public}
