"""Decides which entries of the inbox are documents: by name, kind and depth, without reading any content."""

from __future__ import annotations

import stat
from collections.abc import Collection
from enum import StrEnum

_UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart")  # browsers, WinSCP and scanners write to such names first
_OUTCOME_FILES = (".receipt.json", ".error.json")
_SYSTEM_FILES = ("thumbs.db", "desktop.ini")


class Reason(StrEnum):
    """Why an entry of the inbox is left alone. The values stand in logs."""

    HIDDEN = "hidden"  # begins with . or ~: editors, Office lock files, and the senders that hide unfinished files
    UNFINISHED = "unfinished"  # named as unfinished downloads are
    OUTCOME_FILE = "of_ours"  # a receipt or an error file that was moved here together with its document
    SYSTEM_FILE = "of_the_system"  # Windows leaves it in every folder
    NOT_A_REGULAR_FILE = "not_a_regular_file"
    TOO_DEEP = "too_deep"  # a folder in a patient's folder
    NO_ACCOUNT = "no_account"  # a file beside the accounts' folders
    UNKNOWN_ACCOUNT = "unknown_account"
    UNREADABLE = "unreadable"
    OPEN_FOR_WRITING = "open_for_writing"  # a program has it open, and may not be done with it
    INCOMPLETE = "incomplete"  # its format says that its end is missing


class InboxFilter:
    """One method for each level of the inbox. `mode` is `st_mode` of the entry itself, also where it is a link."""

    def __init__(self, accounts: Collection[str]) -> None:
        self._accounts = frozenset(accounts)

    def why_ignored_in_inbox(self, name: str, mode: int) -> Reason | None:
        """For an entry of inbox/: None for an account's folder."""
        if not stat.S_ISDIR(mode):
            return why_file_ignored(name, mode) or Reason.NO_ACCOUNT
        if name in self._accounts:
            return None
        return why_name_ignored(name) or Reason.UNKNOWN_ACCOUNT

    def why_ignored_in_account_folder(self, name: str, mode: int) -> Reason | None:
        """For an entry of inbox/<account>/: None for a patient's folder or a file."""
        return why_name_ignored(name) if stat.S_ISDIR(mode) else why_file_ignored(name, mode)

    def why_ignored_in_patient_folder(self, name: str, mode: int) -> Reason | None:
        """For an entry of inbox/<account>/<patient id>/: None for a file."""
        return (why_name_ignored(name) or Reason.TOO_DEEP) if stat.S_ISDIR(mode) else why_file_ignored(name, mode)


def why_name_ignored(name: str) -> Reason | None:
    """Why a file or folder of this name is left alone; None for a name that a document may have."""
    if name.startswith((".", "~")):
        return Reason.HIDDEN
    folded = name.lower()  # Windows ignores case: Thumbs.db and THUMBS.DB are the same file there
    if folded.endswith(_UNFINISHED):
        return Reason.UNFINISHED
    if folded.endswith(_OUTCOME_FILES):
        return Reason.OUTCOME_FILE
    return Reason.SYSTEM_FILE if folded in _SYSTEM_FILES else None


def why_file_ignored(name: str, mode: int) -> Reason | None:
    # A link could point to a file outside the inbox, and a pipe would block the reader.
    return why_name_ignored(name) or (None if stat.S_ISREG(mode) else Reason.NOT_A_REGULAR_FILE)
