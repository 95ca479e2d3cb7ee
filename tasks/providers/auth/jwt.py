"""Signing with an account's private key, by joserfc: client assertions (RFC 7523) and DPoP proofs (RFC 9449)."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from config.types import ALGORITHMS_OF_KEYS, key_kind

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Signer:
    """A private key, in PEM or as JWK, and the algorithm to use it with: the key's usual one unless it is given."""

    def __init__(self, private_key: str, algorithm: str = "") -> None:
        kind = key_kind(private_key)
        assert kind is not None  # noqa: S101, the settings have checked it
        raw = json.loads(private_key) if private_key.lstrip().startswith("{") else private_key
        self._key: RSAKey | ECKey = RSAKey.import_key(raw) if kind == "RSA" else ECKey.import_key(raw)
        self.algorithm = algorithm or ALGORITHMS_OF_KEYS[kind][0]

    @property
    def thumbprint(self) -> str:
        """The public key's (RFC 7638)."""
        return str(self._key.thumbprint())

    def sign(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
        """A JWS in compact form (RFC 7515)."""
        return jwt.encode(
            {"alg": self.algorithm, **header}, dict(claims), self._key, algorithms=[self.algorithm], default_type=None
        )

    def assertion(self, client_id: str, audience: str, seconds: int, header: Mapping[str, Any], **claims: Any) -> str:
        """A fresh client assertion, good once and for so many seconds."""
        now = int(time.time())
        own = {"iss": client_id, "sub": client_id, "aud": audience, "iat": now, "exp": now + seconds}
        return self.sign(header, {**own, "jti": str(uuid.uuid4()), **claims})

    def proof(self, method: str, url: str, *, nonce: str = "", access_token: str = "") -> str:
        """A fresh DPoP proof for one request (RFC 9449, 4.2): its address without query and fragment.

        `access_token` goes with calls of an API, not with token requests.
        """
        claims: dict[str, Any] = {
            "jti": str(uuid.uuid4()),
            "htm": method.upper(),
            "htu": url.partition("#")[0].partition("?")[0],
            "iat": int(time.time()),
        }
        if nonce:
            claims["nonce"] = nonce
        if access_token:
            digest = hashlib.sha256(access_token.encode("ascii")).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return self.sign({"typ": "dpop+jwt", "jwk": self._public()}, claims)

    def _public(self) -> dict[str, Any]:
        """The public key alone, with nothing in it but what a proof needs."""
        public = self._key.as_dict(private=False)
        return {name: public[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in public}
