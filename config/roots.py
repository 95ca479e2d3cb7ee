"""The folders and buckets from which callers' documents are taken, and what such a folder must not be."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from config.types import AbsolutePath, Bucket, Section

OUR_FOLDERS = ("inbox", "processing", "delivered", "failed", "valkey", "commits", "retention")
"""The folders below `data_dir`. One of them may be mounted elsewhere a second time."""


class FileRoot(Section):
    """A folder from which file:// sources are accepted."""

    path: AbsolutePath
    delete: bool = False  # whether a caller may have its source removed after delivery


class BucketRoot(Section):
    """A bucket from which s3:// sources are accepted."""

    name: Bucket
    delete: bool = False  # as above


# A plain text is the folder or bucket alone.
AnyFileRoot = Annotated[FileRoot, BeforeValidator(lambda value: {"path": value} if _is_plain(value) else value)]
AnyBucketRoot = Annotated[BucketRoot, BeforeValidator(lambda value: {"name": value} if _is_plain(value) else value)]


def _is_plain(value: object) -> bool:
    return not isinstance(value, (dict, Section))


def why_not_apart(root: Path, folder: Path) -> str | None:
    """How a root touches a folder of ours: "is", "holds" or "lies in". None if neither is reached through the other.

    Symlinks are followed. A folder that is mounted a second time elsewhere is recognised by its inode.
    """
    outer, inner = _real(root), _real(folder)
    if outer == inner or _same(outer, inner):
        return "is"
    if inner.is_relative_to(outer) or any(_same(outer, parent) for parent in inner.parents):
        return "holds"
    ours = [inner, *(inner / name for name in OUR_FOLDERS)]
    inside = outer.is_relative_to(inner) or any(_same(place, our) for place in (outer, *outer.parents) for our in ours)
    return "lies in" if inside else None


def holds(root: Path, file: Path) -> bool:
    """True if the file lies below the root, also through symlinks: by its name, or by where its name leads."""
    outer = _real(root)
    return any(place == outer or _same(place, outer) for named in _names(file) for place in (named, *named.parents))


def _names(file: Path) -> Iterator[Path]:
    yield _real(file.parent) / file.name
    yield _real(file)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there, or may not be looked at
        return False
