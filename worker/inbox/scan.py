"""What lies in the inbox: which entries are documents, which of them have settled, and what their sidecars ask for."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, zip_longest
from pathlib import Path

from tasks.folders.companions import SIDECAR_ENDING
from tasks.folders.durable import FileIdentity

_UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart")
_OF_OURS = (".receipt.json", ".error.json")  # moved here together with their document, they are none themselves
_OF_THE_SYSTEM = ("thumbs.db", "desktop.ini")


class Reason(StrEnum):
    """Why an entry of the inbox is left alone."""

    HIDDEN = "hidden"  # begins with . or ~
    UNFINISHED = "unfinished"  # named as unfinished downloads are
    OF_OURS = "of_ours"  # a receipt or an error file
    OF_THE_SYSTEM = "of_the_system"  # Windows leaves it in every folder
    NOT_A_REGULAR_FILE = "not_a_regular_file"
    TOO_DEEP = "too_deep"  # a folder in a patient's folder
    NO_ACCOUNT = "no_account"  # a file beside the accounts' folders
    UNKNOWN_ACCOUNT = "unknown_account"
    UNREADABLE = "unreadable"


class InboxFilter:
    """Which entries are documents, by their names, kinds and places alone; reads nothing."""

    def __init__(self, accounts: Collection[str]) -> None:
        self._accounts = frozenset(accounts)

    def of_inbox(self, name: str, mode: int) -> Reason | None:
        """For an entry of inbox/: None for an account's folder."""
        if not stat.S_ISDIR(mode):
            return self._of_file(name, mode) or Reason.NO_ACCOUNT
        if name in self._accounts:
            return None
        return _by_name(name) or Reason.UNKNOWN_ACCOUNT

    def of_account(self, name: str, mode: int) -> Reason | None:
        """For an entry of inbox/<account>/: None for a patient's folder or a file."""
        return _by_name(name) if stat.S_ISDIR(mode) else self._of_file(name, mode)

    def of_patient(self, name: str, mode: int) -> Reason | None:
        """For an entry of inbox/<account>/<patient id>/: None for a file."""
        return (_by_name(name) or Reason.TOO_DEEP) if stat.S_ISDIR(mode) else self._of_file(name, mode)

    def _of_file(self, name: str, mode: int) -> Reason | None:
        return _by_name(name) or (None if stat.S_ISREG(mode) else Reason.NOT_A_REGULAR_FILE)


def _by_name(name: str) -> Reason | None:
    if name.startswith((".", "~")):
        return Reason.HIDDEN
    folded = name.lower()  # Windows does not mind case
    if folded.endswith(_UNFINISHED):
        return Reason.UNFINISHED
    if folded.endswith(_OF_OURS):
        return Reason.OF_OURS
    return Reason.OF_THE_SYSTEM if folded in _OF_THE_SYSTEM else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that is a document, with its sidecar if there is one, as they were when they were looked at.

    `sidecar_identity` is None also for a sidecar that is no regular file.
    """

    path: Path
    account: str
    patient_id: str | None
    identity: FileIdentity
    sidecar: Path | None = None
    sidecar_identity: FileIdentity | None = None

    @property
    def mark(self) -> Hashable:
        """What has to hold still: a sidecar that is still being written holds its document back."""
        return self.identity, self.sidecar, self.sidecar_identity


@dataclass(frozen=True, slots=True)
class Ignored:
    """An entry that is left alone. `account` is empty where there is none of ours."""

    path: Path
    account: str
    reason: Reason


@dataclass(slots=True)
class Look:
    """What one look found."""

    candidates: dict[Path, Candidate] = field(default_factory=dict)
    ignored: list[Ignored] = field(default_factory=list)


def look(inbox: Path, accounts: Collection[str]) -> Look:
    """Look through the whole inbox. What vanishes meanwhile is not there. Raises OSError if there is no inbox."""
    found, judge = Look(), InboxFilter(accounts)
    for entry, mode in _entries(inbox):
        reason = judge.of_inbox(entry.name, mode)
        if reason is None:
            _look_into_account(Path(entry.path), entry.name, judge, found)
        elif reason is not Reason.UNKNOWN_ACCOUNT or _is_filled(entry.path):
            found.ignored.append(Ignored(Path(entry.path), "", reason))
    return found


def _look_into_account(folder: Path, account: str, judge: InboxFilter, found: Look) -> None:
    for patient in _look_into(folder, account, None, judge, found):
        _look_into(folder / patient, account, patient, judge, found)


def _look_into(folder: Path, account: str, patient_id: str | None, judge: InboxFilter, found: Look) -> list[str]:
    """Add a folder's documents to what was found; returns the names of the folders to go on with."""
    judged = judge.of_account if patient_id is None else judge.of_patient
    files: dict[str, os.stat_result] = {}
    odd_sidecars, folders = set(), []
    try:
        for entry, mode in _entries(folder):
            reason = judged(entry.name, mode)
            if reason:
                found.ignored.append(Ignored(folder / entry.name, account, reason))
                if reason is Reason.NOT_A_REGULAR_FILE and entry.name.endswith(SIDECAR_ENDING):
                    odd_sidecars.add(entry.name)
            elif stat.S_ISDIR(mode):
                folders.append(entry.name)
            else:
                files[entry.name] = entry.stat(follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOENT:
            found.ignored.append(Ignored(folder, account, Reason.UNREADABLE))
    for name, status in files.items():
        if not name.endswith(SIDECAR_ENDING):
            path, sidecar = folder / name, name + SIDECAR_ENDING
            named = sidecar in files or sidecar in odd_sidecars
            found.candidates[path] = Candidate(
                path,
                account,
                patient_id,
                FileIdentity.of(status),
                folder / sidecar if named else None,
                FileIdentity.of(files[sidecar]) if sidecar in files else None,
            )
    return folders


def _entries(folder: Path) -> Iterator[tuple[os.DirEntry[str], int]]:
    """A folder's entries with their modes, those of links themselves."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                yield entry, entry.stat(follow_symlinks=False).st_mode


def _is_filled(folder: str) -> bool:
    with suppress(OSError), os.scandir(folder) as entries:
        return any(True for _ in entries)
    return True


def in_turn(candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """Oldest first, the accounts in turn, so that one account's thousands do not hold up another's one."""
    lines: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda candidate: candidate.identity.modified_ns):
        lines.setdefault(candidate.account, []).append(candidate)
    return (candidate for candidate in chain.from_iterable(zip_longest(*lines.values())) if candidate)
