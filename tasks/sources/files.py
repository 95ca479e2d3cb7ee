"""`file://` sources: regular files inside the allowed folders, whatever symlinks somebody puts on the way."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import unquote_to_bytes

from config.roots import OUR_FOLDERS
from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.sources.base import Located, changed, empty, invalid, irregular, missing, not_allowed, not_removable
from tasks.sources.entries import READ_FLAGS, Place, entry

_ADDRESS = re.compile(r"file://(?:localhost)?(/[^?#]*)", re.IGNORECASE)
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# PATH: folders need only be searchable, not readable.
_FOLDER_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 3  # a sender may put a new folder in the place of an old one at just that moment


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
    """Files inside `roots`. What lies in one of `removable`, which are roots too, may be removed.

    Nothing of `private`, our own `data_dir`, is ever opened, even where it is mounted inside a root. A file with
    several names (hard links) is taken only with `hard_links`.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        removable: Sequence[Path] = (),
        *,
        private: Path | None = None,
        hard_links: bool | None = None,
    ) -> None:
        self._removable = tuple(removable)
        self._roots = (*roots, *self._removable)
        self._private = [private, *(private / name for name in OUR_FOLDERS)] if private else []
        self._hard_links = _links_are_guarded() if hard_links is None else hard_links

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

    def check_removable(self, address: str) -> None:
        folder, _ = _split(address)
        try:
            _root_of(_resolved(folder), self._removable)
        except (DocumentRefused, _Swapped):
            raise not_removable("file_roots", "{path = ..., delete = true}") from None

    def remove(self, address: str, identity: str) -> bool:
        self.check_removable(address)
        try:
            with self._folder(address, self._removable) as (folder, name, _), _translated():
                # A sender may replace the file between these two lines; no system call removes a file by its identity.
                if identity_of(os.stat(name, dir_fd=folder, follow_symlinks=False)) != identity:
                    return False
                os.unlink(name, dir_fd=folder)
        except DocumentRefused as refused:
            if refused.code is not Code.FILE_MISSING:  # missing: an earlier try has removed it
                raise
        return True

    def _open(self, address: str) -> OpenFile:
        with self._folder(address, self._roots) as (folder, name, path), _translated():
            descriptor = os.open(name, READ_FLAGS, dir_fd=folder)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise irregular(_KINDS.get(stat.S_IFMT(status.st_mode), "something else"))
            if status.st_nlink > 1 and not self._hard_links:
                raise not_allowed(
                    "The file has a second name (a hard link), which may lie in a folder that is not the sender's.",
                    "Send a copy of it.",
                )
        except BaseException:
            os.close(descriptor)
            raise
        return OpenFile(descriptor, path, status.st_size, identity_of(status))

    @contextmanager
    def _folder(self, address: str, roots: Sequence[Path]) -> Iterator[tuple[int, str, str]]:
        """The folder of a file, open; the file's name in it; and the file's path without symlinks in its folders."""
        folder, name = _split(address)
        for _ in range(_TRIES):
            try:
                real = _resolved(folder)
                root = _root_of(real, roots)
                with _translated():
                    descriptor = self._walk(root, real)
            except _Swapped:
                continue
            try:
                yield descriptor, name, os.path.join(real, name)  # noqa: PTH118
            finally:
                os.close(descriptor)
            return
        raise not_allowed(
            "A folder in the file's path is replaced by a symlink again and again.",
            "Send the file from a folder that stays as it is.",
        )

    def _walk(self, root: str, folder: str) -> int:
        """Open a folder below `root` step by step from there. Raises _Swapped for a symlink, and OSError."""
        # Neither path has symlinks in it by now. Each step starts from the folder opened before it, so that nothing
        # which is put into the path meanwhile leads out of the root.
        private = self._private_folders()
        descriptor = os.open(root, _FOLDER_FLAGS)
        try:
            _check_not_private(descriptor, private)
            for part in filter(None, folder[len(root) :].split("/")):
                try:
                    inner = os.open(part, _FOLDER_FLAGS, dir_fd=descriptor)
                except OSError as error:
                    if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_symlink(part, descriptor):
                        raise _Swapped from None
                    raise
                os.close(descriptor)
                descriptor = inner
                _check_not_private(descriptor, private)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _private_folders(self) -> set[tuple[int, int]]:
        """Our own folders by device and inode, as they are now."""
        found = set()
        for path in self._private:
            with suppress(OSError):
                status = os.stat(path)  # noqa: PTH116
                found.add((status.st_dev, status.st_ino))
        return found


class _Swapped(Exception):
    """A folder in the path has become a symlink since its path was resolved."""


def _split(address: str) -> tuple[str, str]:
    """The folder and the name of a file. The name is not resolved: a file that is a symlink is refused when opened."""
    folder, name = os.path.split(path_of(address))
    if name in ("", ".", ".."):
        raise irregular("a folder")
    return folder, name


def _resolved(folder: str) -> str:
    try:
        return os.path.realpath(folder)
    except OSError:  # a symlink in it went away while it was read
        raise _Swapped from None


def _root_of(folder: str, roots: Sequence[Path]) -> str:
    """The root that holds this folder; both without symlinks. Raises DocumentRefused."""
    # Roots are resolved each time: an administrator may move one and leave a symlink while the worker runs.
    for root in map(os.path.realpath, roots):
        if f"{folder}/".startswith(root.rstrip("/") + "/"):
            return root
    raise not_allowed(
        "The file does not lie in a folder from which files are taken.",
        "Put it there, or add its folder to file_roots.",
    )


def _check_not_private(descriptor: int, private: Collection[tuple[int, int]]) -> None:
    """Raises DocumentRefused for a folder of ours that is mounted inside a root."""
    status = os.fstat(descriptor)
    if (status.st_dev, status.st_ino) in private:
        raise not_allowed("The file lies in data_dir, from which no caller's files are taken.", "Send your own file.")


def _is_symlink(name: str, folder: int) -> bool:
    with suppress(OSError):
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    return False


def _links_are_guarded() -> bool:
    """True if the kernel lets nobody make a second name for a file that they may not read and write anyway."""
    # proc(5), /proc/sys/fs/protected_hardlinks. Without it, whoever writes into a root could make a second name there
    # for any file on the same disk, and have chartpost read it.
    with suppress(OSError):
        return Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "1"
    return False


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


def open_place(place: Place) -> OpenFile:
    """A regular file, wherever it is. Raises DocumentRefused and RetryLater."""
    with _translated():
        descriptor = entry(place).open()
        status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise irregular(_KINDS.get(stat.S_IFMT(status.st_mode), "something else"))
    return OpenFile(descriptor, entry(place).name, status.st_size, identity_of(status))


def identity_of(status: os.stat_result) -> str:
    # Without the device: its number differs between machines that share a volume, and may change at a reboot.
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


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
