"""Keys for tests."""

from __future__ import annotations

from functools import cache

from joserfc.jwk import RSAKey

from tasks.ledger.seal import Seal

SEAL = Seal("a secret")


@cache  # importing an RSA key takes 50 ms
def signing_key(pem: str) -> RSAKey:
    """The private key of one of the sandbox's accounts."""
    return RSAKey.import_key(pem)
