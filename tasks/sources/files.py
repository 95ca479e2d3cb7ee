"""`file://` sources: regular files inside the allowed folders, even if symlinks on the way lead elsewhere."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import unquote_to_bytes

from tasks.model.errors import DocumentRefused, RetryLater
from tasks.sources.base import Located, changed, empty, invalid, irregular, missing, not_allowed

_ADDRESS = re.compile(r"file://(?:localhost)?(/[^?#]*)", re.IGNORECASE)
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# NOFOLLOW: a symlink in the last place could lead out of the allowed folders. NONBLOCK: opening a FIFO would wait for
# a writer. NOCTTY: opening a terminal would make it this process's.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def path_of(address: str) -> str:
    """The path in a `file://` address of this machine. Raises DocumentRefused (`invalid_request`)."""
    match = _ADDRESS.fullmatch(address)
    if not match or _BROKEN_ESCAPE.search(match[1]):
        raise invalid("The source is not a file address of this machine.")
    try:
        path = unquote_to_bytes(match[1])
    except UnicodeEncodeError:
        raise invalid("The source holds characters that must be percent-encoded.") from None
    if b"\0" in path:
        raise invalid("The source is not a path.")
    return os.fsdecode(path)


class Files:
    """Files inside `roots`."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)

    def locate(self, address: str) -> Located:
        with self._open(address) as file:
            if not file.size:
                raise empty()
            return Located(file.size, file.identity, os.path.basename(file.path))  # noqa: PTH119 (paths are text here)

    def open(self, address: str, identity: str) -> OpenFile:
        file = self._open(address)
        if file.identity != identity:
            os.close(file.descriptor)
            raise changed()
        return file

    def parts(self, address: str, identity: str) -> OpenFile:
        return self.open(address, identity)

    def remove(self, address: str, identity: str) -> bool:
        path = self._allowed(address)
        with _translated():
            try:
                # A sender may replace the file between these two lines; no system call removes a file by its identity.
                if identity_of(os.lstat(path)) != identity:
                    return False
                os.unlink(path)  # noqa: PTH108
            except FileNotFoundError:  # an earlier try has removed it, and was killed before that was recorded
                pass
        return True

    def _allowed(self, address: str) -> str:
        """The path of an address, without symlinks in its folders, if it is inside a root."""
        folder, name = os.path.split(path_of(address))
        if name in ("", ".", ".."):
            raise irregular("a folder")
        # The last part is not resolved: a file that is a symlink is refused when it is opened.
        path = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118
        self._check_root(path)
        return path

    def _open(self, address: str) -> OpenFile:
        path = self._allowed(address)
        with _translated():
            descriptor = os.open(path, _FLAGS)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise irregular(_KINDS.get(stat.S_IFMT(status.st_mode), "something else"))
            # A folder may have become a symlink between the first check and the opening: check what was opened.
            self._check_root(_opened_path(descriptor, path, status))
        except BaseException:
            os.close(descriptor)
            raise
        return OpenFile(descriptor, path, status.st_size, identity_of(status))

    def _check_root(self, path: str) -> None:
        # Roots are resolved each time: an administrator may move one and leave a symlink while the worker runs.
        if not any(path.startswith(os.path.realpath(root).rstrip("/") + "/") for root in self._roots):
            raise not_allowed(
                "The file does not lie in a folder from which files are taken.",
                "Put it there, or add its folder to file_roots.",
            )


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file open for one attempt."""

    descriptor: int
    path: str
    size: int
    identity: str

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        os.close(self.descriptor)

    @property
    def remote(self) -> bool:
        return False

    def read(self, count: int) -> bytes:
        with _translated():
            return os.read(self.descriptor, count)

    def read_at(self, offset: int, count: int) -> bytes:
        """As for `whole.Parts`; `read` goes on where it was."""
        with _translated():
            return os.pread(self.descriptor, count, offset)

    def unchanged(self) -> bool:
        """True if the open file was not written to, and no other file has taken its place."""
        try:
            return self.identity == identity_of(os.fstat(self.descriptor)) == identity_of(os.lstat(self.path))
        except OSError:
            return False


def open_path(path: Path) -> OpenFile:
    """A regular file of ours, wherever it is. Raises DocumentRefused and RetryLater."""
    with _translated():
        descriptor = os.open(path, _FLAGS)
        status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise irregular(_KINDS.get(stat.S_IFMT(status.st_mode), "something else"))
    return OpenFile(descriptor, str(path), status.st_size, identity_of(status))


def identity_of(status: os.stat_result) -> str:
    # Without the device: its number differs between machines that share a volume, and may change at a reboot.
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _opened_path(descriptor: int, path: str, status: os.stat_result) -> str:
    """Where the opened file really is."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
    except OSError:
        # Not Linux: resolve the path again, and see that it leads to the same file.
        resolved = os.path.realpath(path)
    with _translated():
        if not os.path.samestat(os.stat(resolved), status):  # noqa: PTH116
            raise changed()
    return resolved


# --- errors ----------------------------------------------------------------------------------------------------------

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}

_not_readable = partial(
    not_allowed, "The worker may not read the file.", "Give the worker's user permission to read it."
)

_REFUSALS: Mapping[int, Callable[[], DocumentRefused]] = {
    errno.ENOENT: missing,
    errno.ENOTDIR: missing,
    errno.ENAMETOOLONG: missing,
    errno.ELOOP: partial(irregular, "a symlink"),  # because of NOFOLLOW
    errno.ENXIO: partial(irregular, "a socket"),  # sockets cannot be opened at all
    errno.EACCES: _not_readable,
    errno.EPERM: _not_readable,
}


@contextmanager
def _translated() -> Iterator[None]:
    """Raises DocumentRefused and RetryLater instead of an OSError."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        if number in _REFUSALS:
            raise _REFUSALS[number]() from None  # without the cause: its words name the file
        code = errno.errorcode.get(number, "?")
        # Anything else, such as EIO or ESTALE, is the disk's fault and not the document's.
        raise RetryLater(f"The file cannot be read at the moment ({code}).") from None
