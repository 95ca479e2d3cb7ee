"""The bytes of a job's document, wherever its source keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tasks.model.document import Document
from tasks.sources.base import OpenSource
from tasks.sources.sources import Sources

_BLOCK_BYTES = 1024 * 1024


class Documents:
    """Opens documents of jobs: those that callers name, and those that we have staged ourselves."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources

    def open(self, document: Document) -> OpenSource:
        """A fresh stream of the document. Raises DocumentRefused (missing, changed) and RetryLater."""
        return self.sources.open(document.source, document.identity)

    def sha256(self, document: Document, check: Callable[[], None] = lambda: None) -> str:
        """The digest of the document as it lies there now. `check` is called at every block and may raise.

        Raises DocumentRefused and RetryLater.
        """
        with self.open(document) as source:
            return _sha256(source, check)

    def sha256_at(self, address: str) -> str:
        """The digest of what lies at a source's address now. Raises DocumentRefused and RetryLater."""
        with self.sources.open(address, self.sources.locate(address).identity) as source:
            return _sha256(source, lambda: None)


def _sha256(source: OpenSource, check: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    while block := source.read(_BLOCK_BYTES):
        check()
        digest.update(block)
    return digest.hexdigest()
