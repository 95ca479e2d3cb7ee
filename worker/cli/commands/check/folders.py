"""`chartpost check`: folders that must be written, and folders from which files are read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.folders.free_space import nearest, try_write
from tasks.folders.layout import Folders
from worker.cli.commands.check.result import CheckResult, failed, passed

_REMEDIES = {
    errno.ENOSPC: "make room on its disk; everything continues without a restart.",
    errno.EDQUOT: "make room, or raise this user's quota; everything continues without a restart.",
    errno.EROFS: "its disk is mounted read-only, often after an error: examine it.",
    errno.EIO: "its disk fails: examine it.",
}

_DISK_FAULT = "nothing can be written there"


def check_folders(folders: Folders, data_dir: Path) -> Iterator[CheckResult]:
    ours = (folders.inbox, folders.processing, folders.delivered, folders.failed)
    faults: dict[tuple[int, str] | Path, str] = {}
    for path in (data_dir, *ours):
        why = _why_not_writable(path)
        if why:
            # A full disk is one fault, however many folders lie on it.
            key = (path.stat().st_dev, why) if why.startswith(_DISK_FAULT) else path
            faults.setdefault(key, f"{path}: {why}")
    for fault in faults.values():
        yield failed("folders", fault)
    if not faults:
        yield passed("folders", f"{data_dir} can be written.")
    device = nearest(folders.processing).stat().st_dev
    elsewhere = [f"{path.name}/" for path in ours if nearest(path).stat().st_dev != device]
    if elsewhere:
        message = f"On another file system than processing/: {', '.join(elsewhere)}. Files are copied there instead of"
        yield passed("folders", f"{message} renamed, which is slower.")


def check_file_roots(file_roots: Iterable[Path]) -> Iterator[CheckResult]:
    for root in file_roots:
        if not os.access(root, os.R_OK | os.X_OK):
            yield failed("folders", f"{root}: it is in file_roots and cannot be read here.")


def _why_not_writable(path: Path) -> str | None:
    """Why the folder cannot be written; None if it can."""
    if path.exists() and not path.is_dir():
        return "it is not a folder."
    # A folder that is missing is made when it is first needed.
    existing = nearest(path)
    if not os.access(existing, os.W_OK | os.X_OK):
        return (
            "it cannot be written by this user."
            if existing == path
            else f"it is missing, and {existing} cannot be written."
        )
    if existing == path:
        # The rights say nothing about a full disk, or one that has become read-only.
        try:
            try_write(path)
        except OSError as error:
            return f"{_DISK_FAULT} ({error.strerror}): {_REMEDIES.get(error.errno or 0, 'correct that.')}"
    return None
