"""The documents that callers may name: each kind of source by the scheme of its addresses.

Documents in our own care are never named by an address: `documents` reads them by their job's id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from config.roots import BucketRoot, FileRoot
from config.settings import Settings
from config.types import read_proxy
from tasks.sources.base import Located, OpenParts, OpenSource, Store, invalid
from tasks.sources.files import Files
from tasks.sources.objects import Objects, S3Connection


class Sources:
    """The sources that one producer may name. Build them once per process."""

    def __init__(self, files: Files, objects: Objects) -> None:
        self.files = files
        self.objects = objects
        self._stores: Mapping[str, Store] = {"file": files, "s3": objects}

    @classmethod
    def of(
        cls,
        settings: Settings,
        file_roots: Iterable[FileRoot],
        s3_buckets: Iterable[BucketRoot],
        connection: S3Connection | None = None,
    ) -> Sources:
        """What lies in these folders and buckets."""
        roots, buckets = tuple(file_roots), tuple(s3_buckets)
        return cls(
            Files(
                [root.path for root in roots],
                [root.path for root in roots if root.delete],
                private=settings.data_dir,
            ),
            Objects(
                [bucket.name for bucket in buckets],
                settings.s3.endpoint_url,
                read_proxy(settings.proxy),
                removable=[bucket.name for bucket in buckets if bucket.delete],
                private=settings.s3.stage_inbox,
                connection=connection,
            ),
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

    def check_removable(self, source: str) -> None:
        """Raises DocumentRefused (`source_not_allowed`) where callers may not have their sources removed."""
        self._store(source).check_removable(source)

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
