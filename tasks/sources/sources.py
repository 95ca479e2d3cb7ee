"""The documents that callers may name, and those that we staged: each kind of source by the scheme of its addresses."""

from __future__ import annotations

from collections.abc import Mapping

from config.settings import Settings
from tasks.sources.base import Located, OpenParts, OpenSource, Store, invalid
from tasks.sources.files import Files
from tasks.sources.objects import Objects


class Sources:
    """All sources that the settings allow. Build one per process."""

    def __init__(self, files: Files, objects: Objects) -> None:
        self.files = files
        self.objects = objects
        self._stores: Mapping[str, Store] = {"file": files, "s3": objects}

    @classmethod
    def of(cls, settings: Settings, *, staged: bool = False) -> Sources:
        """The sources that callers may name; with `staged` also the bucket to which we stage documents ourselves."""
        # Callers must not be able to name staged objects: these are other people's documents.
        staging_bucket = [settings.s3.stage_inbox.removeprefix("s3://").partition("/")[0]] if staged else []
        return cls(
            Files((settings.data_dir, *settings.file_roots)),
            Objects([*settings.s3_buckets, *staging_bucket], settings.s3.endpoint_url),
        )

    def locate(self, source: str) -> Located:
        """The document that is there now; keep its identity for `open` and `remove`.

        Raises DocumentRefused and RetryLater.
        """
        return self._store(source).locate(source)

    def open(self, source: str, identity: str) -> OpenSource:
        """A fresh stream of what was located, for a `with` block.

        Raises DocumentRefused (`file_changed` and others) and RetryLater.
        """
        return self._store(source).open(source, identity)

    def parts(self, source: str, identity: str) -> OpenParts:
        """For short reads of what was located, for a `with` block. Reads raise NoParts, too.

        Raises DocumentRefused (`file_changed` and others) and RetryLater.
        """
        return self._store(source).parts(source, identity)

    def remove(self, source: str, identity: str) -> bool:
        """Remove what was located; False if something else is there now, which stays."""
        return self._store(source).remove(source, identity)

    def _store(self, source: str) -> Store:
        scheme, separator, _ = source.partition("://")
        # Schemes are case-insensitive (RFC 3986, 3.1).
        store = self._stores.get(scheme.lower()) if separator else None
        if store is None:
            raise invalid("The source is neither a file nor an S3 object.")
        return store
