"""A document's digests, for providers that are told of them before the bytes."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from tasks.providers.base import DocumentGate
from tasks.sources.stream import HashingReader
from tasks.sources.whole import HEAD_BYTES


@dataclass(frozen=True, slots=True)
class Digests:
    """Of a document's bytes. FHIR's Attachment has the SHA-1; the SHA-256 shows whether the document changes meanwhile.

    `sha256` and `md5` are in hexadecimal. `head` is the beginning of the document.
    """

    sha1: bytes
    sha256: str
    md5: str
    head: bytes

    @property
    def attachment_hash(self) -> str:
        """As FHIR's Attachment.hash has it: base64 of the SHA-1 of the raw bytes."""
        return base64.b64encode(self.sha1).decode()

    @classmethod
    def of(cls, gate: DocumentGate) -> Digests:
        """Reads the document once. Raises DocumentRefused, RetryLater and LeaseLost."""
        sha1, head = hashlib.sha1(usedforsecurity=False), b""
        with gate.open() as source:
            reader = HashingReader(source, gate.check)
            for block in reader:
                sha1.update(block)
                head = head or block[:HEAD_BYTES]
            return cls(sha1.digest(), reader.sha256, reader.md5, head)
