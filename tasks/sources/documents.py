"""The bytes and the digest of a job's document, whichever source holds it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.sources.base import NoParts, OpenSource
from tasks.sources.files import path_of
from tasks.sources.sources import Sources
from tasks.sources.whole import Examination, examine
from tasks.sources.writers import Writers

_BLOCK_BYTES = 1024 * 1024


class Documents:
    """Opens the documents of jobs: those that callers name, and those that we staged ourselves."""

    def __init__(self, sources: Sources, writers: Writers) -> None:
        self.sources = sources
        self._writers = writers

    def open(self, document: Document) -> OpenSource:
        """A fresh stream of the document. Raises DocumentRefused (missing, changed) and RetryLater."""
        with _blaming_the_settings(document):
            return self.sources.open(document.source, document.identity)

    def examine(self, document: Document) -> Examination:
        """What a few short reads tell of the document. Raises DocumentRefused (missing, changed) and RetryLater."""
        with (
            suppress(NoParts),
            _blaming_the_settings(document),
            self.sources.parts(document.source, document.identity) as parts,
        ):
            return examine(parts)
        return Examination(None, b"")

    def has_writer(self, document: Document) -> bool:
        """True if a program has a caller's file open for writing, as far as that can be known."""
        if not document.source.lower().startswith("file:"):
            return False
        with suppress(OSError, DocumentRefused):
            return self._writers.has_writer(Path(path_of(document.source)))
        return False

    def sha256(self, document: Document, check: Callable[[], None] = lambda: None) -> str:
        """The digest of the document as it is now. Calls `check` at every block; it may raise.

        Raises DocumentRefused and RetryLater.
        """
        with _blaming_the_settings(document):
            return self._sha256(document.source, document.identity, check)

    def sha256_at(self, address: str) -> str:
        """The digest of whatever is at this address now. Raises DocumentRefused and RetryLater."""
        return self._sha256(address, self.sources.locate(address).identity, lambda: None)

    def _sha256(self, address: str, identity: str, check: Callable[[], None]) -> str:
        digest = hashlib.sha256()
        with self.sources.open(address, identity) as source:
            while block := source.read(_BLOCK_BYTES):
                # It raises once another worker holds the job: a large document is then not read to its end for nothing.
                check()
                digest.update(block)
        return digest.hexdigest()


@contextmanager
def _blaming_the_settings(document: Document) -> Iterator[None]:
    """Raises RetryLater for a document of our own that may not be read: the settings are at fault, not the document."""
    try:
        yield
    except DocumentRefused as refused:
        staged = document.door.has_folder and document.source.startswith("s3://")
        if staged and refused.code is Code.SOURCE_NOT_ALLOWED:
            raise RetryLater(f"The staged copy cannot be read: {refused.message} {refused.hint}") from None
        raise
