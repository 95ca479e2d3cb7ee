"""Writing and moving files so that a kill leaves the old state or the new one, and nothing is ever overwritten.

A *draft* is a file under a name of ours in which something grows until it gets its own name. Its path is given, not
made up, so that whoever repeats the step after a kill begins with the same draft and leaves no second one behind.
"""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

# FAT and some network shares have no hard links; Linux also refuses them for files of other owners
# (fs.protected_hardlinks), such as those that a file server puts into an inbox.
_NO_HARD_LINKS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF)
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What stays the same as long as a file is the same and unchanged. Time in nanoseconds since the epoch."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    @classmethod
    def at(cls, path: Path) -> Self:
        """Of the file itself, not of what a link points to."""
        return cls.of(path.lstat())


def make_folder(path: Path, mode: int) -> None:
    """Make a folder and those above it, each durable in its parent. Raises NotADirectoryError."""
    if path.is_dir():
        return
    if os.path.lexists(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    make_folder(path.parent, mode)
    path.mkdir(mode, exist_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, where the file system knows how to."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(folder)


def replace(path: Path, content: bytes, draft: Path, mode: int) -> None:
    """Give `path` this content, whatever it had before, durably."""
    with _drafted(draft, mode) as file:
        file.write(content)
    draft.rename(path)
    sync_folder(path.parent)


def write_new(path: Path, content: bytes, draft: Path, mode: int) -> None:
    """Write a file that was not there, durably. Raises FileExistsError."""
    with _drafted(draft, mode) as file:
        file.write(content)
    try:
        path.hardlink_to(draft)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        with _synced(path, mode) as file:  # a kill here leaves a torn file of no use; the next try takes another name
            file.write(content)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def move_new(source: Path, target: Path, draft: Path) -> None:
    """Move a regular file, durably, to a name that is free or already its own; also to another file system.

    After a kill it may lie under both names: repeat the call. Raises FileExistsError if other content has the name.
    """
    try:
        target.hardlink_to(source)
    except FileExistsError:
        if not same_content(source, target):
            raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            copy(source, draft)
            move_new(draft, target, draft)
        elif error.errno in _NO_HARD_LINKS:
            _rename_new(source, target)
        else:
            raise
    sync_folder(target.parent)
    source.unlink(missing_ok=True)


def copy(source: Path, draft: Path) -> FileIdentity:
    """Copy a regular file into a draft, durably, with its times. Returns the identity of what was copied.

    Raises OSError (ELOOP for a link), and `ChangedMeanwhile` when the file was written to while we read it.
    """
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return copy_stream(file, draft)


def copy_stream(file: BinaryIO, draft: Path) -> FileIdentity:
    """Copy an open file as `copy` does."""
    before = os.fstat(file.fileno())
    with _drafted(draft, stat.S_IMODE(before.st_mode) | stat.S_IRUSR | stat.S_IWUSR) as copied:
        shutil.copyfileobj(file, copied, _COPY_BYTES)
        copied.flush()
        os.utime(copied.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
        length = copied.tell()
    identity = FileIdentity.of(before)
    if FileIdentity.of(os.fstat(file.fileno())) != identity or length != identity.size_bytes:
        raise ChangedMeanwhile("The file was written to while it was being copied.")
    return identity


def same_content(source: Path, target: Path) -> bool:
    """Whether both names stand for one file, or for a file and its finished copy on another file system."""
    with suppress(FileNotFoundError):
        one, other = source.lstat(), target.lstat()
        if os.path.samestat(one, other):
            return True
        regular = stat.S_ISREG(one.st_mode) and stat.S_ISREG(other.st_mode)
        return regular and filecmp.cmp(source, target, shallow=False)
    return False


class ChangedMeanwhile(Exception):
    """A file is no longer the one that was looked at before."""


@contextmanager
def _drafted(draft: Path, mode: int) -> Iterator[BinaryIO]:
    """As `_synced`, over what a kill may have left. That is removed and not truncated: it may have its name already."""
    draft.unlink(missing_ok=True)
    with _synced(draft, mode) as file:
        yield file


@contextmanager
def _synced(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A new file to write into, durable when the block ends. Raises FileExistsError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _rename_new(source: Path, target: Path) -> None:
    """Rename without overwriting where there are no links: an empty file of ours holds the name meanwhile."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        source.rename(target)
    except OSError:
        target.unlink()
        raise
