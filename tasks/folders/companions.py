"""`delivered/` and `failed/`: a document beside the companion that says what became of it.

The companion is written first and thereby reserves the name; the document follows. Whoever repeats this after a kill
finds the companion by the job id in it, and goes on from there.
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
from tasks.folders.disk_names import beside, tagged, tags
from tasks.folders.job_folder import OURS
from tasks.folders.job_json import JobFileDamaged, from_bytes, to_bytes

SIDECAR_ENDING = ".meta.json"
_FOLDER_MODE, _FILE_MODE = 0o770, 0o660  # the umask decides who else may read
_NAMES_LOOKED_AT = 12
_LARGEST_COMPANION = 4 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document, its companion and its sidecar lie, or would lie."""

    document: Path
    companion: Path
    sidecar: Path


@dataclass(frozen=True, slots=True)
class Ending:
    """A job's end: what is written beside which name, and the files to bring there as far as they still exist."""

    job_id: str
    account: str
    patient_id: str | None
    disk_name: str
    content: Mapping[str, Any]
    document: Path | None = None
    sidecar: Path | None = None
    round: int = 0


class CompanionFolder:
    """One of the two folders; `ending` is what its companions' names end in."""

    def __init__(self, root: Path, ending: str) -> None:
        self.root = root
        self._ending = ending

    def put(self, end: Ending) -> Place:
        """Write the companion and bring the document beside it, each unless that is done already.

        Nothing is overwritten: a name that is taken, as the document's or as its companion's, is passed over.
        """
        standing = self.standing(end)
        if standing:
            _drop_placeholder(standing.document, end.document)
        for place in chain([standing] if standing else [], self._reserved(end)):
            if _fill(place, end):
                return place
        raise AssertionError("there is always another name")

    def standing(self, end: Ending) -> Place | None:
        """Where this end stands already, under one of the names that it may have taken."""
        for folder in self._folders(end.account, end.patient_id, end.job_id):
            for place in islice(self._places(folder, end.disk_name, end.job_id), _NAMES_LOOKED_AT):
                companion = _read(place.companion)
                if companion.get("job_id") == end.job_id and round_of(companion) >= end.round:
                    return place
        return None

    def find(self, job_id: str, account: str, patient_id: str | None) -> Place | None:
        """Where a job's end stands, whatever its document was called."""
        folders = self._folders(account, patient_id, job_id)
        found = (place for folder in folders for place, content in self._in(folder) if content["job_id"] == job_id)
        return next(found, None)

    def all(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        """Every end that stands, with what its companion says."""
        for folder, _, _ in os.walk(self.root):
            yield from self._in(Path(folder))

    def read(self, place: Place) -> dict[str, Any]:
        """What the companion says; nothing if it has gone or is not ours."""
        return _read(place.companion)

    def amend(self, place: Place, content: Mapping[str, Any], job_id: str) -> None:
        """Let the companion say this, beside what else it says, unless it does so already."""
        said = _read(place.companion)
        amended = {**said, **content}
        if amended != said:
            draft = place.companion.with_name(OURS + job_id)
            durable.replace(place.companion, to_bytes(amended), draft, _FILE_MODE)

    def _in(self, folder: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
        names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        for name in sorted(names):
            # What has a companion itself is a document, even if it looks like a companion.
            if name.endswith(self._ending) and name != self._ending and name + self._ending not in names:
                content = _read(folder / name)
                if isinstance(content.get("job_id"), str):
                    yield self._place_of(folder / name, content), content

    def _place_of(self, companion: Path, content: Mapping[str, Any]) -> Place:
        """The place that a companion belongs to; its name alone does not tell when it was cut."""
        document = companion.with_name(companion.name.removesuffix(self._ending))
        by_name = Place(document, companion, companion.with_name(beside(document.name, "", SIDECAR_ENDING)))
        job_file = content.get("job_file")
        disk_name = job_file.get("disk_name") if isinstance(job_file, dict) else None
        if not isinstance(disk_name, str) or not _is_one_name(disk_name):
            return by_name
        places = islice(self._places(companion.parent, disk_name, content["job_id"]), _NAMES_LOOKED_AT)
        return next((place for place in places if place.companion == companion), by_name)

    def _folders(self, account: str, patient_id: str | None, job_id: str) -> list[Path]:
        """Where an end may stand: the patient's folder, or one beside it if a document has taken that name."""
        folder = self.root / _one_name(account)
        if patient_id is None:
            return [folder]
        return [folder / _one_name(patient_id), folder / tagged(patient_id, "-" + job_id[:8])]

    def _places(self, folder: Path, disk_name: str, job_id: str) -> Iterator[Place]:
        for tag in tags(job_id):
            name = tagged(_one_name(disk_name), tag)
            companion, sidecar = beside(name, tag, self._ending), beside(name, tag, SIDECAR_ENDING)
            yield Place(folder / name, folder / companion, folder / sidecar)

    def _reserved(self, end: Ending) -> Iterator[Place]:
        """Free places, each with its companion written, so that nobody else takes it."""
        folder = self._made_folder(end)
        for place in self._places(folder, end.disk_name, end.job_id):
            if any(os.path.lexists(path) for path in (place.document, place.companion, place.sidecar)):
                continue
            with suppress(FileExistsError):
                durable.write_new(place.companion, to_bytes(end.content), folder / (OURS + end.job_id), _FILE_MODE)
                yield place

    def _made_folder(self, end: Ending) -> Path:
        *others, last = self._folders(end.account, end.patient_id, end.job_id)
        for folder in others:
            with suppress(NotADirectoryError):
                durable.make_folder(folder, _FOLDER_MODE)
                return folder
        durable.make_folder(last, _FOLDER_MODE)
        return last


def _fill(place: Place, end: Ending) -> bool:
    """Bring the files beside their companion. False, and the place given up, if something else has the name."""
    draft = place.document.with_name(OURS + end.job_id)
    try:
        _bring(end.document, place.document, draft)
    except FileExistsError:
        place.companion.unlink(missing_ok=True)
        return False
    with suppress(FileExistsError):
        _bring(end.sidecar, place.sidecar, draft)
    draft.unlink(missing_ok=True)
    return True


def _bring(source: Path | None, target: Path, draft: Path) -> None:
    if source is not None and source.exists():
        durable.move_new(source, target, draft)


def _drop_placeholder(target: Path, source: Path | None) -> None:
    """Remove the empty file that a kill left where `disk.move_new` cannot link; the name is reserved for us."""
    with suppress(FileNotFoundError):
        if source is not None and source.exists() and target.lstat().st_size == 0:
            target.unlink()


def _read(companion: Path) -> dict[str, Any]:
    with suppress(OSError, JobFileDamaged):
        if companion.lstat().st_size <= _LARGEST_COMPANION:
            return from_bytes(companion.read_bytes())
    return {}


def round_of(companion: Mapping[str, Any]) -> int:
    """Which round of its job a companion tells of."""
    job_file = companion.get("job_file")
    found = job_file.get("round") if isinstance(job_file, dict) else 0
    return found if isinstance(found, int) else 0


def _one_name(name: str) -> str:
    """Raises ValueError for what would leave its folder."""
    if not _is_one_name(name):
        raise ValueError("this cannot be the name of one file or folder")
    return name


def _is_one_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name
