"""One pass over the inbox: the documents in it with their sidecars, and the entries that are left alone."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path

from tasks.folders.disk_names import SIDECAR_ENDING
from tasks.folders.durable import FileIdentity
from worker.inbox.filter import InboxFilter, Reason


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that is a document, and its sidecar if there is one, as the scan saw them.

    `sidecar_identity` is None also for a sidecar that is not a regular file.
    """

    path: Path
    account: str
    patient_id: str | None
    identity: FileIdentity
    sidecar: Path | None = None
    sidecar_identity: FileIdentity | None = None

    @property
    def fingerprint(self) -> Hashable:
        """Changes with the document or its sidecar: a sidecar that is still being written holds its document back."""
        return self.identity, self.sidecar, self.sidecar_identity


@dataclass(frozen=True, slots=True)
class Ignored:
    """An entry that is left alone. `account` is empty outside the folders of the accounts in the settings."""

    path: Path
    account: str
    reason: Reason


@dataclass(slots=True)
class Scan:
    """What one pass found."""

    candidates: dict[Path, Candidate] = field(default_factory=dict)
    ignored: list[Ignored] = field(default_factory=list)

    def add(self, other: Scan) -> None:
        self.candidates.update(other.candidates)
        self.ignored += other.ignored


def scan(inbox: Path, accounts: Collection[str]) -> Scan:
    """Scan the whole inbox. A file that vanishes meanwhile is not listed. Raises OSError if there is no inbox."""
    whole, inbox_filter = Scan(), InboxFilter(accounts)
    for entry, mode in _entries(inbox):
        path = Path(entry.path)
        reason = inbox_filter.why_ignored_in_inbox(entry.name, mode)
        if reason is None:
            in_account_folder, patient_ids = scan_folder(path, entry.name, None, inbox_filter)
            whole.add(in_account_folder)
            for patient_id in patient_ids:
                in_patient_folder, _ = scan_folder(path / patient_id, entry.name, patient_id, inbox_filter)
                whole.add(in_patient_folder)
        # The folder of an account that has left the settings is worth a warning only while files wait in it.
        elif reason is not Reason.UNKNOWN_ACCOUNT or not is_empty(path):
            whole.ignored.append(Ignored(path, "", reason))
    return whole


def scan_folder(
    folder: Path, account: str, patient_id: str | None, inbox_filter: InboxFilter
) -> tuple[Scan, list[str]]:
    """The documents of one folder, and the names of the folders in it that may hold documents."""
    if patient_id is None:
        why_ignored = inbox_filter.why_ignored_in_account_folder
    else:
        why_ignored = inbox_filter.why_ignored_in_patient_folder
    found = Scan()
    files: dict[str, os.stat_result] = {}
    odd_sidecars, folders = set(), []
    try:
        for entry, mode in _entries(folder):
            reason = why_ignored(entry.name, mode)
            if reason:
                found.ignored.append(Ignored(folder / entry.name, account, reason))
                if reason is Reason.NOT_A_REGULAR_FILE and entry.name.endswith(SIDECAR_ENDING):
                    odd_sidecars.add(entry.name)
            elif stat.S_ISDIR(mode):
                folders.append(entry.name)
            else:
                files[entry.name] = entry.stat(follow_symlinks=False)
    except OSError as error:
        # One folder that cannot be read must not hide the documents in the others.
        if error.errno != errno.ENOENT:
            found.ignored.append(Ignored(folder, account, Reason.UNREADABLE))
    for name, status in files.items():
        if name.endswith(SIDECAR_ENDING):
            continue  # it may come before its document, and waits for it
        path, sidecar = folder / name, name + SIDECAR_ENDING
        found.candidates[path] = Candidate(
            path,
            account,
            patient_id,
            FileIdentity.of(status),
            # A sidecar that is a link or a pipe counts as there: its document fails instead of going out without it.
            folder / sidecar if sidecar in files or sidecar in odd_sidecars else None,
            FileIdentity.of(files[sidecar]) if sidecar in files else None,
        )
    return found, folders


def in_turn(candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """Oldest first, the accounts in turn, so that an account with thousands of files does not delay the others."""
    by_account: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda candidate: candidate.identity.modified_ns):
        by_account.setdefault(candidate.account, []).append(candidate)
    return (candidate for candidate in chain.from_iterable(zip_longest(*by_account.values())) if candidate)


def is_empty(folder: Path) -> bool:
    """False also for a folder that cannot be read: files may wait in it."""
    with suppress(OSError), os.scandir(folder) as entries:
        return next(entries, None) is None
    return False


def _entries(folder: Path) -> Iterator[tuple[os.DirEntry[str], int]]:
    """A folder's entries with their modes; for a link its own mode, not its target's."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                yield entry, entry.stat(follow_symlinks=False).st_mode
