"""How much room there is on the disks that hold our folders, and whether anything can still be written there."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Of a write: the disk takes nothing, whatever the rights are."""

_LEAST_BYTES = 200_000_000
_TEST_BYTES = 4096  # a block: an empty file, or a tiny one, may still fit where nothing else does


def disk_folders(data_dir: Path) -> dict[str, Path]:
    """Our folders by the names that metrics show; any of them may be on a disk of its own. `valkey` is the embedded
    server's.
    """
    names = ("inbox", "processing", "delivered", "failed", "valkey")
    return {"data_dir": data_dir, **{name: data_dir / name for name in names}}


def needed_bytes(max_bytes: Iterable[int]) -> int:
    """Below this the disk counts as too full. `max_bytes` are the largest documents that the accounts take."""
    # Two of the largest: one that is copied into processing/ while another one moves to delivered/.
    return max([_LEAST_BYTES, *(2 * largest for largest in max_bytes)])


def free_bytes(path: Path) -> int:
    """What this user may still write on the disk of `path`, or of the nearest folder above it that exists."""
    status = os.statvfs(nearest(path))
    return status.f_bavail * status.f_frsize


def try_write(folder: Path) -> None:
    """Write a small file, sync it and remove it. Raises OSError."""
    # Hidden, so that no watcher takes it for a document.
    path = folder / f".write-test-{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as file:
            file.write(bytes(_TEST_BYTES))
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)


def nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return path if path.exists() or path == path.parent else nearest(path.parent)
