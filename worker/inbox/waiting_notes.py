"""The notes in waiting/: why a document that is in our care is not in the chart yet, and until when it is tried.

Each round compares what should be there with what is there, so that a note which a kill has left goes, and one that is
missing comes. Nothing here is ever read back but the marks that make files notes of ours.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from config.settings import Settings
from tasks.accounts.waiting import WaitingReasons
from tasks.dispatch.waiting import MachinesWaitedFor
from tasks.dispatch.workers import Workers
from tasks.folders import durable
from tasks.folders.job_folder import OURS
from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.folders.notes import WAITING, note_on
from tasks.ledger.clock import ClockReading, LedgerClock
from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import REDIS_ERRORS
from tasks.ledger.unfinished import unfinished_since
from tasks.model.times import from_ms
from tasks.sources.entries import OpenFolder, one_name, opened_below
from tasks.sources.writers import Writers
from tasks.wording.language import Words
from tasks.wording.note import Kind, Note, to_html
from tasks.wording.waiting import WaitingFacts, WaitingReason, explain_waiting, until_when

log = structlog.get_logger()

_FOLDER_MODE = 0o770
_LONGEST_PAUSE_SECONDS = 15.0
_SHORTEST_PAUSE_SECONDS = 1.0
_WORK_SECONDS = 1.0  # the chores of this process must not wait for thousands of notes
_SWEEP_SECONDS = 60.0
_DEEPEST = 2  # waiting/<account>/<patient id>


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A document that has waited for long."""

    job_id: str
    since: datetime
    # The ledger knows its job.
    opened: bool


class WaitingNotes:
    """`run` about once a second; it does something when it is time to.

    `reasons` makes those of one round. `steady` are monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        folders: Folders,
        ledger: Ledger,
        reasons: Callable[[], WaitingReasons],
        *,
        workers: Workers,
        writers: Writers,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._folders = folders
        self._ledger = ledger
        self._clock = LedgerClock(ledger.redis)
        self._reasons = reasons
        self._workers = workers
        self._writers = writers
        self._steady = steady
        self._due_at = self._sweep_at = -math.inf
        # Of each document with a note: when that was last brought up to date, and the folder it is in.
        self._written: dict[str, tuple[float, Path, str]] = {}
        self._put_off = ""

    def run(self) -> None:
        """Bring the notes up to date, if it is time. A disk that refuses is logged once. Raises Redis's errors."""
        if self._steady() < self._due_at:
            return
        after_seconds = self._settings.notes.after_minutes * 60
        self._due_at = self._steady() + min(max(after_seconds / 4, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        try:
            self.update()
            self._put_off = ""
        except OSError as error:
            if type(error).__name__ != self._put_off:
                self._put_off = type(error).__name__
                log.warning("notes_put_off", error=self._put_off)

    def update(self) -> None:
        """Let each document that has waited for long have its note, and no other. Raises Redis's errors and OSError."""
        waiting = {each.job_id: each for each in self._overdue()}
        for job_id in [job_id for job_id in self._written if job_id not in waiting]:
            _, folder, name = self._written.pop(job_id)
            self._remove(job_id, folder, name)
        if self._steady() >= self._sweep_at:
            started = self._steady()
            self._sweep(set(waiting))
            self._sweep_at = started + max(_SWEEP_SECONDS, 100 * (self._steady() - started))
        if not waiting:
            return
        clock, machines = self._clock.read(), MachinesWaitedFor(self._ledger.redis, self._workers)
        reasons = self._reasons()
        until = self._steady() + _WORK_SECONDS
        # Those without a note first, then those whose note is oldest.
        refused: OSError | None = None
        for each in sorted(waiting.values(), key=lambda each: self._written.get(each.job_id, (-math.inf,))[0]):
            try:
                self._write(each, clock, machines, reasons)
            except OSError as error:  # perhaps of one folder alone
                refused = error
            if self._steady() >= until:
                break
        if refused:
            raise refused

    def _overdue(self) -> Iterator[_Waiting]:
        """The documents in our care here that have waited for `notes.after_minutes`."""
        job_ids = self._folders.job_ids() if self._settings.notes.enabled else []
        if not job_ids:
            return
        patience = timedelta(minutes=self._settings.notes.after_minutes)
        now = from_ms(self._clock.read().wall_ms)
        known = dict(unfinished_since(self._ledger.redis, job_ids))
        for job_id in job_ids:
            if job_id not in known:
                # Its job waits to be opened. This machine's clock alone tells since when.
                with suppress(OSError):
                    received = self._folders.read_job_file(job_id).received_at
                    if datetime.now(UTC) - received >= patience:
                        yield _Waiting(job_id, received, opened=False)
            elif (since := known[job_id]) and now - since >= patience:
                yield _Waiting(job_id, since, opened=True)

    def _write(
        self, waiting: _Waiting, clock: ClockReading, machines: MachinesWaitedFor, reasons: WaitingReasons
    ) -> None:
        job_id = waiting.job_id
        try:
            job_file = self._folders.read_job_file(job_id)
            facts = self._facts(waiting, clock, machines, reasons)
            folder = self._folder(job_file)
        except REDIS_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001, one document's must not hold up the others; its words may name the patient
            log.info("note_not_written", job=job_id, error=type(error).__name__)
            return
        if facts is None:
            return
        note = self._note(waiting, job_file, facts)
        words = Words(self._settings.language_of(note.account))
        durable.make_folder(self._folders.waiting, _FOLDER_MODE)
        with opened_below(self._folders.waiting, folder, make=_FOLDER_MODE) as place:
            self._folders.notes.put(
                place,
                job_file.disk_name,
                WAITING,
                job_id,
                {".html": lambda mark: to_html(words, note, mark)},
                place.entry(OURS + job_id),
            )
        self._written[job_id] = self._steady(), folder, job_file.disk_name

    def _facts(
        self, waiting: _Waiting, clock: ClockReading, machines: MachinesWaitedFor, reasons: WaitingReasons
    ) -> WaitingFacts | None:
        """Why it waits; None if it does no more, or nobody knows."""
        if not waiting.opened:
            document = self._folders.document(waiting.job_id)
            written = document is not None and self._writers.has_writer(document)
            return WaitingFacts(WaitingReason.STILL_WRITTEN) if written else None
        job = self._ledger.get(waiting.job_id)
        if job is None or job.stage.final:
            return None
        return reasons.facts(job, clock, machine_is_idle=bool(machines.of_job(job)))

    def _note(self, waiting: _Waiting, job_file: JobFile, facts: WaitingFacts) -> Note:
        account = job_file.document.account
        words = Words(self._settings.language_of(account))
        return Note(
            kind=Kind.WAITING,
            explanation=explain_waiting(words, facts),
            file_name=job_file.disk_name,
            account=account,
            patient_id=job_file.document.patient_id,
            at=waiting.since,
            contact=self._settings.notes.contact,
            until=until_when(words, facts),
            reference=waiting.job_id[:8],
        )

    def _folder(self, job_file: JobFile) -> Path:
        """Raises ValueError for a name that would lead elsewhere."""
        document = job_file.document
        folder = self._folders.waiting / one_name(document.account)
        return folder / one_name(document.patient_id) if document.patient_id else folder

    def _remove(self, job_id: str, folder: Path, disk_name: str) -> None:
        """Remove a document's note, and the folders that it leaves empty."""
        with suppress(FileNotFoundError, NotADirectoryError):
            with opened_below(self._folders.waiting, folder) as place:
                self._folders.notes.remove(place, disk_name, WAITING, job_id)
            self._remove_empty(folder)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._folders.waiting:
            with opened_below(self._folders.waiting, folder.parent) as above:
                try:
                    os.rmdir(folder.name, dir_fd=above.descriptor)
                except OSError:  # something of others is in it
                    return
            folder = folder.parent

    def _sweep(self, waiting: set[str]) -> None:
        """Remove the notes of documents that do not wait any more, whoever has left them."""
        emptied = []
        with suppress(FileNotFoundError), OpenFolder.of(self._folders.waiting) as root:
            for path, folders, names, descriptor in os.fwalk(dir_fd=root.descriptor):
                if path.count("/") >= _DEEPEST:
                    folders.clear()
                place = OpenFolder(descriptor, self._folders.waiting / path)
                for name in names:
                    # Left by a kill while a note was written.
                    if name.startswith(OURS) and name.removeprefix(OURS) not in waiting:
                        place.entry(name).unlink(missing_ok=True)
                        emptied.append(place.path)
                    mark = note_on(place.entry(name)) if WAITING in name else None
                    if mark and mark.job_id not in waiting and self._folders.notes.remove_note(place.entry(name)):
                        emptied.append(place.path)
        for folder in emptied:
            with suppress(FileNotFoundError, NotADirectoryError):
                self._remove_empty(folder)
