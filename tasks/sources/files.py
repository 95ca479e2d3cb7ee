"""`file://` sources: regular files strictly inside the allowed folders, whatever symlinks lie on the way."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote_from_bytes, unquote_to_bytes

from tasks.model.errors import DocumentRefused, RetryLater, StageError
from tasks.sources.base import Located, changed, empty, invalid, irregular, missing, not_allowed

_ADDRESS = re.compile(r"file://(?:localhost)?(/[^?#]*)", re.IGNORECASE)
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Without following a last symlink, and without waiting for a writer at the other end of a FIFO.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def file_address(path: str | bytes | os.PathLike[str]) -> str:
    """The `file://` address of an absolute path (RFC 8089); names that are not valid UTF-8 survive."""
    return "file://" + quote_from_bytes(os.fsencode(path))


def path_of(address: str) -> str:
    """The path in a `file://` address of this machine. Raises DocumentRefused (invalid_request)."""
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
        """Size and identity of a file that is there, regular, readable, and not empty."""
        path = path_of(address)
        with self._open(path) as file:
            if not file.size:
                raise empty()
            return Located(file.size, file.identity, os.path.basename(path))  # noqa: PTH119 (paths are text here)

    def open(self, address: str, identity: str) -> OpenFile:
        file = self._open(path_of(address))
        if file.identity != identity:
            file.close()
            raise changed()
        return file

    def remove(self, address: str, identity: str) -> bool:
        """Remove the file if it still is what was located; one that is gone already counts as removed."""
        path = self._real(path_of(address))
        with _translated():
            try:
                if _identity(os.lstat(path)) != identity:
                    return False
                os.unlink(path)  # noqa: PTH108
            except FileNotFoundError:
                pass
        return True

    def _open(self, path: str) -> OpenFile:
        real = self._real(path)
        with _translated():
            descriptor = os.open(real, _FLAGS)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise irregular(_kind(status.st_mode))
            # The folders may have been swapped between the check and the opening: what counts is what was opened.
            self._check(_opened_path(descriptor, real, status))
        except BaseException:
            os.close(descriptor)
            raise
        return OpenFile(descriptor, real, status.st_size, _identity(status))

    def _real(self, path: str) -> str:
        """The path with its folders' symlinks resolved, if it lies inside a root; its last part may still be one."""
        folder, name = os.path.split(path)
        if name in ("", ".", ".."):
            raise irregular("a folder")
        real = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118
        self._check(real)
        return real

    def _check(self, real: str) -> None:
        if not any(_within(real, os.path.realpath(root)) for root in self._roots):
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
        self.close()

    def close(self) -> None:
        os.close(self.descriptor)

    def read(self, count: int) -> bytes:
        with _translated():
            return os.read(self.descriptor, count)

    def unchanged(self) -> bool:
        """Whether neither the open file has changed nor another one stands in its place."""
        try:
            return self.identity == _identity(os.fstat(self.descriptor)) == _identity(os.lstat(self.path))
        except OSError:
            return False


def _identity(status: os.stat_result) -> str:
    # Without the device: its number differs from machine to machine, and after a reboot.
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _within(path: str, root: str) -> bool:
    return path.startswith(root.rstrip("/") + "/")


def _opened_path(descriptor: int, path: str, status: os.stat_result) -> str:
    """Where the opened file really is: Linux knows; elsewhere the path is resolved and must lead to the same file."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
    except OSError:
        real = os.path.realpath(path)
    with _translated():
        if not os.path.samestat(os.stat(real), status):  # noqa: PTH116
            raise changed()
    return real


# --- what went wrong -------------------------------------------------------------------------------------------------

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "something else")


_NOT_READABLE = not_allowed("The worker may not read the file.", "Give the worker's user permission to read it.")

_MEANINGS: Mapping[int, DocumentRefused] = {
    errno.ENOENT: missing(),
    errno.ENOTDIR: missing(),
    errno.ENAMETOOLONG: missing(),
    errno.ELOOP: irregular("a symlink"),
    errno.ENXIO: irregular("a socket"),
    errno.EACCES: _NOT_READABLE,
    errno.EPERM: _NOT_READABLE,
}


@contextmanager
def _translated() -> Iterator[None]:
    """The system's errors as ours, which do not name the file."""
    try:
        yield
    except OSError as error:
        raise _meaning(error) from None


def _meaning(error: OSError) -> StageError:
    known = _MEANINGS.get(error.errno or 0)
    if known is None:
        return RetryLater(f"The file cannot be read at the moment ({errno.errorcode.get(error.errno or 0, '?')}).")
    return DocumentRefused(known.code, known.message, hint=known.hint)
