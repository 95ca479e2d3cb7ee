"""One pass over the inbox: the documents in it with their sidecars, and the entries that are left alone.

Each folder is opened from the one above it, and never by a link (`sources.entries`).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path

from tasks.folders.disk_names import SIDECAR_ENDING, beside
from tasks.folders.durable import FileIdentity
from tasks.folders.notes import is_note_of, may_be_note, note_on
from tasks.sources.entries import OpenFolder
from worker.inbox.filter import ERROR_FILE_ENDING, InboxFilter, Reason
from worker.inbox.rights import FolderRights
from worker.inbox.sidecar_names import SidecarNames, looks_like_sidecar

_PROTECTED_HARD_LINKS = Path("/proc/sys/fs/protected_hardlinks")
# What people and programs leave beside a document, whatever its name looks like.
_NO_SIDECARS = (Reason.HIDDEN, Reason.OUTCOME_FILE, Reason.SYSTEM_FILE, Reason.IGNORED_BY_SETTINGS)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that is a document, and its sidecar if there is one, as the scan saw them.

    `sidecar_identity` is None also for a sidecar that is not a regular file. `patient_id` is the name of the folder;
    what the file's own name says of the patient is read when it is claimed.
    """

    path: Path
    account: str
    patient_id: str | None
    identity: FileIdentity
    sidecar: Path | None = None
    sidecar_identity: FileIdentity | None = None
    # Our notes and the error file about an earlier try of it, which came along.
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> Hashable:
        """Changes with the document or its sidecar: a sidecar that is still being written holds its document back."""
        return self.identity, self.sidecar, self.sidecar_identity


@dataclass(frozen=True, slots=True)
class Ignored:
    """An entry that is left alone. `account` is empty outside the folders of the accounts in the settings.

    `beside` are the names that a sidecar should have, or those of the sidecars for which a document waits.
    """

    path: Path
    account: str
    reason: Reason
    beside: tuple[str, ...] = ()


@dataclass(slots=True)
class Scan:
    """What one pass found."""

    candidates: dict[Path, Candidate] = field(default_factory=dict)
    ignored: list[Ignored] = field(default_factory=list)
    # Those of the ignored that are notes of ours, and lie beside no document of theirs.
    lone_notes: list[Path] = field(default_factory=list)

    def add(self, other: Scan) -> None:
        self.candidates.update(other.candidates)
        self.ignored += other.ignored
        self.lone_notes += other.lone_notes


def scan(inbox: Path, accounts: Collection[str], ignore: Sequence[str] = ()) -> Scan:
    """Scan the whole inbox. A file that vanishes meanwhile is not listed. Raises OSError if there is no inbox.

    `ignore` are the patterns of `inbox.ignore`.
    """
    whole, inbox_filter = Scan(), InboxFilter(accounts, ignore)
    with OpenFolder.of(inbox) as opened:
        for entry, status in _entries(opened):
            path = inbox / entry.name
            reason = inbox_filter.why_ignored_in_inbox(entry.name, status.st_mode)
            if reason is None:
                whole.add(scan_folder(opened, entry.name, entry.name, None, inbox_filter))
            # The folder of an account that has left the settings is worth a warning only while files wait in it.
            elif reason is not Reason.UNKNOWN_ACCOUNT or not is_empty(opened, entry.name):
                whole.ignored.append(Ignored(path, "", reason))
    return whole


def scan_folder(parent: OpenFolder, name: str, account: str, patient_id: str | None, inbox_filter: InboxFilter) -> Scan:
    """The documents of one folder and of the patients' folders in it."""
    found = Scan()
    try:
        with parent.enter(name) as folder:
            in_folder, patient_ids = _scan_open(folder, account, patient_id, inbox_filter)
            found.add(in_folder)
            for patient in patient_ids:
                found.add(scan_folder(folder, patient, account, patient, inbox_filter))
    except OSError as error:
        # One folder that cannot be read must not hide the documents in the others.
        if error.errno == errno.ENOTDIR:  # it was a folder a moment ago
            found.ignored.append(Ignored(parent.path / name, account, Reason.NOT_A_REGULAR_FILE))
        elif error.errno != errno.ENOENT:
            found.ignored.append(Ignored(parent.path / name, account, Reason.UNREADABLE))
    return found


def _scan_open(
    folder: OpenFolder, account: str, patient_id: str | None, inbox_filter: InboxFilter
) -> tuple[Scan, list[str]]:
    """The documents of an open folder, and the names of the folders in it that may hold documents. Raises OSError."""
    if patient_id is None:
        why_ignored = inbox_filter.why_ignored_in_account_folder
    else:
        why_ignored = inbox_filter.why_ignored_in_patient_folder
    content = FolderContent(folder, account, patient_id)
    folders: dict[str, os.stat_result] = {}
    for entry, status in _entries(folder):
        reason = why_ignored(entry.name, status.st_mode)
        # By what is in it and not by its name alone, since people may call a document so.
        if reason is None and may_be_note(entry.name) and note_on(folder.entry(entry.name)):
            content.add_note(entry.name)
        elif reason is None and stat.S_ISDIR(status.st_mode):
            folders[entry.name] = status
        elif reason is not Reason.TOO_DEEP or looks_like_sidecar(entry.name) or not is_empty(folder, entry.name):
            content.add(entry.name, status, reason)
    # A folder may be called as a document's sidecar: it is no patient's.
    for name in [name for name in folders if content.is_sidecar(name)]:
        content.add(name, folders.pop(name), Reason.NOT_A_REGULAR_FILE)
    return content.examine(), list(folders)


class FolderContent:
    """The files of one open folder, and all that is left alone in it: decides which are documents and sidecars."""

    def __init__(self, folder: OpenFolder, account: str, patient_id: str | None) -> None:
        self._opened = folder
        self._folder = folder.path
        self._account = account
        self._patient_id = patient_id
        self._documents: dict[str, os.stat_result] = {}
        self._sidecars: dict[str, os.stat_result | None] = {}  # without a status: it is not a regular file
        self._ignored: dict[str, Reason] = {}
        self._notes: list[str] = []

    def add(self, name: str, status: os.stat_result, reason: Reason | None) -> None:
        """`reason` is why the entry is left alone by its name and kind alone."""
        if reason is not None:
            self._ignored[name] = reason
        # A sidecar that is a link, a pipe, or unfinished counts as there: its document must not go out without it.
        if reason not in _NO_SIDECARS and looks_like_sidecar(name):
            self._sidecars[name] = status if stat.S_ISREG(status.st_mode) and reason is None else None
        elif reason is None:
            self._documents[name] = status

    def add_note(self, name: str) -> None:
        """A note of ours, which is never sent."""
        self._ignored[name] = Reason.OUTCOME_FILE
        self._notes.append(name)

    def is_sidecar(self, name: str) -> bool:
        return SidecarNames(self._documents).belongs(name)

    def examine(self) -> Scan:
        """Raises OSError when the folder has vanished."""
        found = Scan()
        for name, reason in self._ignored.items():
            found.ignored.append(Ignored(self._folder / name, self._account, reason))
        notes = self._notes_of_documents()
        for name in self._documents:
            if self._ignored.get(error_file := beside(name, "", ERROR_FILE_ENDING)) is Reason.OUTCOME_FILE:
                notes.setdefault(name, []).append(error_file)
        with_document = {note for of_one in notes.values() for note in of_one}
        found.lone_notes += [self._folder / note for note in self._notes if note not in with_document]
        in_doubt = self._odd_sidecars(found)
        if not self._documents:
            return found
        rights = FolderRights.of(self._opened.descriptor)
        for name, status in self._documents.items():
            path = self._folder / name
            why_held = Reason.SIDECAR_IN_DOUBT if name in in_doubt else _why_held(rights, name, status)
            if why_held:
                found.ignored.append(Ignored(path, self._account, why_held, tuple(in_doubt.get(name, ()))))
                continue
            sidecar = name + SIDECAR_ENDING
            sidecar_status = self._sidecars.get(sidecar)
            found.candidates[path] = Candidate(
                path,
                self._account,
                self._patient_id,
                FileIdentity.of(status),
                self._folder / sidecar if sidecar in self._sidecars else None,
                FileIdentity.of(sidecar_status) if sidecar_status else None,
                tuple(notes.get(name, ())),
            )
        return found

    def _notes_of_documents(self) -> dict[str, list[str]]:
        """Document -> the notes that belong to it, as they are called; only documents that have some."""
        if not self._notes:
            return {}
        pairs = {name: [note for note in self._notes if is_note_of(note, name)] for name in self._documents}
        return {name: notes for name, notes in pairs.items() if notes}

    def _odd_sidecars(self, found: Scan) -> dict[str, list[str]]:
        """Note the sidecars that belong to no document. Returns the documents that wait for them, with their names."""
        names, in_doubt = SidecarNames(self._documents), dict[str, list[str]]()
        for sidecar in self._sidecars:
            if names.belongs(sidecar):
                continue
            documents = names.meant_for(sidecar)
            for document in documents:
                in_doubt.setdefault(document, []).append(sidecar)
            if sidecar not in self._ignored:
                right_names = tuple(document + SIDECAR_ENDING for document in documents)
                alone = not documents and sidecar.endswith(SIDECAR_ENDING)
                reason = Reason.SIDECAR_ALONE if alone else Reason.SIDECAR_MISNAMED
                found.ignored.append(Ignored(self._folder / sidecar, self._account, reason, right_names))
        return in_doubt


def in_turn(candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """Oldest first, the accounts in turn, so that an account with thousands of files does not delay the others."""
    by_account: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda candidate: candidate.identity.modified_ns):
        by_account.setdefault(candidate.account, []).append(candidate)
    return (candidate for candidate in chain.from_iterable(zip_longest(*by_account.values())) if candidate)


def is_empty(parent: OpenFolder, name: str) -> bool:
    """False also for a folder that cannot be read: files may wait in it."""
    with suppress(OSError), parent.enter(name) as folder, os.scandir(folder.descriptor) as entries:
        return next(entries, None) is None
    return False


def hard_links_are_protected() -> bool:
    """True if only who may read and write a file can give it another name (proc(5), fs.protected_hardlinks)."""
    with suppress(OSError):
        return _PROTECTED_HARD_LINKS.read_text().strip() == "1"
    return False


def _why_held(rights: FolderRights, name: str, status: os.stat_result) -> Reason | None:
    # A file that its sender must not read could be sent under another name, into a chart of the sender's choice.
    if status.st_nlink > 1 and not hard_links_are_protected():
        return Reason.HARD_LINK
    return rights.why_held(name, status)


def _entries(folder: OpenFolder) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    """A folder's entries with their status; for a link its own, not its target's."""
    with os.scandir(folder.descriptor) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                yield entry, entry.stat(follow_symlinks=False)
