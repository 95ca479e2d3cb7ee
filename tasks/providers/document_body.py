"""A document as the body of a request to a provider's own API, in constant memory: raw, or in base64 inside JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

from tasks.http.api import Body
from tasks.model.document import Document
from tasks.model.job import Stored
from tasks.providers.base import DocumentGate
from tasks.providers.media_types import media_type
from tasks.sources.stream import HashingReader, base64_length, changed_while_sending


class DocumentBody:
    """Makes the body. A request that is made again opens the document again; the digests are those of the last time.

    With `expected_sha256` the last bytes leave only if the document still has that digest.
    """

    def __init__(self, document: Document, gate: DocumentGate, *, expected_sha256: str = "") -> None:
        self._document = document
        self._gate = gate
        self._expected_sha256 = expected_sha256
        self._reader: HashingReader | None = None

    def raw(self) -> Body:
        return Body(media_type(self._document), self._document.size_bytes, lambda: self._read(iter))

    def in_json(self, content_type: str, resource_with: Callable[[str], dict[str, Any]]) -> Body:
        """The JSON of `resource_with(data)`, where `data` is the document in base64."""
        # The JSON is made with a placeholder and cut there, so its length is known before the document is read.
        placeholder = uuid4().hex
        text, _, rest = json.dumps(resource_with(placeholder)).partition(placeholder)
        head, tail = text.encode(), rest.encode()

        def blocks() -> Iterator[bytes]:
            yield head
            yield from self._read(HashingReader.base64)
            yield tail

        return Body(content_type, len(head) + base64_length(self._document.size_bytes) + len(tail), blocks)

    def stored(self, key: str, location: str | None = None) -> Stored:
        """What was sent, and where it is now. Only for a request that has succeeded."""
        assert self._reader is not None  # noqa: S101, an answer of success comes after the whole document
        return Stored(key, None, False, self._reader.sha256, self._reader.md5, location=location)

    def _read(self, blocks: Callable[[HashingReader], Iterator[bytes]]) -> Iterator[bytes]:
        with self._gate.open() as source:
            self._reader = HashingReader(source, self._gate.check)
            yield from blocks(self._reader)
        if self._expected_sha256 not in ("", self._reader.sha256):
            raise changed_while_sending()
