"""`delivered/` and `failed/`: a closed document beside its companion, which is a receipt or an error file.

Closing takes these steps, and a repetition after a kill finds by the job id in the companion how far it had come:

1.  The companion is written under a free name. That reserves the document's name, too.
2.  The document is moved beside it.
3.  The sidecar is moved beside both, in failed/ only: a person may have to correct it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tasks.folders import durable
from tasks.folders.disk_names import SIDECAR_ENDING, beside, tagged, tags
from tasks.folders.job_folder import OURS
from tasks.folders.job_json import JobFileDamaged, from_bytes, round_of, to_bytes

_FOLDER_MODE, _FILE_MODE = 0o770, 0o660  # the umask decides who else may read
_NAMES_SEARCHED = 12  # for an earlier try; a thirteenth file of one name would get a second companion after a kill
_LARGEST_COMPANION = 4 << 20  # anything larger is not ours


@dataclass(frozen=True, slots=True)
class ClosedDocument:
    """Where a document, its companion and its sidecar are in delivered/ or failed/, or would be."""

    document: Path
    companion: Path
    sidecar: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ends: what its companion says, and the files to move beside that as far as they still exist."""

    job_id: str
    account: str
    patient_id: str | None
    disk_name: str
    content: Mapping[str, Any]
    document: Path | None = None
    sidecar: Path | None = None
    round: int = 0


class CompanionFolder:
    """`delivered/` or `failed/`. `ending` is what the names of its companions end in."""

    def __init__(self, root: Path, ending: str) -> None:
        self.root = root
        self._ending = ending

    def put(self, outcome: Outcome) -> ClosedDocument:
        """Write the companion and move the files beside it, or finish what an earlier try began.

        Overwrites nothing: it passes over a name that is taken as a document's, a companion's or a sidecar's.
        """
        begun = self.find_begun(outcome)
        if begun and outcome.document and outcome.document.exists():
            # On a disk without hard links a kill may have left an empty file under the name that is reserved for us.
            with suppress(FileNotFoundError):
                if begun.document.lstat().st_size == 0:
                    begun.document.unlink()
        for closed in chain([begun] if begun else [], self._reserve(outcome)):
            draft = closed.document.with_name(OURS + outcome.job_id)
            try:
                _move(outcome.document, closed.document, draft)
            except FileExistsError:
                # Another program has taken the document's name after we reserved it: go on to the next name.
                closed.companion.unlink(missing_ok=True)
                continue
            with suppress(FileExistsError):
                _move(outcome.sidecar, closed.sidecar, draft)
            draft.unlink(missing_ok=True)  # left by a kill during a copy from another file system
            return closed
        raise AssertionError("there is always another name")

    def find_begun(self, outcome: Outcome) -> ClosedDocument | None:
        """Where an earlier try of this outcome has written its companion."""
        for folder in self._folders(outcome.account, outcome.patient_id, outcome.job_id):
            for closed in islice(self._names(folder, outcome.disk_name, outcome.job_id), _NAMES_SEARCHED):
                companion = read_companion(closed.companion)
                # An error file of an earlier round is stale: the job was taken up again since.
                if companion.get("job_id") == outcome.job_id and round_of(companion) >= outcome.round:
                    return closed
        return None

    def find(self, job_id: str, account: str, patient_id: str | None) -> ClosedDocument | None:
        """Where a job's companion is, whatever the document is called. Reads every companion of the patient."""
        for folder in self._folders(account, patient_id, job_id):
            for closed, content in self._closed_in(folder):
                if content["job_id"] == job_id:
                    return closed
        return None

    def all(self) -> Iterator[tuple[ClosedDocument, dict[str, Any]]]:
        """Every document that was closed here, with the content of its companion."""
        for folder, _, _ in os.walk(self.root):
            yield from self._closed_in(Path(folder))

    def amend(self, closed: ClosedDocument, content: Mapping[str, Any], job_id: str) -> None:
        """Change the companion to say this; what else it says stays."""
        before = read_companion(closed.companion)
        after = {**before, **content}
        if after != before:
            draft = closed.companion.with_name(OURS + job_id)
            durable.replace(closed.companion, to_bytes(after), draft, _FILE_MODE)

    def _closed_in(self, folder: Path) -> Iterator[tuple[ClosedDocument, dict[str, Any]]]:
        names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        for name in sorted(names):
            # A file that has a companion is a document, even if its own name looks like a companion's.
            if name.endswith(self._ending) and name != self._ending and name + self._ending not in names:
                content = read_companion(folder / name)
                if isinstance(content.get("job_id"), str):
                    yield self._closed_document(folder / name, content), content

    def _closed_document(self, companion: Path, content: Mapping[str, Any]) -> ClosedDocument:
        """The document that a companion belongs to."""
        # The companion's name tells it, unless it was cut because it was too long. The error file then knows better.
        document = companion.with_name(companion.name.removesuffix(self._ending))
        by_name = ClosedDocument(document, companion, companion.with_name(beside(document.name, "", SIDECAR_ENDING)))
        job_file = content.get("job_file")
        disk_name = job_file.get("disk_name") if isinstance(job_file, dict) else None
        if isinstance(disk_name, str):
            with suppress(ValueError):  # the file was edited, and the name in it leads elsewhere
                for closed in islice(self._names(companion.parent, disk_name, content["job_id"]), _NAMES_SEARCHED):
                    if closed.companion == companion:
                        return closed
        return by_name

    def _folders(self, account: str, patient_id: str | None, job_id: str) -> list[Path]:
        """Where a document may be closed. Raises ValueError for a name that would lead elsewhere."""
        folder = self.root / _one_name(account)
        if patient_id is None:
            return [folder]
        # A document without a patient may have the name that the patient's folder would have.
        return [folder / _one_name(patient_id), folder / tagged(patient_id, "-" + job_id[:8])]

    def _names(self, folder: Path, disk_name: str, job_id: str) -> Iterator[ClosedDocument]:
        """The names that a document may get, without end and in the order in which they are tried."""
        for tag in tags(job_id):
            name = tagged(_one_name(disk_name), tag)
            companion, sidecar = beside(name, tag, self._ending), beside(name, tag, SIDECAR_ENDING)
            yield ClosedDocument(folder / name, folder / companion, folder / sidecar)

    def _reserve(self, outcome: Outcome) -> Iterator[ClosedDocument]:
        """Free names, one after the other, each with the companion written: so no other job takes it."""
        folder = self._make_folder(outcome)
        for closed in self._names(folder, outcome.disk_name, outcome.job_id):
            if any(os.path.lexists(path) for path in (closed.document, closed.companion, closed.sidecar)):
                continue
            content, draft = to_bytes(outcome.content), folder / (OURS + outcome.job_id)
            # Another process may take the companion's name at the same moment: only one of the two can write it.
            with suppress(FileExistsError):
                durable.write_new(closed.companion, content, draft, _FILE_MODE)
                yield closed

    def _make_folder(self, outcome: Outcome) -> Path:
        *others, last = self._folders(outcome.account, outcome.patient_id, outcome.job_id)
        for folder in others:
            with suppress(NotADirectoryError):
                durable.make_folder(folder, _FOLDER_MODE)
                return folder
        durable.make_folder(last, _FOLDER_MODE)
        return last


def read_companion(path: Path) -> dict[str, Any]:
    """What a receipt or an error file says; empty if it is missing or was not written by us."""
    with suppress(OSError, JobFileDamaged):
        if path.lstat().st_size <= _LARGEST_COMPANION:
            return from_bytes(path.read_bytes())
    return {}


def _move(source: Path | None, target: Path, draft: Path) -> None:
    """Move a file, unless there is none or an earlier try has moved it."""
    if source is not None and source.exists():
        durable.move_new(source, target, draft)


def _one_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("this cannot be the name of one file or folder")
    return name
