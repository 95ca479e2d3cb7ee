"""Where documents are read from: files and S3 objects, a fresh stream for every attempt."""

from __future__ import annotations

from collections.abc import Mapping

from config.settings import Settings
from tasks.sources.base import Located, OpenSource, Store, invalid
from tasks.sources.files import Files
from tasks.sources.objects import Objects


class Sources:
    """All sources that the settings allow, by the scheme of their address. Build one per process."""

    def __init__(self, files: Files, objects: Objects) -> None:
        self.files = files
        self.objects = objects
        self._stores: Mapping[str, Store] = {"file": files, "s3": objects}

    @classmethod
    def of(cls, settings: Settings, *, staged: bool = False) -> Sources:
        """Those that the settings allow callers; with `staged` also where we stage documents ourselves."""
        stage = [settings.s3.stage_inbox.removeprefix("s3://").partition("/")[0]] if staged else []
        return cls(
            Files((settings.data_dir, *settings.file_roots)),
            Objects([*settings.s3_buckets, *stage], settings.s3.endpoint_url),
        )

    def locate(self, source: str) -> Located:
        """What is there now; keep its identity for `open` and `remove`. Raises DocumentRefused and RetryLater."""
        return self._store(source).locate(source)

    def open(self, source: str, identity: str) -> OpenSource:
        """A fresh stream of what was located, to be used in a `with` block.

        Raises DocumentRefused (file_changed and others) and RetryLater.
        """
        return self._store(source).open(source, identity)

    def remove(self, source: str, identity: str) -> bool:
        """Remove what was located; False if something else stands there now, which stays."""
        return self._store(source).remove(source, identity)

    def _store(self, source: str) -> Store:
        scheme, colon, _ = source.partition("://")
        store = self._stores.get(scheme.lower()) if colon else None
        if store is None:
            raise invalid("The source is neither a file nor an S3 object.")
        return store
