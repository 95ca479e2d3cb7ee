"""A downloaded file on disk: it gets its name once it is whole, and nobody but its owner can read it."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.folders.durable import move_new, sync_folder

_MODE = 0o600
# What a file system says that knows no files without names; old kernels take the request for one to open the folder.
_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)


class SavedFile:
    """A file that is being written. A context manager: what is not kept by its end is gone.

    Where the file system can, it has no name until it is kept, so that a kill leaves nothing of it. Else it is a hidden
    file beside its place, called `.<name>.<letters>.part`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")

    def __enter__(self) -> Self:
        try:
            self._file, self._unnamed = os.open(self.path.parent, os.O_TMPFILE | os.O_WRONLY, _MODE), True
        except OSError as error:
            if error.errno not in _NO_UNNAMED_FILES:
                raise
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self._file, self._unnamed = os.open(self._draft, flags, _MODE), False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)
        with suppress(FileNotFoundError):
            self._draft.unlink()

    def take(self, block: bytes) -> None:
        """Write the next block."""
        left = memoryview(block)
        while left:
            left = left[os.write(self._file, left) :]
        self.size_bytes += len(block)
        self._sha256.update(block)
        self._md5.update(block)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()

    def keep(self, *, replace: bool) -> None:
        """Give the file its name, durably. Raises FileExistsError if the name is taken, unless it is to `replace`."""
        os.fsync(self._file)
        if self._unnamed:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                # With a folder's descriptor, or Python would link the symlink in /proc itself.
                os.link(f"/proc/self/fd/{self._file}", self._draft.name, src_dir_fd=folder, dst_dir_fd=folder)
            finally:
                os.close(folder)
        if replace:
            self._draft.replace(self.path)
            sync_folder(self.path.parent)
        else:
            move_new(self._draft, self.path, self._draft)
