"""Writing and moving files so that a kill leaves the old state or the new one, and nothing is ever overwritten.

Three rules make that so, and every function here follows them:

1.  Content is synced before it gets its name. A disk may write the name first: after a power cut the file would then
    stand there, empty.
2.  The folder is synced after a name was given, and before the ledger is told of the file: until then a power cut may
    lose the name.
3.  A name is taken by a hard link. A link fails if the name is taken, a rename would silently overwrite what is there.

A *draft* is a hidden file in which content grows until it gets its own name. The caller gives its place, always the
same for one job: a repetition after a kill begins with the same draft, and leaves no second one.

Places are paths through folders of ours, or names in open folders (`sources.entries`).
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from tasks.sources.entries import READ_FLAGS, Entry, Place, entry

# FAT and some network shares have no hard links; Linux also refuses them for files of other owners
# (fs.protected_hardlinks), such as those that a file server puts into an inbox.
_NO_HARD_LINKS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
_COPY_BYTES = 1 << 20

DOCUMENT_MODE = 0o640
"""Of documents in delivered/ and failed/, and of what stands beside them."""


class ChangedMeanwhile(Exception):
    """A file is not the one that was seen before, or was written to since."""


class StillWritten(ChangedMeanwhile):
    """Another program has the file open for writing."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Stays the same as long as a file is the same and unchanged. Time in nanoseconds since the epoch."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    @classmethod
    def at(cls, place: Place) -> Self:
        """Of the file itself, not of what a symlink leads to."""
        return cls.of(entry(place).status())


def make_folder(path: Path, mode: int) -> None:
    """Make a folder and those above it, each durable in its parent. Raises NotADirectoryError."""
    if path.is_dir():
        return
    if os.path.lexists(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    make_folder(path.parent, mode)
    path.mkdir(mode, exist_ok=True)  # another process may have been faster
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder of ours durable, if the file system can."""
    entry(path / "any").sync_folder()


def replace(place: Place, content: bytes, draft: Place, mode: int) -> None:
    """Give `place` this content, durably, whether it existed or not."""
    with _new_draft(draft, mode) as file:
        file.write(content)
    # A rename, since here the old content is to go. A reader sees the old file or the new one, never half of it.
    entry(draft).rename(entry(place))
    entry(place).sync_folder()


def write_new(place: Place, content: bytes, draft: Place, mode: int) -> None:
    """Write a file that was not there, durably. Raises FileExistsError."""
    with _new_draft(draft, mode) as file:
        file.write(content)
    try:
        entry(draft).link(entry(place))
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # Write under the name itself. A kill here leaves half a file under it, and the next try takes another name.
        with _new_file(entry(place), mode) as file:
            file.write(content)
    finally:
        entry(draft).unlink(missing_ok=True)
    entry(place).sync_folder()


def move_new(source: Place, target: Place, draft: Place) -> None:
    """Move a regular file, durably, to a name that is free or already its own; also to another file system.

    A kill may leave it under both names: repeat the call. Raises FileExistsError if other content has the name.
    """
    old, new = entry(source), entry(target)
    try:
        old.link(new)
    except FileExistsError:
        # Ours already, if an earlier try was killed after the link, or after the copy to another file system.
        if not same_content(old, new):
            raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            copy(old, draft)
            move_new(draft, new, draft)  # now within one file system
        elif error.errno in _NO_HARD_LINKS:
            _rename_to_free_name(old, new)
        else:
            raise
    # The new name must be durable before the old one goes: in between, a power cut could lose both.
    new.sync_folder()
    old.unlink(missing_ok=True)


def copy(source: Place, draft: Place) -> FileIdentity:
    """Copy a regular file into a draft, durably, with its times. Returns the identity of what was copied.

    Raises OSError (ELOOP for a symlink), and ChangedMeanwhile if the file was written to while it was read.
    """
    with os.fdopen(entry(source).open(READ_FLAGS), "rb") as file:
        return copy_stream(file, draft)


def copy_stream(file: BinaryIO, draft: Place) -> FileIdentity:
    """Copy an open file as `copy` does."""
    before = os.fstat(file.fileno())
    # With a mode of ours, whatever the original's owner allows.
    with _new_draft(draft, DOCUMENT_MODE) as copied:
        shutil.copyfileobj(file, copied, _COPY_BYTES)
        copied.flush()  # a write after `utime` would set the time again
        os.utime(copied.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
        copied_bytes = copied.tell()
    identity = FileIdentity.of(before)
    if FileIdentity.of(os.fstat(file.fileno())) != identity or copied_bytes != identity.size_bytes:
        raise ChangedMeanwhile("The file was written to while it was being copied.")
    return identity


def same_content(source: Place, target: Place) -> bool:
    """True if both names are one file, or a file and its complete copy on another file system."""
    with suppress(FileNotFoundError):
        old, new = entry(source), entry(target)
        source_status, target_status = old.status(), new.status()
        if os.path.samestat(source_status, target_status):
            return True
        regular = stat.S_ISREG(source_status.st_mode) and stat.S_ISREG(target_status.st_mode)
        if regular and source_status.st_size == target_status.st_size:
            return _same_bytes(old, new)
    return False


def _same_bytes(one: Entry, other: Entry) -> bool:
    with os.fdopen(one.open(READ_FLAGS), "rb") as first, os.fdopen(other.open(READ_FLAGS), "rb") as second:
        while block := first.read(_COPY_BYTES):
            if block != second.read(_COPY_BYTES):
                return False
        return not second.read(1)


@contextmanager
def _new_draft(draft: Place, mode: int) -> Iterator[BinaryIO]:
    """As `_new_file`, in place of a draft that a kill may have left."""
    # Removed and not truncated: the old draft may have got its name already, and would be emptied under it.
    entry(draft).unlink(missing_ok=True)
    with _new_file(entry(draft), mode) as file:
        yield file


@contextmanager
def _new_file(place: Entry, mode: int) -> Iterator[BinaryIO]:
    """A new file to write into, whose content is durable when the block ends. Raises FileExistsError."""
    with os.fdopen(place.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _rename_to_free_name(source: Entry, target: Entry) -> None:
    """Rename without overwriting where there are no hard links. Raises FileExistsError."""
    if not stat.S_ISREG(source.status().st_mode):
        # Not a document: somebody has put a folder or a link in its place. A folder cannot replace an empty file.
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        source.rename(target)
        return
    # O_EXCL takes the name or fails, as a link would; the rename then replaces our own empty file.
    # A kill between the two leaves that empty file: `CompanionFolder.put` removes it.
    os.close(target.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        source.rename(target)
    except OSError:
        target.unlink()
        raise
