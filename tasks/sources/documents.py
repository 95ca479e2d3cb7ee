"""The bytes and the digest of a job's document, whichever source holds it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tasks.model.document import Document, Place
from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.sources.base import Located, NoParts, OpenParts, OpenSource
from tasks.sources.sources import Sources
from tasks.sources.whole import Examination, examine
from tasks.sources.writers import Writers

NOT_STAGING = "The document is staged to S3, and this worker's settings have no s3.stage_inbox."

_BLOCK_BYTES = 1024 * 1024


class OwnDocuments(Protocol):
    """Documents in our own care: each is found by its job's id, and no address leads to it."""

    def locate(self, job_id: str) -> Located: ...

    def open(self, job_id: str, identity: str) -> OpenSource: ...

    def parts(self, job_id: str, identity: str) -> OpenParts: ...


class Documents:
    """Opens the documents of jobs: with their senders, as far as these may name them, and in our own care.

    `sources_of` gives what a producer may name. `staged` is None unless `s3.stage_inbox` is set.
    """

    def __init__(
        self,
        sources_of: Callable[[str | None], Sources],
        in_folders: OwnDocuments,
        staged: OwnDocuments | None,
        writers: Writers,
    ) -> None:
        self._sources_of = sources_of
        self._in_folders = in_folders
        self._staged = staged
        self._writers = writers

    def open(self, job_id: str, document: Document) -> OpenSource:
        """A fresh stream of the document. Raises DocumentRefused (missing, changed) and RetryLater."""
        store, name = self._where(job_id, document)
        with _blaming_the_settings(job_id, document):
            return store.open(name, document.identity)

    def locate(self, job_id: str, document: Document) -> Located:
        """The document that is there now. Raises DocumentRefused and RetryLater."""
        store, name = self._where(job_id, document)
        with _blaming_the_settings(job_id, document):
            return store.locate(name)

    def remove_source(self, document: Document) -> bool:
        """Remove a document that lies with its sender; False if something else is there now, which stays.

        Raises DocumentRefused and RetryLater.
        """
        return self._sources_of(document.producer).remove(document.source, document.identity)

    def examine(self, job_id: str, document: Document) -> Examination:
        """What a few short reads tell of the document. Raises DocumentRefused (missing, changed) and RetryLater."""
        store, name = self._where(job_id, document)
        with (
            suppress(NoParts),
            _blaming_the_settings(job_id, document),
            store.parts(name, document.identity) as parts,
        ):
            return examine(parts)
        return Examination(None, b"")

    def has_writer(self, document: Document) -> bool:
        """True if a program has a caller's file open for writing, as far as that can be known."""
        if not document.source.lower().startswith("file:"):
            return False
        with (
            suppress(OSError, DocumentRefused, RetryLater),
            self._sources_of(document.producer).files.open(document.source, document.identity) as file,
        ):
            return self._writers.opened_has_writer(file.descriptor, Path(file.path))
        return False

    def sha256(self, job_id: str, document: Document, check: Callable[[], None] = lambda: None) -> str:
        """The digest of the document as it is now. Calls `check` at every block; it may raise.

        Raises DocumentRefused and RetryLater.
        """
        with self.open(job_id, document) as source, _blaming_the_settings(job_id, document):
            return sha256_of(source, check)

    def _where(self, job_id: str, document: Document) -> tuple[Sources | OwnDocuments, str]:
        """What opens the document, and the name by which it knows it. Raises DocumentRefused and RetryLater."""
        match document.place_of(job_id):
            case Place.FOLDER:
                return self._in_folders, job_id
            case Place.STAGED:
                if self._staged is None:
                    raise RetryLater(NOT_STAGING)
                return self._staged, job_id
            case Place.SENDER:
                return self._sources_of(document.producer), document.source


def sha256_of(source: OpenSource, check: Callable[[], None] = lambda: None) -> str:
    """The digest of what is left to be read. Raises RetryLater, and what `check` raises."""
    digest = hashlib.sha256()
    while block := source.read(_BLOCK_BYTES):
        # It raises once another worker holds the job: a large document is then not read to its end for nothing.
        check()
        digest.update(block)
    return digest.hexdigest()


@contextmanager
def _blaming_the_settings(job_id: str, document: Document) -> Iterator[None]:
    """Raises RetryLater for a document of our own that may not be read: the settings are at fault, not the document."""
    try:
        yield
    except DocumentRefused as refused:
        if document.place_of(job_id) is Place.STAGED and refused.code is Code.SOURCE_NOT_ALLOWED:
            raise RetryLater(f"The staged copy cannot be read: {refused.message} {refused.hint}") from None
        raise
