"""Whether our folders can be written, and what lies in the inbox without being accepted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from config.settings import Settings
from tasks.folders.layout import Folders
from worker.cli.commands.check.result import Finding
from worker.inbox.filter import Reason
from worker.inbox.scan import Ignored, scan

_WORDS = {
    Reason.HIDDEN: "its name begins with . or ~",
    Reason.UNFINISHED: "it is named as an unfinished file",
    Reason.OUTCOME_FILE: "it is a receipt or an error file of ours, which came with its document",
    Reason.SYSTEM_FILE: "Windows puts it into every folder",
    Reason.NOT_A_REGULAR_FILE: "it is a link or something else that is not a regular file",
    Reason.TOO_DEEP: "it is a folder in a patient's folder; put files into inbox/<account>/<patient id>/",
    Reason.NO_ACCOUNT: "it lies beside the accounts' folders; put it into inbox/<account>/<patient id>/",
    Reason.UNKNOWN_ACCOUNT: "the settings name no such account",
    Reason.UNREADABLE: "it cannot be read; correct its permissions",
}
_HARMLESS = (Reason.HIDDEN, Reason.UNFINISHED, Reason.OUTCOME_FILE, Reason.SYSTEM_FILE)


def of_folders(settings: Settings) -> Iterator[Finding]:
    folders = Folders(settings.data_dir)
    ours = (folders.inbox, folders.processing, folders.delivered, folders.failed)
    faults = [f"{path}: {why}" for path in (settings.data_dir, *ours) if (why := _why_not_writable(path))]
    for fault in faults:
        yield Finding("folders", ok=False, message=fault)
    if not faults:
        yield Finding("folders", ok=True, message=f"{settings.data_dir} can be written.")
    elsewhere = [path.name for path in ours if _device(path) != _device(folders.processing)]
    if elsewhere:
        names = ", ".join(f"{name}/" for name in elsewhere)
        message = f"On another file system than processing/: {names}. Files are copied instead of renamed: slower."
        yield Finding("folders", ok=True, message=message)
    for root in settings.file_roots:
        if not os.access(root, os.R_OK | os.X_OK):
            yield Finding("folders", ok=False, message=f"{root}: it is in file_roots and cannot be read here.")


def of_inbox(settings: Settings, lookup: Callable[..., str] | None) -> Iterator[Finding]:
    """What is left alone, with its path and the mark by which the log names it."""
    inbox = Folders(settings.data_dir).inbox
    try:
        ignored = scan(inbox, list(settings.accounts)).ignored
    except FileNotFoundError:
        return
    except OSError as error:
        yield Finding("inbox", ok=False, message=f"{inbox}: it cannot be read ({error.strerror}).")
        return
    for entry in ignored:
        yield _of_entry(entry, lookup("inbox", *entry.path.relative_to(inbox).parts) if lookup else None)


def _of_entry(entry: Ignored, mark: str | None) -> Finding:
    named = f", in the log as {mark}" if mark else ""
    message = f"{click.format_filename(entry.path)} is left alone: {_WORDS[entry.reason]}{named}."
    return Finding("inbox", ok=entry.reason in _HARMLESS, account=entry.account or None, message=message)


def _why_not_writable(path: Path) -> str | None:
    """What keeps us from writing there; a folder that is missing is made when it is first needed."""
    if path.exists() and not path.is_dir():
        return "it is not a folder."
    there = _nearest(path)
    if os.access(there, os.W_OK | os.X_OK):
        return None
    return "it cannot be written by this user." if there == path else f"it is missing, and {there} cannot be written."


def _device(path: Path) -> int:
    return _nearest(path).stat().st_dev


def _nearest(path: Path) -> Path:
    """The path itself, or the folder above it that is there."""
    return path if path.exists() or path == path.parent else _nearest(path.parent)
