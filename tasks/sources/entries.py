"""Names in open folders. People who may write to a folder may swap one below it for a link at any moment.

A path is followed anew by every system call, so that between two of them it may lead elsewhere. So folders that others
may write to are opened step by step from one that only its administrator can change, without following a link; and what
lies in them is reached by its name and the open folder. Whatever is swapped then, the open folder stays what it was.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# NOFOLLOW: a link could show us any file of this machine. NONBLOCK: opening a pipe would wait for a writer. NOCTTY:
# opening a terminal would make it this process's.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Some network shares cannot sync a folder; there we must trust them to keep a name once it is given.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF)


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in an open folder. Without `folder`, a path that leads through folders of ours alone."""

    name: str
    folder: int | None = None

    def status(self) -> os.stat_result:
        """Of the entry itself, not of what a link leads to."""
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)

    def exists(self) -> bool:
        """True for a link too, wherever it leads."""
        with suppress(FileNotFoundError, NotADirectoryError):
            self.status()
            return True
        return False

    def is_file(self) -> bool:
        """True for a regular file."""
        with suppress(FileNotFoundError, NotADirectoryError):
            return stat.S_ISREG(self.status().st_mode)
        return False

    def open(self, flags: int = READ_FLAGS, mode: int = 0o600) -> int:
        return os.open(self.name, flags | os.O_CLOEXEC, mode, dir_fd=self.folder)

    def rename(self, target: Entry) -> None:
        """Overwrites what has the name."""
        os.rename(self.name, target.name, src_dir_fd=self.folder, dst_dir_fd=target.folder)

    def link(self, target: Entry) -> None:
        """Raises FileExistsError if the name is taken."""
        # A link stays a link: by default Python would make the name one of the file that it leads to.
        os.link(self.name, target.name, src_dir_fd=self.folder, dst_dir_fd=target.folder, follow_symlinks=False)

    def unlink(self, *, missing_ok: bool = False) -> None:
        try:
            os.unlink(self.name, dir_fd=self.folder)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def beside(self, name: str) -> Entry:
        """Another name in the same folder."""
        return Entry(name, self.folder) if self.folder is not None else entry(Path(self.name).with_name(name))

    def sync_folder(self) -> None:
        """Make the names in its folder durable, if the file system can."""
        if self.folder is not None:
            _sync(self.folder)
            return
        folder = os.open(Path(self.name).parent, _FOLDER)
        try:
            _sync(folder)
        finally:
            os.close(folder)


Place: TypeAlias = Path | Entry
"""Where a file is: a name in an open folder, or a path through folders of ours alone."""


def entry(place: Place) -> Entry:
    return place if isinstance(place, Entry) else Entry(os.fspath(place))


class OpenFolder:
    """An open folder. `path` is where it was found: for people, and for other processes."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        os.close(self.descriptor)

    @classmethod
    def of(cls, path: Path) -> Self:
        """A folder that only its administrator can change: its path may hold links. Raises OSError."""
        return cls(os.open(path, _FOLDER), path)

    def enter(self, name: str) -> OpenFolder:
        """A folder in this one. Raises FileNotFoundError, and NotADirectoryError for a link, wherever it leads."""
        try:
            descriptor = os.open(one_name(name), _FOLDER | os.O_NOFOLLOW, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
            raise
        return OpenFolder(descriptor, self.path / name)

    def make(self, name: str, mode: int) -> OpenFolder:
        """A folder in this one, which is made durably if it is missing. Raises NotADirectoryError."""
        with suppress(FileNotFoundError):
            return self.enter(name)
        with suppress(FileExistsError):  # another process may have been faster
            os.mkdir(one_name(name), mode, dir_fd=self.descriptor)
        _sync(self.descriptor)
        return self.enter(name)

    def entry(self, name: str) -> Entry:
        return Entry(one_name(name), self.descriptor)


@contextmanager
def opened_below(root: Path, folder: Path, *, make: int | None = None) -> Iterator[OpenFolder]:
    """A folder below `root`, reached without following a link below it. `make` is the mode of those that are missing.

    Raises ValueError for a path that is not below `root`, FileNotFoundError, and NotADirectoryError for a link.
    """
    names = folder.relative_to(root).parts
    current = OpenFolder.of(root)
    try:
        for name in names:
            following = current.enter(name) if make is None else current.make(name, make)
            os.close(current.descriptor)
            current = following
        yield current
    finally:
        os.close(current.descriptor)


def one_name(name: str) -> str:
    """Raises ValueError for a name that would lead elsewhere."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("this cannot be the name of one file or folder")
    return name


def _sync(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
