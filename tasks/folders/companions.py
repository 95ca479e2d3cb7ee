"""`delivered/` and `failed/`: a closed document beside its companion, which is a receipt or an error file.

Closing takes these steps, and a repetition after a kill finds by the job id in the companion how far it had come:

1.  The companion is written under a free name. That reserves the document's name, too.
2.  The document is moved beside it.
3.  The sidecar is moved beside both, in failed/ only: a person may have to correct it.

People may write to these folders. So a companion decides something only with our signature (`evidence`), and every
folder is opened from the root without following a link (`sources.entries`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from config.late_log import LateLog
from tasks.folders import durable
from tasks.folders.disk_names import SIDECAR_ENDING, beside, tagged, tags
from tasks.folders.durable import DOCUMENT_MODE
from tasks.folders.evidence import SIGNATURE, Evidence
from tasks.folders.job_folder import OURS
from tasks.folders.job_json import JobFileDamaged, from_bytes, is_job_id, round_of, to_bytes
from tasks.sources.entries import Entry, OpenFolder, Place, entry, one_name, opened_below

log = LateLog(__name__)

_FOLDER_MODE = 0o770  # the umask decides who else may read
_SIDECAR_MODE = 0o660  # a person may correct it
_NAMES_SEARCHED = 12  # for an earlier try; a thirteenth file of one name would get a second companion after a kill
_LARGEST_COMPANION = 4 << 20  # anything larger is not ours
_DEEPEST_CONTENT = 250  # a sidecar may be nested 200 deep; what reads a deeper one later has no room on its stack
_MOST_REPORTED = 10_000
DEEPEST = 8  # people may have sorted what we put two levels deep; more is somebody's trap


@dataclass(frozen=True, slots=True)
class ClosedDocument:
    """Where a document, its companion and its sidecar are in delivered/ or failed/, or would be.

    `content` is what the companion says, and `written` how it stands in the file, where job.json is sealed. `believed`
    is true if it bears our signature for the folder it lies in.
    """

    document: Path
    companion: Path
    sidecar: Path
    content: Mapping[str, Any] = field(default_factory=dict)
    believed: bool = False
    written: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ends: what its companion says, and the files to move beside that as far as they still exist."""

    job_id: str
    account: str
    patient_id: str | None
    disk_name: str
    content: Mapping[str, Any]
    document: Place | None = None
    sidecar: Path | None = None
    round: int = 0


class CompanionFolder:
    """`delivered/` or `failed/`. `kind` is what its companions are: "receipt" or "error"."""

    def __init__(self, root: Path, kind: str, evidence: Evidence | None) -> None:
        self.root = root
        self._kind = kind
        self._ending = f".{kind}.json"
        self._evidence = evidence
        self._reported: set[str] = set()

    def put(self, outcome: Outcome) -> ClosedDocument:
        """Write the companion and move the files beside it, or finish what an earlier try began.

        Overwrites nothing: it passes over a name that is taken as a document's, a companion's or a sidecar's.
        """
        begun = self.find_begun(outcome)
        if begun:
            with self.opened(begun) as folder:
                name = folder.entry(begun.document.name)
                if outcome.document and entry(outcome.document).exists():
                    # On a disk without hard links a kill may have left an empty file under the name that is reserved.
                    with suppress(FileNotFoundError):
                        if name.status().st_size == 0:
                            name.unlink()
                if self._fill(folder, begun, outcome):
                    return begun
        with self._made_folder(outcome) as folder:
            for closed in self._reserve(folder, outcome):
                if self._fill(folder, closed, outcome):
                    return closed
        raise AssertionError("there is always another name")

    def find_begun(self, outcome: Outcome) -> ClosedDocument | None:
        """Where an earlier try of this outcome has written its companion."""
        for path in self._folders(outcome.account, outcome.patient_id, outcome.job_id):
            with suppress(FileNotFoundError, NotADirectoryError), opened_below(self.root, path) as folder:
                names = self._names(outcome.disk_name, outcome.job_id)
                for document, companion, sidecar in islice(names, _NAMES_SEARCHED):
                    written = read_companion(Entry(companion, folder.descriptor))
                    content = self._opened(written)
                    # An error file of an earlier round is stale: the job was taken up again since.
                    if content.get("job_id") == outcome.job_id and round_of(content) >= outcome.round:
                        if self._believes(written, outcome.account, outcome.patient_id):
                            return ClosedDocument(
                                path / document, path / companion, path / sidecar, content, believed=True
                            )
                        self._report(outcome.job_id)
        return None

    def find(self, job_id: str, account: str, patient_id: str | None) -> ClosedDocument | None:
        """Where a job's companion is, whatever the document is called. Reads every companion of the patient.

        One that is not believed tells where a document may lie; it is given only if there is no other.
        """
        not_believed = None
        for path in self._folders(account, patient_id, job_id):
            with suppress(FileNotFoundError, NotADirectoryError), opened_below(self.root, path) as folder:
                for closed in self._closed_in(folder):
                    if closed.content["job_id"] != job_id:
                        continue
                    if self._believes(closed.written, account, patient_id):
                        return replace(closed, believed=True)
                    not_believed = not_believed or closed
        if not_believed:
            self._report(job_id)
        return not_believed

    def all(self, document_name: str | None = None) -> Iterator[ClosedDocument]:
        """Every document that was closed here, or every one of this name. Of the others no companion is read.

        Believed is what was signed for the patient that it names.
        """
        companion = beside(document_name, "", self._ending) if document_name else None
        with suppress(FileNotFoundError), OpenFolder.of(self.root) as root:
            for path, folders, names, descriptor in os.fwalk(dir_fd=root.descriptor):
                if path.count("/") >= DEEPEST:
                    folders.clear()
                if companion is None or companion in names:
                    for closed in self._closed_in(OpenFolder(descriptor, self.root / path), companion):
                        yield replace(closed, believed=self._believes_itself(closed.content, closed.written))

    def of_patient(self, account: str, patient_id: str) -> Iterator[ClosedDocument]:
        """Every document of a patient that was closed here and whose companion is believed."""
        try:
            path = self._folders(account, patient_id, "")[0]
        except ValueError:  # no folder can be called so
            return
        with suppress(FileNotFoundError, NotADirectoryError), opened_below(self.root, path) as folder:
            for closed in self._closed_in(folder):
                if self._believes(closed.written, account, patient_id):
                    yield replace(closed, believed=True)

    def at(self, path: Path) -> ClosedDocument | None:
        """What was closed where this document, companion or sidecar lies, or lay. Raises OSError."""
        with suppress(FileNotFoundError, NotADirectoryError), opened_below(self.root, path.parent) as folder:
            for closed in self._closed_in(folder):
                if path.name in (closed.document.name, closed.companion.name, closed.sidecar.name):
                    return replace(closed, believed=self._believes_itself(closed.content, closed.written))
        return None

    def amend(self, closed: ClosedDocument, content: Mapping[str, Any], outcome: Outcome) -> None:
        """Change the companion to say this; what else it says stays."""
        with self.opened(closed) as folder:
            companion = folder.entry(closed.companion.name)
            written = read_companion(companion)
            before = self._opened(written)
            after: Mapping[str, Any] = {**before, **content}
            if after == before:
                return
            if self._believes(written, outcome.account, outcome.patient_id):
                after = self.sign(after, outcome.account, outcome.patient_id)
            else:  # what else it says is not ours: it must not get our signature
                after = {name: value for name, value in {**written, **content}.items() if name != SIGNATURE}
            durable.replace(companion, to_bytes(after), folder.entry(OURS + outcome.job_id), DOCUMENT_MODE)

    def remove_if_ours(self, place: Entry) -> bool:
        """Remove a companion that lies elsewhere by now, if it is as we wrote it. Raises OSError."""
        written = read_companion(place)
        if not is_job_id(written.get("job_id")) or not self._believes_itself(self._opened(written), written):
            return False
        place.unlink(missing_ok=True)
        return True

    def opened(self, closed: ClosedDocument) -> AbstractContextManager[OpenFolder]:
        """The folder of a closed document. Raises FileNotFoundError, and NotADirectoryError for a link."""
        return opened_below(self.root, closed.companion.parent)

    def sign(self, content: Mapping[str, Any], account: str, patient_id: str | None) -> dict[str, Any]:
        assert self._evidence is not None, "without a key nothing can be closed"  # noqa: S101
        return self._evidence.signed(self._kind, content, account, patient_id)

    def _opened(self, written: Mapping[str, Any]) -> dict[str, Any]:
        """What a companion says, with job.json as an object."""
        return self._evidence.opened(written) if self._evidence else dict(written)

    def _believes(self, content: Mapping[str, Any], account: str, patient_id: str | None) -> bool:
        return self._evidence is not None and self._evidence.believes(self._kind, content, account, patient_id)

    def _believes_itself(self, content: Mapping[str, Any], written: Mapping[str, Any]) -> bool:
        """True if a companion was signed for the patient that it names."""
        job_file = content.get("job_file")
        named = {**content, **(job_file if isinstance(job_file, dict) else {})}
        return self._believes(written, str(named.get("account")), named.get("patient_id"))

    def _report(self, job_id: str) -> None:
        """Say once that a companion is not believed."""
        if job_id not in self._reported and len(self._reported) < _MOST_REPORTED:
            self._reported.add(job_id)
            what = "receipt" if self._kind == "receipt" else "error file"
            log.warning("evidence_not_believed", job=job_id, what=what)

    def _closed_in(self, folder: OpenFolder, only: str | None = None) -> Iterator[ClosedDocument]:
        """What was closed in one folder. `only`: what has the companion of this name."""
        names = set(os.listdir(folder.descriptor))  # noqa: PTH208, by its descriptor
        for name in sorted(names) if only is None else [only]:
            # A file that has a companion is a document, even if its own name looks like a companion's.
            if name.endswith(self._ending) and name != self._ending and name + self._ending not in names:
                written = read_companion(folder.entry(name))
                if is_job_id(written.get("job_id")):
                    yield replace(self._closed_document(folder.path / name, self._opened(written)), written=written)

    def _closed_document(self, companion: Path, content: Mapping[str, Any]) -> ClosedDocument:
        """The document that a companion belongs to."""
        # The companion's name tells it, unless it was cut because it was too long. The error file then knows better.
        job_file = content.get("job_file")
        disk_name = job_file.get("disk_name") if isinstance(job_file, dict) else None
        if isinstance(disk_name, str):
            with suppress(ValueError):  # the file was edited, and the name in it leads elsewhere
                for names in islice(self._names(disk_name, content["job_id"]), _NAMES_SEARCHED):
                    if names[1] == companion.name:
                        document, _, sidecar = map(companion.with_name, names)
                        return ClosedDocument(document, companion, sidecar, content)
        document = companion.with_name(companion.name.removesuffix(self._ending))
        sidecar = companion.with_name(beside(document.name, "", SIDECAR_ENDING))
        return ClosedDocument(document, companion, sidecar, content)

    def _folders(self, account: str, patient_id: str | None, job_id: str) -> list[Path]:
        """Where a document may be closed. Raises ValueError for a name that would lead elsewhere."""
        folder = self.root / one_name(account)
        if patient_id is None:
            return [folder]
        # A document without a patient may have the name that the patient's folder would have.
        return [folder / one_name(patient_id), folder / tagged(patient_id, "-" + job_id[:8])]

    def _names(self, disk_name: str, job_id: str) -> Iterator[tuple[str, str, str]]:
        """The names that a document, its companion and its sidecar may get, without end and in the order of trial."""
        one_name(disk_name)
        for tag in tags(job_id):
            name = tagged(disk_name, tag)
            yield name, beside(name, tag, self._ending), beside(name, tag, SIDECAR_ENDING)

    def _reserve(self, folder: OpenFolder, outcome: Outcome) -> Iterator[ClosedDocument]:
        """Free names, one after the other, each with the companion written: so no other job takes it."""
        content = self.sign(outcome.content, outcome.account, outcome.patient_id)
        for names in self._names(outcome.disk_name, outcome.job_id):
            document, companion, sidecar = (folder.path / name for name in names)
            if any(folder.entry(name).exists() for name in names):
                continue
            draft = folder.entry(OURS + outcome.job_id)
            # Another process may take the companion's name at the same moment: only one of the two can write it.
            with suppress(FileExistsError):
                durable.write_new(folder.entry(companion.name), to_bytes(content), draft, DOCUMENT_MODE)
                yield ClosedDocument(document, companion, sidecar, content, believed=True)

    def _fill(self, folder: OpenFolder, closed: ClosedDocument, outcome: Outcome) -> bool:
        """Move the files beside the companion. False if another program has taken the name that was reserved."""
        draft = folder.entry(OURS + outcome.job_id)
        try:
            _move(outcome.document, folder.entry(closed.document.name), draft, DOCUMENT_MODE)
        except FileExistsError:
            folder.entry(closed.companion.name).unlink(missing_ok=True)
            return False
        with suppress(FileExistsError):
            _move(outcome.sidecar, folder.entry(closed.sidecar.name), draft, _SIDECAR_MODE)
        draft.unlink(missing_ok=True)  # left by a kill during a copy from another file system
        return True

    @contextmanager
    def _made_folder(self, outcome: Outcome) -> Iterator[OpenFolder]:
        """The folder for this outcome, made if need be. Raises NotADirectoryError."""
        durable.make_folder(self.root, _FOLDER_MODE)
        *others, last = self._folders(outcome.account, outcome.patient_id, outcome.job_id)
        with ExitStack() as stack:
            for path in others:
                with suppress(NotADirectoryError):
                    folder = stack.enter_context(opened_below(self.root, path, make=_FOLDER_MODE))
                    break
            else:
                folder = stack.enter_context(opened_below(self.root, last, make=_FOLDER_MODE))
            yield folder


def read_companion(place: Place) -> dict[str, Any]:
    """What a receipt or an error file says; empty if it is missing or was not written by us."""
    with suppress(OSError, JobFileDamaged), os.fdopen(entry(place).open(), "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST_COMPANION:
            content = from_bytes(file.read(_LARGEST_COMPANION))
            return {} if _is_deep(content) else content
    return {}


def _is_deep(content: Mapping[str, Any]) -> bool:
    """True for what is nested deeper than anything of ours. Level by level: it must not need a stack itself."""
    level: list[Any] = [content]
    for _ in range(_DEEPEST_CONTENT):
        inner = [value.values() if isinstance(value, dict) else value for value in level]
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return False
    return True


def _move(source: Place | None, target: Entry, draft: Entry, mode: int) -> None:
    """Move a file, unless there is none or an earlier try has moved it."""
    if source is not None and entry(source).exists():
        _set_mode(source, mode)
        durable.move_new(source, target, draft)


def _set_mode(source: Place, mode: int) -> None:
    """Take from a file in our care whatever rights its sender gave to others."""
    # Not of what lies in an open folder of failed/: it got its mode when it was filed there. Only a file's owner may
    # change its mode, so that another user's file keeps its own: the folders alone then keep others out.
    if isinstance(source, Path) and stat.S_ISREG(source.lstat().st_mode):
        with suppress(PermissionError):
            source.chmod(mode)
