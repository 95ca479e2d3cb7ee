"""A ledger in memory: it records which jobs the inbox opens, and can be away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from config.settings import Inbox
from tasks.folders.claims import Claims
from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused
from tasks.sources.writers import Writers
from worker.inbox.claim import InboxClaims
from worker.inbox.events import ChangeEvents
from worker.inbox.name_patterns import name_readers
from worker.inbox.opening import JobOpener, LedgerAway
from worker.inbox.watcher import Watcher

ACCOUNTS = ("north_clinic", "south_clinic")
MAX_BYTES = 1000
PATIENCE_SECONDS = 60.0  # with a watcher that hangs; no test passes or fails by how slow the machine is


@dataclass
class RecordingLedger(JobOpener):
    """`away` refuses everything; `away_after` everything after so many calls that went well.

    A job that it was asked about and did not know is in `orphans_opened` when it is opened; any other in `opened`.
    """

    folders: Folders
    away: bool = False
    away_after: int = 1 << 60
    opened: dict[str, JobFile] = field(default_factory=dict)
    refused: dict[str, JobFile] = field(default_factory=dict)
    orphans_opened: dict[str, JobFile] = field(default_factory=dict)
    failed_before: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    conflicting_key: str = ""
    poison: str = ""
    max_bytes: int = MAX_BYTES
    meanwhile: Callable[[], object] = lambda: None  # called when it is asked for an earlier job

    def is_known(self, job_id: str) -> bool:
        self._answer()
        if job_id in self.opened or job_id in self.orphans_opened:
            return True
        self.unknown.add(job_id)
        return False

    def close_ended(self, job_file: JobFile) -> bool:
        self._answer()
        return False

    def continued(self, job_file: JobFile, path: Path) -> JobFile | None:
        self._answer()
        assert path.exists()
        self.meanwhile()
        job_id = self.failed_before.get(job_file.document.file_name)
        return replace(job_file.with_document(round=1), job_id=job_id) if job_id else None

    def check(self, document: Document) -> None:
        if document.size_bytes > self.max_bytes:
            raise DocumentRefused(Code.FILE_TOO_LARGE, "The file is too large.")

    def open(self, job_file: JobFile, path: Path, *, new: bool = False) -> None:
        self._answer()
        assert path.exists()
        if path.name == self.poison:
            raise UnicodeError("an unexpected error about Erika Muster")
        if job_file.document.idempotency_key and job_file.document.idempotency_key == self.conflicting_key:
            raise DocumentRefused(Code.INVALID_REQUEST, "This key was used for another document.")
        (self.orphans_opened if job_file.job_id in self.unknown else self.opened)[job_file.job_id] = job_file

    def open_refused(self, job_file: JobFile, path: Path) -> None:
        """Opens the job and closes it at once, as a worker would soon."""
        self._answer()
        job_id, refused = job_file.job_id, job_file.refused
        assert refused
        self.refused[job_id] = job_file
        error = {
            "job_id": job_id,
            "file_name": job_file.document.file_name,
            "code": refused.code,
            "message": refused.message,
        }
        Outcomes(self.folders).fail(job_id, job_file.document.account, job_file.document.patient_id, error)

    def _answer(self) -> None:
        self.away_after -= 1
        if self.away or self.away_after < 0:
            raise LedgerAway


def pseudonym(*parts: str) -> str:
    return f"{hash(parts):x}"


def inbox(*, settle_seconds: float = 0.1, rescan_seconds: float = 60.0, polling: bool = False, **more: Any) -> Inbox:
    return Inbox(settle_seconds=settle_seconds, rescan_seconds=rescan_seconds, polling=polling, **more)


def watcher(
    folders: Folders,
    ledger: RecordingLedger,
    settings: Inbox,
    stop: threading.Event | None = None,
    events: type[ChangeEvents] = ChangeEvents,
    claims: Claims | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Watcher:
    claims = claims or Claims(folders)
    return Watcher(
        settings,
        accounts=ACCOUNTS,
        folders=folders,
        claims=InboxClaims(
            folders,
            claims,
            ledger,
            writers=Writers(folders.processing),
            name_readers=name_readers(settings.name_patterns),
        ),
        pseudonym=pseudonym,
        stop=stop or threading.Event(),
        clock=clock,
        events=events,
    )


@contextmanager
def watching(
    folders: Folders,
    ledger: RecordingLedger,
    settings: Inbox,
    events: type[ChangeEvents] = ChangeEvents,
    claims: Claims | None = None,
) -> Iterator[None]:
    """A watcher at work in a thread; the error that ends it is raised at the end."""
    stop, died = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            watcher(folders, ledger, settings, stop, events, claims).run()
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


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.02)
