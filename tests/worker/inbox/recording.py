"""A ledger that remembers in a dictionary what the inbox tells it, and can be away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from config.settings import Inbox
from tasks.folders.claims import Claims
from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused
from worker.inbox.claim import LedgerAway
from worker.inbox.events import Changes
from worker.inbox.watcher import Watcher

ACCOUNTS = ("north_clinic", "south_clinic")
MAX_BYTES = 1000
PATIENCE_SECONDS = 60.0  # with a watcher that hangs; no test passes or fails by how slow the machine is


@dataclass
class RecordingLedger:
    """`away` refuses everything; `away_after` so many calls that went well."""

    folders: Folders
    away: bool = False
    away_after: int = 1 << 60
    opened: dict[str, JobFile] = field(default_factory=dict)
    refused: dict[str, JobFile] = field(default_factory=dict)
    recovered: dict[str, JobFile] = field(default_factory=dict)
    continued: dict[str, str] = field(default_factory=dict)
    conflicting_key: str = ""
    poison: str = ""
    meanwhile: Callable[[], object] = lambda: None  # done when it is asked about an earlier job

    def is_known(self, job_id: str) -> bool:
        self._answer()
        return job_id in self.opened or job_id in self.recovered

    def earlier(self, job_file: JobFile, path: Path) -> str | None:
        self._answer()
        assert path.exists()
        self.meanwhile()
        return self.continued.get(job_file.file_name)

    def check(self, document: Document) -> None:
        if document.size_bytes > MAX_BYTES:
            raise DocumentRefused(Code.FILE_TOO_LARGE, "The file is too large.")

    def open_inbox(self, job_id: str, job_file: JobFile, path: Path) -> None:
        self._answer()
        assert path.exists()
        if path.name == self.poison:
            raise UnicodeError("what nobody foresaw, of Erika Muster")
        if job_file.idempotency_key and job_file.idempotency_key == self.conflicting_key:
            raise DocumentRefused(Code.INVALID_REQUEST, "This key was used for another document.")
        self.opened[job_id] = job_file

    def open_refused(self, job_id: str, job_file: JobFile, path: Path, refusal: DocumentRefused) -> None:
        """Opens the job and closes it at once, as a worker would soon."""
        self._answer()
        self.refused[job_id] = job_file
        error = {"job_id": job_id, "file_name": job_file.file_name, "code": refusal.code, "message": refusal.message}
        Outcomes(self.folders).fail(job_id, job_file.account, job_file.patient_id, error)

    def recover(self, job_id: str, job_file: JobFile, path: Path) -> None:
        self._answer()
        assert path.exists()
        if path.name == self.poison:
            raise UnicodeError("what nobody foresaw, of Erika Muster")
        self.recovered[job_id] = job_file

    def _answer(self) -> None:
        self.away_after -= 1
        if self.away or self.away_after < 0:
            raise LedgerAway


def lookup(*parts: str) -> str:
    return f"{hash(parts):x}"


def inbox(*, settle_seconds: float = 0.1, rescan_seconds: float = 60.0, polling: bool = False) -> Inbox:
    return Inbox(settle_seconds=settle_seconds, rescan_seconds=rescan_seconds, polling=polling)


def watcher(
    folders: Folders,
    ledger: RecordingLedger,
    settings: Inbox,
    stop: threading.Event | None = None,
    changes: type[Changes] = Changes,
    claims: Claims | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Watcher:
    claims, stop = claims or Claims(folders), stop or threading.Event()
    return Watcher(settings, ACCOUNTS, folders, claims, ledger, lookup, stop, clock=clock, changes=changes)


@contextmanager
def watching(
    folders: Folders,
    ledger: RecordingLedger,
    settings: Inbox,
    changes: type[Changes] = Changes,
    claims: Claims | None = None,
) -> Iterator[None]:
    """A watcher at work in a thread; whatever it dies of is raised at the end."""
    stop, died = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            watcher(folders, ledger, settings, stop, changes, claims).run()
        except BaseException as error:  # noqa: BLE001, raised again below
            died.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
    if died:
        raise died[0]
    assert not thread.is_alive(), "the watcher did not stop"


def wait_until(true: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.02)
