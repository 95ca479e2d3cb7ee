"""Client assertions (RFC 7523) and DPoP proofs (RFC 9449) as a careful caller makes them, or a careless one."""

import base64
import hashlib
import time
import uuid
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

Key = RSAKey | ECKey
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def signed(key: Key, header: dict[str, Any], claims: dict[str, Any], **changes: Any) -> str:
    """A JWT. A change replaces a claim, or the header's alg, kid, typ and jwk; None leaves it out."""
    of_header = {name: changes.pop(name) for name in ("alg", "kid", "typ", "jwk") if name in changes}
    header = {name: value for name, value in (header | of_header).items() if value is not None}
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(header, claims, key, algorithms=[header["alg"]], default_type=None)


def assertion_claims(client_id: str, audience: str, lifetime_seconds: int) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": now,
        "exp": now + lifetime_seconds,
        "jti": str(uuid.uuid4()),
    }


def dpop(key: Key, method: str, url: str, access_token: str | None = None, **changes: Any) -> str:
    """A proof for this request; its address is given without query."""
    alg = "PS256" if isinstance(key, RSAKey) else "ES256"
    header = {"typ": "dpop+jwt", "alg": alg, "jwk": key.as_dict(private=False)}
    claims = {"jti": str(uuid.uuid4()), "htm": method, "htu": url, "iat": int(time.time())}
    if access_token is not None:
        claims["ath"] = token_hash(access_token)
    return signed(key, header, claims, **changes)


def token_hash(access_token: str) -> str:
    digest = hashlib.sha256(access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
