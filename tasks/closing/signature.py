"""What says that a callback is chartpost's own: two headers, made with the secret that both sides know."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256

PLAIN = "X-Chartpost-Signature"
TIMED = "X-Chartpost-Signature-V1"


def signature_headers(body: bytes, secrets: Sequence[str], seconds: int) -> dict[str, str]:
    """The headers for `body`, sent at `seconds` since 1970. The first secret is the one in use.

    Over the very bytes that are sent: a receiver can check them before it parses anything. `PLAIN` is what receivers
    have always got, with the first secret alone. `TIMED` is signed with every secret and covers the time, so that a
    call that somebody recorded is refused when it comes again later.
    """
    timed = str(seconds).encode() + b"." + body
    parts = [f"k={key_id(secret)},v1={_sign(secret, timed)}" for secret in secrets]
    return {PLAIN: f"sha256={_sign(secrets[0], body)}", TIMED: ",".join([f"t={seconds}", *parts])}


def key_id(secret: str) -> str:
    """Tells which secret has signed; nothing about it."""
    return _sign(secret, b"chartpost callback key")[:8]


def _sign(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, sha256).hexdigest()
