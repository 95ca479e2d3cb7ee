"""What a callback's receiver checks: the plain signature as ever, and one that covers the time."""

from __future__ import annotations

import hashlib
import hmac

from tasks.closing.signature import PLAIN, TIMED, key_id, signature_headers

BODY = b'{"job_id": "1"}'


def right(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def test_the_plain_signature_is_as_it_always_was() -> None:
    headers = signature_headers(BODY, ["new", "old"], 1_796_000_000)
    assert headers[PLAIN] == f"sha256={right('new', BODY)}"


def test_the_second_covers_the_time_and_is_made_with_every_secret() -> None:
    headers = signature_headers(BODY, ["new", "old"], 1_796_000_000)
    timed = b"1796000000." + BODY
    assert headers[TIMED] == (
        f"t=1796000000,k={key_id('new')},v1={right('new', timed)},k={key_id('old')},v1={right('old', timed)}"
    )
    assert signature_headers(BODY, ["new"], 1_796_000_000)[TIMED] in headers[TIMED]
    assert signature_headers(BODY, ["new"], 1_796_000_001)[TIMED].split("v1=")[1] not in headers[TIMED]


def test_a_key_id_tells_secrets_apart_and_is_no_part_of_one() -> None:
    assert key_id("new") != key_id("old")
    assert len(key_id("new")) == 8
    assert not hashlib.sha256(b"new").hexdigest().startswith(key_id("new"))
