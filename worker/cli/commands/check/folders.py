"""`chartpost check`: folders that must be written, and folders from which files are read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from config.settings import Settings
from tasks.folders.free_space import nearest, try_write
from tasks.folders.layout import Folders
from worker.cli.commands.check.result import CheckResult, failed, passed

_REMEDIES = {
    errno.ENOSPC: "make room on its disk; everything continues without a restart.",
    errno.EDQUOT: "make room, or raise this user's quota; everything continues without a restart.",
    errno.EROFS: "its disk is mounted read-only, often after an error: examine it.",
    errno.EIO: "its disk fails: examine it.",
}

_MOST_NAMED = 10
_DISK_FAULT = "nothing can be written there"


def check_folders(folders: Folders, data_dir: Path) -> Iterator[CheckResult]:
    ours = (folders.inbox, folders.processing, folders.delivered, folders.failed)
    faults: dict[tuple[int, str] | Path, str] = {}
    yield from _check_modes(folders, data_dir)
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


def _check_modes(folders: Folders, data_dir: Path) -> Iterator[CheckResult]:
    """Who else may enter data_dir, or put something in the place of our folders."""
    if data_dir.is_dir():
        mode = stat.S_IMODE(data_dir.stat().st_mode)
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield failed(
                "folders",
                f"{data_dir}: other users may write to it (mode {mode:04o}), and so put folders of their own in the "
                "place of ours: run chmod 750 on it. Senders need to write to the folders in inbox/ only.",
            )
        elif mode & stat.S_IXOTH:
            yield passed(
                "folders",
                f"{data_dir} may be entered by every user of this machine (mode {mode:04o}). Unless senders need that, "
                "run chmod 750 on it and give them its group.",
            )
    if folders.processing.is_dir() and stat.S_IMODE(folders.processing.stat().st_mode) & 0o077:
        yield failed("folders", f"{folders.processing}: other users may enter it: run chmod 700 on it.")
    yield from _check_where_documents_are_filed(folders)


def _check_where_documents_are_filed(folders: Folders) -> Iterator[CheckResult]:
    """Accounts' and patients' folders that somebody has made so that no document can be filed there."""
    closed = 0
    for root in (folders.delivered, folders.failed):
        for path in _inner(root):
            if path.is_symlink():
                yield failed("folders", f"{path} is a link, and nothing is filed by way of it: mount what it leads to.")
                continue
            for folder in filter(_is_folder, (path, *_inner(path))):
                if os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
                    continue
                closed += 1
                if closed <= _MOST_NAMED:
                    yield failed("folders", f"{folder}: this user cannot read or write it, and files nothing there.")
    if closed > _MOST_NAMED:
        yield failed("folders", f"{closed - _MOST_NAMED} more such folders are in delivered/ and failed/.")


def _inner(folder: Path) -> list[Path]:
    with suppress(PermissionError):
        return sorted(folder.iterdir()) if _is_folder(folder) else []
    return []


def _is_folder(path: Path) -> bool:
    """False for a link, and for what cannot be looked at: its own folder is named then."""
    with suppress(OSError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


def check_file_roots(settings: Settings) -> Iterator[CheckResult]:
    roots = [*settings.file_roots, *(root for one in settings.producers.values() for root in one.file_roots)]
    for path in dict.fromkeys(root.path for root in roots):
        if not os.access(path, os.R_OK | os.X_OK):
            yield failed("folders", f"{path}: it is in file_roots and cannot be read here.")
    for path in dict.fromkeys(root.path for root in roots if root.delete):
        if not os.access(path, os.W_OK | os.X_OK):
            yield failed("folders", f"{path}: its files may be removed by the settings, but not by this user.")


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
