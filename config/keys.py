"""Private keys that sign for an account: what a PEM or a JWK may hold, and which algorithm it signs with.

JWK: RFC 7517; its members for RSA and EC keys, and the algorithms: RFC 7518. What is wrong with a key is said by a
ValueError, worded to follow the setting's name; it never repeats a part of the key.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

# What each kind of key may sign with (RFC 7518 section 3.1), the usual algorithm first.
ALGORITHMS_OF_KEYS = {
    "RSA": ("PS256", "PS384", "PS512", "RS256", "RS384", "RS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
}
# RFC 7518, 3.3 and 3.5: smaller RSA keys must not sign.
LEAST_RSA_BITS = 2048
# Of the keys that chartpost makes: they stay for years, and 2,048 are not enough beyond 2030 (NIST SP 800-57, part 1).
NEW_RSA_BITS = 3072
NOT_A_KEY = "must be a private RSA or EC key: PKCS#8 in PEM, or a JWK as JSON"
_ENCRYPTED = "is encrypted with a password, which chartpost cannot be given: write it without one"
_PUBLIC_MEMBERS: tuple[Literal["kty", "crv", "x", "y", "n", "e"], ...] = ("kty", "crv", "x", "y", "n", "e")
_MEMBERS = {"RSA": ("kty", "n", "e", "d", "p", "q", "dp", "dq", "qi"), "EC": ("kty", "crv", "x", "y", "d")}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that may sign."""

    # `RSA`, or the curve of an EC key as JWK names it: `P-256`, `P-384`, `P-521`.
    kind: str
    # The algorithm that a JWK names as its own (RFC 7517, 4.4); empty if it names none.
    algorithm: str
    # The id that a JWK has (RFC 7517, 4.5); empty if it has none.
    key_id: str
    # What joserfc imports: the PEM, or the members of a JWK that make the key. `alg`, `use` and `key_ops` are left out,
    # since joserfc raises errors of its own for them while it signs, and they have been judged here.
    material: str | Mapping[str, str] = field(repr=False)


@lru_cache(maxsize=32)  # reading an RSA key takes 50 ms, and each is read when settings are checked and when it signs
def read_key(text: str) -> SigningKey:
    """The private key in this PEM or JWK. Raises ValueError for what cannot sign: it says why."""
    jwk = _json_object(text) if text.lstrip().startswith("{") else {}
    material = _members(jwk) if jwk else text
    kind = _kind_of(material)
    if kind is None:
        raise ValueError(_ENCRYPTED if "BEGIN ENCRYPTED" in text else NOT_A_KEY)
    if jwk.get("use") not in (None, "sig"):
        raise ValueError("is a JWK whose use is not sig: give a key that is made for signing")
    operations = jwk.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "sign" in operations):
        raise ValueError("is a JWK whose key_ops leave out sign: give a key that is made for signing")
    algorithm = jwk.get("alg")
    if algorithm is not None and algorithm not in ALGORITHMS_OF_KEYS[kind]:
        able = ", ".join(ALGORITHMS_OF_KEYS[kind])
        raise ValueError(f"is a JWK whose alg is none that its key can sign with ({able}): correct or remove it")
    key_id = jwk.get("kid")
    return SigningKey(kind, algorithm or "", key_id if isinstance(key_id, str) else "", material)


def signing_algorithm(key: SigningKey, wanted: str, usual: Sequence[str]) -> str:
    """What the key signs with: `wanted`, which settings give, else the key's own, else the first usual one it can.

    Raises ValueError, worded to follow the name of `algorithm`, if these do not go together.
    """
    able = ALGORITHMS_OF_KEYS[key.kind]
    if wanted and wanted not in able:
        raise ValueError("does not go with the private_key: leave it out, and it follows from the key")
    if wanted and key.algorithm not in ("", wanted):
        raise ValueError(
            f"is not the one that the private_key itself names ({key.algorithm}): leave it out, or correct that"
        )
    chosen = wanted or key.algorithm or next((each for each in usual or able if each in able), "")
    if not chosen:
        raise ValueError(f"cannot follow from the private_key: this provider takes keys for {' or '.join(usual)}")
    return chosen


def new_key(algorithm: str, key_id: str) -> tuple[str, str]:
    """A new private key for this algorithm, as a JWK that names it, and the key's id.

    The id is `key_id`, or if that is empty the key's thumbprint (RFC 7638).
    """
    from joserfc.jwk import ECKey, RSAKey

    kind = next(kind for kind, able in ALGORITHMS_OF_KEYS.items() if algorithm in able)
    key = RSAKey.generate_key(NEW_RSA_BITS) if kind == "RSA" else ECKey.generate_key(kind)
    key_id = key_id or str(key.thumbprint())
    return json.dumps({**key.as_dict(private=True), "kid": key_id, "alg": algorithm, "use": "sig"}), key_id


def public_jwk(key: SigningKey, key_id: str, algorithm: str) -> dict[str, Any]:
    """The public half of a key, to be handed in where its signatures are verified (RFC 7517).

    `key_id` is the one that the account's settings name; if it is empty, the key's own, else its thumbprint.
    """
    from joserfc.jwk import ECKey, RSAKey

    material: Any = key.material  # joserfc declares a dict of its own kind
    read: RSAKey | ECKey = (RSAKey if key.kind == "RSA" else ECKey).import_key(material)
    members = read.as_dict(private=False)
    public: dict[str, Any] = {name: members[name] for name in _PUBLIC_MEMBERS if name in members}
    return {**public, "kid": key_id or key.key_id or str(read.thumbprint()), "alg": algorithm, "use": "sig"}


def _json_object(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(NOT_A_KEY) from None
    return parsed if isinstance(parsed, dict) else {}


def _members(jwk: Mapping[str, Any]) -> dict[str, str]:
    """The members that make the key. Raises ValueError if they are none, or no text."""
    kind = jwk.get("kty")
    names = _MEMBERS.get(kind, ()) if isinstance(kind, str) else ()
    members = {name: jwk[name] for name in names if name in jwk}
    if "d" not in members or not all(isinstance(value, str) and value.isascii() for value in members.values()):
        raise ValueError(NOT_A_KEY)
    return members


def _kind_of(material: str | Mapping[str, str]) -> str | None:
    """The kind of the private key; None if it is not one. Raises ValueError for an RSA key that is too small."""
    # Loads cryptography, about 40 ms, for which no command should wait whose accounts have no private key.
    from cryptography.exceptions import UnsupportedAlgorithm
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, RSAKey

    raw: Any = material  # joserfc declares a dict of its own kind
    unreadable = (JoseError, ValueError, TypeError, KeyError, AttributeError, OverflowError, UnsupportedAlgorithm)
    try:
        rsa = RSAKey.import_key(raw)
        private = rsa.private_key if rsa.is_private else None  # read as a whole only now
    except unreadable:
        pass
    else:
        if private is not None and private.key_size < LEAST_RSA_BITS:
            raise ValueError(f"is an RSA key of less than {LEAST_RSA_BITS} bits, with which nothing may be signed")
        return None if private is None else "RSA"
    try:
        curve = ECKey.import_key(raw)
        kind = curve.curve_name if curve.is_private and curve.private_key is not None else ""
    except unreadable:
        return None
    return kind if kind in ALGORITHMS_OF_KEYS else None
