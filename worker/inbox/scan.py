"""What lies in the inbox: which entries are documents, which of them have settled, and what their sidecars ask for."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, zip_longest
from pathlib import Path
from typing import Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator
from pydantic_core import ErrorDetails

from tasks.errors import Code, DocumentRefused
from tasks.folders import SIDECAR_ENDING, FileIdentity
from tasks.intake import check_file_name

_UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart")
_OF_OURS = (".receipt.json", ".error.json")  # moved here together with their document, they are none themselves
_OF_THE_SYSTEM = ("thumbs.db", "desktop.ini")
_LARGEST_SIDECAR = 64 * 1024
_MEDIA_TYPE = r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+( *;[ -~]*)?$"  # RFC 6838, and parameters
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # Windows editors put it before UTF-8

Key = TypeVar("Key", bound=Hashable)


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


class SettledTracker(Generic[Key]):
    """Tells which files have held still for `settle_seconds`. Pure: what was seen, and when, is passed in.

    Times are of a monotonic clock, in seconds; the files' own times are only compared with themselves.
    """

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._marks: dict[Key, tuple[Hashable, float]] = {}
        self._next_at: float | None = None

    def look(self, seen: Mapping[Key, Hashable], now: float) -> list[Key]:
        """Note what is seen now; returns what has been seen unchanged for long enough. The rest is forgotten."""
        marks: dict[Key, tuple[Hashable, float]] = {}
        settled: list[Key] = []
        self._next_at = None
        for key, mark in seen.items():
            before, since = self._marks.get(key, (None, now))
            since = since if before == mark else now
            marks[key] = mark, since
            if now - since >= self._settle_seconds:
                settled.append(key)
            elif self._next_at is None or since + self._settle_seconds < self._next_at:
                self._next_at = since + self._settle_seconds
        self._marks = marks
        return settled

    @property
    def next_at(self) -> float | None:
        """When to look again, since something may have settled by then; None if nothing is still to settle."""
        return self._next_at


class Sidecar(BaseModel):
    """`<file>.meta.json`: what whoever dropped the file wants to be said and done with it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    description: str | None = None
    file_name: str | None = None
    content_type: str | None = Field(None, pattern=_MEDIA_TYPE, max_length=255)
    options: dict[str, JsonValue] = Field(default_factory=dict)
    idempotency_key: str | None = Field(None, min_length=1, max_length=255)

    @field_validator("options")
    @classmethod
    def _is_strict_json(cls, options: dict[str, JsonValue]) -> dict[str, JsonValue]:
        json.dumps(options, allow_nan=False)  # raises ValueError
        return options

    @classmethod
    def read(cls, path: Path) -> Self:
        """The sidecar at a path. Raises DocumentRefused, and FileNotFoundError when it has vanished."""
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise _refused("it is not a regular file")
                return cls.parse(file.read(_LARGEST_SIDECAR + 1))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _refused(f"it cannot be opened ({errno.errorcode.get(error.errno or 0, 'OSError')})") from error

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Raises DocumentRefused, `invalid_request`, which says what is wrong."""
        if len(content) > _LARGEST_SIDECAR:
            raise _refused(f"it is larger than {_LARGEST_SIDECAR} bytes")
        try:
            sidecar = cls.model_validate_json(content.removeprefix(_BYTE_ORDER_MARK))
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False, include_context=False)
            raise _refused("; ".join(sorted({_fault(fault) for fault in faults}))) from None
        if sidecar.file_name is not None:
            check_file_name(sidecar.file_name)
        return sidecar


def _fault(fault: ErrorDetails) -> str:
    """What is wrong where, without a value or a key that somebody made up: it goes into logs."""
    known = [str(part) for part in fault["loc"][:1] if part in Sidecar.model_fields]
    where = ", ".join(known) if known or not fault["loc"] else "an unknown field"
    return f"{where}: {fault['msg']}" if where else fault["msg"]


def _refused(fault: str) -> DocumentRefused:
    return DocumentRefused(
        Code.INVALID_REQUEST,
        f"The sidecar file (.meta.json) cannot be understood: {fault}.",
        hint="Correct the sidecar, then move it and the document back to the inbox.",
    )
