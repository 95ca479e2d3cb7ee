"""Tells before trying whether this process may read a file and take it out of its folder."""

from __future__ import annotations

import os
import stat

from worker.inbox.filter import Reason


class FolderRights:
    """The rights to one open folder, looked up once for all files in it. `user_id` is who we are."""

    def __init__(self, folder: int, status: os.stat_result, user_id: int) -> None:
        self._folder = folder
        self._user_id = user_id
        # With the sticky bit only the owner of the file or of the folder may move a file; root always may.
        self._sticky = bool(status.st_mode & stat.S_ISVTX) and user_id not in (0, status.st_uid)
        # Nothing can be moved on a disk that is mounted read-only; that is a fault of the whole inbox, found by trying.
        self._writable = _may(folder, ".", os.W_OK | os.X_OK) or _is_read_only(folder)

    @classmethod
    def of(cls, folder: int) -> FolderRights:
        """Raises OSError."""
        return cls(folder, os.fstat(folder), os.geteuid())

    def why_held(self, name: str, status: os.stat_result) -> Reason | None:
        """Why a file of this folder cannot be taken; None if it can. `status` is the file's."""
        if not self._writable:
            return Reason.FOLDER_NOT_WRITABLE
        if self._sticky and status.st_uid != self._user_id:
            return Reason.FOLDER_STICKY
        return None if _may(self._folder, name, os.R_OK) else Reason.UNREADABLE


def _may(folder: int, name: str, mode: int) -> bool:
    return os.access(name, mode, dir_fd=folder, effective_ids=True)


def _is_read_only(folder: int) -> bool:
    try:
        return bool(os.fstatvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False
