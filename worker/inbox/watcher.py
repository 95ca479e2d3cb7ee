"""The inbox watcher: scans, waits until files have settled, claims them, and opens the jobs of orphans.

An orphan is a document in our care whose job the ledger does not know, after a kill or a wipe of Redis. One pass does
everything that is due: open orphans, scan, claim. Opening and claiming each stop after a second, so that a thousand
orphans do not delay a new document, nor a thousand documents the stop signal.
"""

from __future__ import annotations

import errno
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from config.redaction import crash_site
from config.settings import Inbox
from tasks.folders.claims import AlreadyInCare, ClaimedDocument, Damaged
from tasks.folders.durable import ChangedMeanwhile
from tasks.folders.layout import Folders
from worker.inbox.claim import InboxClaims
from worker.inbox.events import ChangeEvents
from worker.inbox.filter import Reason
from worker.inbox.opening import LedgerAway
from worker.inbox.outage import OutagePause
from worker.inbox.report import LEFT_SECONDS, Report, name_of_error, why_not_claimed
from worker.inbox.scan import Candidate, Ignored, Scan, in_turn, scan
from worker.inbox.settled import SettledTracker
from worker.inbox.waiting import WaitingDocuments
from worker.inbox.wholeness import NotWhole

log = structlog.get_logger()

_WORK_SECONDS = 1.0
_SCAN_WHILE_BUSY_SECONDS = 2.0
_REST_PER_SCAN = 9  # a scan takes longer the more files wait: at most a tenth of the time is spent on scans
_LEAST_POLL_SECONDS = 1.0
# Faults of the whole disk or process, not of one file: they stop every claim until they are gone.
_DISK_REFUSES = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
)


class Watcher:
    """Watches one inbox: `run` until `stop` is set, `once` for the files that have settled.

    `pseudonym` turns parts of a path into what may be logged instead.
    """

    def __init__(
        self,
        inbox: Inbox,
        *,
        accounts: Collection[str],
        folders: Folders,
        claims: InboxClaims,
        pseudonym: Callable[..., str],
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
        events: Callable[..., ChangeEvents] = ChangeEvents,
    ) -> None:
        self._settings = inbox
        self._accounts = accounts
        self._folders = folders
        self._claims = claims
        self._stop = stop
        self._clock = clock
        self._events = events
        self.report = Report(folders.inbox, pseudonym, clock=clock)
        self._tracker: SettledTracker[Path] = SettledTracker(inbox.settle_seconds)
        self._ready: deque[Candidate] = deque()  # settled, waiting to be claimed
        self._waiting = WaitingDocuments()
        self._held_back: dict[Path, tuple[float, Reason]] = {}  # could not be claimed -> when to try again, and why
        self._orphans: Iterator[ClaimedDocument | Damaged] | None = None  # still to be opened in this sweep
        self._ignored: Sequence[Ignored] = ()  # what the last scan left alone
        self._lone_notes: dict[Path, float] = {}  # when a note of ours was first seen here without its document
        self._scan_at = self._scan_not_before = self._orphans_due_at = -math.inf

    def run(self) -> None:
        """Watch until `stop` is set. What is claimed by then and has no job yet is opened by the next run."""
        self._folders.create()
        polling, poll_seconds = self._settings.polling, max(_LEAST_POLL_SECONDS, self._settings.settle_seconds)
        # Watching begins before the first scan, so that no file falls between the two.
        with self._events(self._folders.inbox, self._stop, polling=polling, poll_seconds=poll_seconds) as events:
            self.report.damaged(self._claims.finish_claims())
            pause = OutagePause()
            while not self._stop.is_set():
                pause_seconds = pause.after(self.pass_once)
                if pause_seconds:
                    self._stop.wait(pause_seconds)
                elif not self._ready and not self._orphans:
                    due_at = min(max(self._scan_at, self._scan_not_before), self._orphans_due_at)
                    if events.wait(max(0.0, due_at - self._clock())):
                        self._scan_at = self._clock()

    def once(self) -> None:
        """Claim what is there now and does not change for `settle_seconds`. Raises LedgerAway and OSError."""
        self._folders.create()
        self.report.damaged(self._claims.finish_claims())
        self._open_orphans()
        while self._orphans:
            self._open_orphans()
        self._scan(once=True)
        if self._tracker.next_at is not None:
            self._stop.wait(max(0.0, self._tracker.next_at - self._clock()))
        self._scan(once=True)
        while self._ready and not self._stop.is_set():
            self._claim_ready(once=True)
        self.report.ignored(self.left_in_the_inbox, left_seconds=0.0)

    @property
    def left_in_the_inbox(self) -> list[Ignored]:
        """What the last scan left alone, and the documents that wait because they are not whole."""
        return [*self._ignored, *self._waiting.ignored]

    def pass_once(self) -> None:
        """Do what is due. Raises LedgerAway and OSError during an outage."""
        self._open_orphans()
        if self._clock() >= max(self._scan_at, self._scan_not_before):
            self._scan()
        self._claim_ready()

    def _open_orphans(self) -> None:
        """For a while, open the jobs of documents in our care that the ledger does not know."""
        if self._orphans is None:
            if self._clock() < self._orphans_due_at:
                return
            self._orphans = self._claims.orphans()
            self._orphans_due_at = self._clock() + self._settings.rescan_seconds
        until = self._clock() + _WORK_SECONDS
        try:
            for orphan in self._orphans:
                if isinstance(orphan, Damaged):
                    self.report.damaged([orphan])
                else:
                    self._open_orphan(orphan)
                if self._clock() >= until or self._stop.is_set():
                    return  # the rest in the next pass
        except (LedgerAway, OSError):
            # The iterator ends with its first error: begin a new one as soon as the outage is over.
            self._orphans, self._orphans_due_at = None, self._clock()
            raise
        self._orphans = None

    def _open_orphan(self, orphan: ClaimedDocument) -> None:
        try:
            self._claims.settle_orphan(orphan)
        except (LedgerAway, OSError):
            raise
        except Exception as error:  # noqa: BLE001, our error in one document must not hold up the others
            self.report.crashed(orphan.job_id, error)

    def _scan(self, *, once: bool = False) -> None:
        """Scan the inbox, and put what has settled in line."""
        started = self._clock()
        found = scan(self._folders.inbox, self._accounts, self._settings.ignore)
        self._waiting.forget_others(found.candidates)
        self._ignored = found.ignored
        fingerprints = {path: candidate.fingerprint for path, candidate in found.candidates.items()}
        settled = self._tracker.observe(fingerprints, started)
        self._held_back = {path: held for path, held in self._held_back.items() if path in found.candidates}
        held_back = {path for path, (at, _) in self._held_back.items() if at > started}
        due = (path for path in settled if path not in held_back and not self._waiting.must_wait(path, started))
        self._ready = deque(in_turn(found.candidates[path] for path in due))
        # A pass that does not come back cannot wait a minute, and does not know what merely takes its time.
        left = found.ignored if once else [*found.ignored, *self._not_taken_yet(found, settled)]
        self.report.ignored(left, left_seconds=0.0 if once else LEFT_SECONDS)
        if not once:
            self._drop_lone_notes(found.lone_notes, started)
        rest = _SCAN_WHILE_BUSY_SECONDS if self._ready else self._settings.rescan_seconds
        next_at = self.report.next_at or math.inf
        self._scan_at = min(started + rest, self._tracker.next_at or math.inf, self._waiting.next_at, next_at)
        self._scan_not_before = self._clock() + (self._clock() - started) * _REST_PER_SCAN

    def _drop_lone_notes(self, notes: Collection[Path], now: float) -> None:
        """Remove our notes that have lain here for a minute without their document: it was taken before they came."""
        self._lone_notes = {path: self._lone_notes.get(path, now) for path in notes}
        for path, since in self._lone_notes.items():
            if now - since >= LEFT_SECONDS:
                self._claims.drop_note(path)

    def _not_taken_yet(self, found: Scan, settled: Collection[Path]) -> Iterator[Ignored]:
        """The documents that lie in the inbox at this moment, each with the reason."""
        not_whole = {entry.path: entry.reason for entry in self._waiting.ignored}
        settled = frozenset(settled)
        for path, candidate in found.candidates.items():
            reason = not_whole.get(path, Reason.WAITING if path in settled else Reason.STILL_CHANGING)
            if path in self._held_back:
                reason = self._held_back[path][1]
            yield Ignored(path, candidate.account, reason)

    def _claim_ready(self, *, once: bool = False) -> None:
        """For a while, claim what has settled. During an outage the document stays in line."""
        until = self._clock() + _WORK_SECONDS
        while self._ready and self._clock() < until and not self._stop.is_set():
            try:
                self._claim(self._ready[0], once=once)
            except LedgerAway:
                self._orphans_due_at = self._clock()  # the document may have been claimed already: it is an orphan then
                raise
            self._ready.popleft()

    def _claim(self, candidate: Candidate, *, once: bool) -> None:
        """Claim a document unless it has changed. One that cannot be claimed now is held back for a while."""
        now = self._clock()
        incomplete_until = self._tracker.since(candidate.path) + self._settings.incomplete_seconds
        self._waiting.remove(candidate.path)
        try:
            out_of_patience = now >= incomplete_until or (once and self._is_old(candidate))
            self._claims.claim(candidate, if_incomplete=out_of_patience)
        except LedgerAway:
            raise
        except NotWhole as wait:
            next_at = incomplete_until if wait.reason is Reason.INCOMPLETE else now + self._settings.settle_seconds
            if wait.reason is Reason.OUTCOME_FILE:  # a note, until somebody writes something else into it
                next_at = math.inf
            self._waiting.add(candidate, wait.reason, next_at)
            self._scan_at = min(self._scan_at, next_at)
            return
        except (ChangedMeanwhile, FileNotFoundError):
            return  # the next scan sees what is there instead
        except NotADirectoryError:
            self.report.swapped(candidate)
            return
        except AlreadyInCare:
            reason, why = Reason.EARLIER_TRY, {"reason": "an earlier try of the same document is on its way"}
        except OSError as error:
            if error.errno in _DISK_REFUSES:
                raise
            reason, why = why_not_claimed(error), {"reason": name_of_error(error)}
        except Exception as error:  # noqa: BLE001, as in _open_orphan
            reason, why = Reason.NOT_CLAIMED, crash_site(error)
        else:
            return
        if candidate.path not in self._held_back:
            self.report.held_back(candidate, why)
        self._held_back[candidate.path] = self._clock() + self._settings.rescan_seconds, reason

    def _is_old(self, candidate: Candidate) -> bool:
        """True for a file that changed long ago by the disk's clock; `once` has no other memory of it."""
        with suppress(FileNotFoundError):
            return time.time() - candidate.path.lstat().st_ctime >= self._settings.incomplete_seconds
        return False
