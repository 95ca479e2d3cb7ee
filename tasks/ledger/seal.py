"""Patient data at rest in Redis: sealed values, and look-up keys that are only an HMAC; signatures of files of ours."""

from __future__ import annotations

import base64
import hmac
import os
from hashlib import sha256
from uuid import UUID, uuid5

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12  # 96 bits, as NIST SP 800-38D recommends for GCM


class SealBroken(Exception):
    """A sealed value does not open: it was sealed with another `secret_key`, moved, or damaged."""


class Seal:
    """Seals and opens with AES-256-GCM; makes look-up keys with HMAC-SHA256."""

    def __init__(self, secret_key: str) -> None:
        if not secret_key:
            raise ValueError("secret_key must not be empty")
        # Keys derived from one (HKDF, RFC 5869), so that what is learned about one says nothing about the others.
        self._aead = AESGCM(_derive(secret_key, b"chartpost seal"))
        self._lookup_key = _derive(secret_key, b"chartpost lookup")
        self._evidence_key = _derive(secret_key, b"chartpost evidence")
        self._entry_ids = UUID(bytes=_derive(secret_key, b"chartpost stream ids")[:16])

    def seal(self, plain: str, *, place: str) -> str:
        """Seal `plain` for `place`, such as `<job id>:document`. Text in, URL-safe text out."""
        # Bound to its place: a value that is moved to another job's row does not open there.
        nonce = os.urandom(_NONCE_BYTES)
        # surrogatepass: file names may hold bytes that are not UTF-8, as lone surrogates.
        sealed = self._aead.encrypt(nonce, plain.encode("utf-8", "surrogatepass"), place.encode())
        return base64.urlsafe_b64encode(nonce + sealed).decode()

    def open(self, sealed: str, *, place: str) -> str:
        """The plain text of a sealed value. Raises SealBroken."""
        try:
            raw = base64.urlsafe_b64decode(sealed)
            plain = self._aead.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.encode())
        except (ValueError, InvalidTag) as error:
            raise SealBroken(
                f"The sealed value at {place} does not open: was secret_key changed since it was written?"
            ) from error
        return plain.decode("utf-8", "surrogatepass")

    def lookup(self, *parts: str) -> str:
        """A key under which something can be found again and that does not tell what it is: 32 hex digits."""
        # With the lengths, so that ("ab", "c") and ("a", "bc") have different keys.
        message = "\0".join(f"{len(part)}:{part}" for part in parts)
        return hmac.new(self._lookup_key, message.encode("utf-8", "surrogatepass"), sha256).hexdigest()[:32]

    def sign(self, kind: str, text: str) -> str:
        """The signature of a text that we write where others may write too: 64 hex digits.

        `kind` is what it is, such as "receipt": a signature of one kind is none of another.
        """
        message = f"{len(kind)}:{kind}{text}"
        return hmac.new(self._evidence_key, message.encode("utf-8", "surrogatepass"), sha256).hexdigest()

    def entry_job_id(self, entry: str) -> str:
        """The job id of a stream's entry: always the same one, and nobody without the secret key can tell it."""
        return str(uuid5(self._entry_ids, entry))


def _derive(secret_key: str, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret_key.encode())
