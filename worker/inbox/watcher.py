"""The inbox watcher: looks, waits until files hold still, claims them, and recovers what was ours already."""

from __future__ import annotations

import errno
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import structlog

from config.redaction import crash_site
from config.settings import Inbox
from tasks.folders.claims import AlreadyInCare, ClaimedDocument, Claims, Damaged
from tasks.folders.durable import ChangedMeanwhile
from tasks.folders.layout import Folders
from worker.inbox.claim import InboxClaims, InboxLedger, LedgerAway
from worker.inbox.events import Changes
from worker.inbox.scan import Candidate, Ignored, Reason, in_turn, look
from worker.inbox.settled import SettledTracker

log = structlog.get_logger()

_WORK_SECONDS = 1.0  # on claims or orphans at a time; then the stop event and the others have their turn
_LOOK_WHILE_BUSY_SECONDS = 2.0
_REST_PER_LOOK = 9  # a look takes as long as there are files waiting: at most a tenth of the time is spent on looks
_LEAST_POLL_SECONDS = 1.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 30.0
_AWAY_SECONDS = 2.0  # asking whether the ledger is back costs next to nothing, and documents wait for the answer
# What is wrong with the whole disk or process and not with one file.
_DISK_REFUSES = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
)


class Watcher:
    """Watches one inbox: `run` until `stop` is set, `once` for what has settled.

    `lookup` turns an account, patient and name into what may be logged in their stead.
    """

    def __init__(
        self,
        inbox: Inbox,
        accounts: Collection[str],
        folders: Folders,
        claims: Claims,
        ledger: InboxLedger,
        lookup: Callable[..., str],
        stop: threading.Event,
        *,
        clock: Callable[[], float] = time.monotonic,
        changes: Callable[..., Changes] = Changes,
    ) -> None:
        self._settings = inbox
        self._accounts = accounts
        self._folders = folders
        self._ledger = ledger
        self._claims = claims
        self._inbox_claims = InboxClaims(folders, claims, ledger)
        self._stop = stop
        self._clock = clock
        self._changes = changes
        self._told = Told(folders.inbox, lookup)
        self._tracker: SettledTracker[Path] = SettledTracker(inbox.settle_seconds)
        self._ready: deque[Candidate] = deque()
        self._held_back: dict[Path, float] = {}
        self._orphans: Iterator[ClaimedDocument | Damaged] | None = None
        self._look_at = self._look_not_before = self._sweep_at = -math.inf

    def run(self) -> None:
        """Watch until told to stop; what has been claimed and not been opened by then is recovered by the next run."""
        self._folders.create()
        polling, poll_seconds = self._settings.polling, max(_LEAST_POLL_SECONDS, self._settings.settle_seconds)
        # Watching begins before the first look, so that no file falls between the two.
        with self._changes(self._folders.inbox, self._stop, polling=polling, poll_seconds=poll_seconds) as changes:
            self._told.about_damaged(self._claims.finish_claims())
            pause = Pause()
            while not self._stop.is_set():
                seconds = pause.after(self._round)
                if seconds:
                    self._stop.wait(seconds)
                elif not self._busy and changes.wait(max(0.0, self._next_at - self._clock())):
                    self._look_at = self._clock()

    def once(self) -> None:
        """Take what is there now and holds still for `settle_seconds`. Raises LedgerAway and OSError."""
        self._folders.create()
        self._told.about_damaged(self._claims.finish_claims())
        self._recover()
        while self._orphans:
            self._recover()
        self._look()
        self._stop.wait(max(0.0, self._settled_at - self._clock()))
        self._look()
        while self._ready and not self._stop.is_set():
            self._claim_ready()

    @property
    def _busy(self) -> bool:
        return bool(self._ready or self._orphans)

    @property
    def _settled_at(self) -> float:
        """When something may have settled; now, if nothing is still to settle."""
        return self._clock() if self._tracker.next_at is None else self._tracker.next_at

    @property
    def _next_at(self) -> float:
        """When there is something to do even if nothing changes."""
        return min(max(self._look_at, self._look_not_before), self._sweep_at)

    def _round(self) -> None:
        """One turn for everything that is due. Raises LedgerAway and OSError."""
        self._recover()
        if self._clock() >= max(self._look_at, self._look_not_before):
            self._look()
        self._claim_ready()

    def _recover(self) -> None:
        """Open again, for a while, the jobs of documents in our care that the ledger does not know."""
        if self._orphans is None:
            if self._clock() < self._sweep_at:
                return
            self._orphans = self._claims.orphans(self._ledger.is_known)
            self._sweep_at = self._clock() + self._settings.rescan_seconds
        try:
            if self._work_through(self._orphans):
                self._orphans = None
        except (LedgerAway, OSError):
            self._orphans, self._sweep_at = None, self._clock()
            raise

    def _work_through(self, orphans: Iterator[ClaimedDocument | Damaged]) -> bool:
        """Whether all of them are done; False when it is others' turn."""
        until = self._clock() + _WORK_SECONDS
        for found in orphans:
            if isinstance(found, Damaged):
                self._told.about_damaged([found])
            else:
                self._reopen(found)
            if self._clock() >= until or self._stop.is_set():
                return False
        return True

    def _reopen(self, held: ClaimedDocument) -> None:
        try:
            self._inbox_claims.recover(held)
        except (LedgerAway, OSError):
            raise
        except Exception as error:  # noqa: BLE001, a fault of ours in one document must not hold up the others
            self._told.about_crash(held.job_id, error)

    def _look(self) -> None:
        """See what is in the inbox, and which of it has settled."""
        started = self._clock()
        found = look(self._folders.inbox, self._accounts)
        self._told.about_ignored(found.ignored)
        settled = self._tracker.look({path: each.mark for path, each in found.candidates.items()}, started)
        self._held_back = {path: at for path, at in self._held_back.items() if path in found.candidates}
        free = (path for path in settled if self._held_back.get(path, started) <= started)
        self._ready = deque(in_turn(found.candidates[path] for path in free))
        rest = _LOOK_WHILE_BUSY_SECONDS if self._ready else self._settings.rescan_seconds
        self._look_at = min(started + rest, self._tracker.next_at or math.inf)
        self._look_not_before = self._clock() + (self._clock() - started) * _REST_PER_LOOK

    def _claim_ready(self) -> None:
        """Claim, for a while, what has settled. What could not be claimed stays in line."""
        until = self._clock() + _WORK_SECONDS
        while self._ready and self._clock() < until and not self._stop.is_set():
            try:
                self._claim(self._ready[0])
            except LedgerAway:
                self._sweep_at = self._clock()  # it may be in our care already
                raise
            self._ready.popleft()

    def _claim(self, candidate: Candidate) -> None:
        """Claim one document, unless it has changed; hold it back for a while if it cannot be claimed now."""
        try:
            self._inbox_claims.claim(candidate)
        except (ChangedMeanwhile, FileNotFoundError):
            return  # the next look sees what is there instead
        except LedgerAway:
            raise
        except AlreadyInCare:
            self._hold_back(candidate, reason="an earlier try of the same document is on its way")
        except OSError as error:
            if error.errno in _DISK_REFUSES:
                raise
            self._hold_back(candidate, reason=_name(error))
        except Exception as error:  # noqa: BLE001, as above
            self._hold_back(candidate, **crash_site(error))

    def _hold_back(self, candidate: Candidate, **why: str) -> None:
        if candidate.path not in self._held_back:
            self._told.about_held_back(candidate, why)
        self._held_back[candidate.path] = self._clock() + self._settings.rescan_seconds


class Told:
    """Says what is left where it is: each thing once as long as it stays, and never by a name or a path."""

    def __init__(self, inbox: Path, lookup: Callable[..., str]) -> None:
        self._inbox = inbox
        self._lookup = lookup
        self._ignored: set[tuple[Path, Reason]] = set()
        self._damaged: set[Damaged] = set()
        self._crashed: set[tuple[str, str]] = set()

    def about_ignored(self, entries: Sequence[Ignored]) -> None:
        for entry in entries:
            if (entry.path, entry.reason) not in self._ignored:
                odd = entry.reason in (Reason.UNKNOWN_ACCOUNT, Reason.NO_ACCOUNT, Reason.UNREADABLE)
                say = log.warning if odd else log.info
                say("inbox_entry_ignored", account=entry.account, entry=self._mark(entry.path), reason=entry.reason)
        self._ignored = {(entry.path, entry.reason) for entry in entries}

    def about_held_back(self, candidate: Candidate, why: Mapping[str, str]) -> None:
        log.warning("document_held_back", account=candidate.account, entry=self._mark(candidate.path), **why)

    def about_crash(self, job_id: str, error: Exception) -> None:
        site = crash_site(error)
        if (job_id, site["place"]) not in self._crashed:
            log.error("document_not_recovered", job=job_id, **site)
            self._crashed.add((job_id, site["place"]))

    def about_damaged(self, folders: Sequence[Damaged]) -> None:
        for folder in folders:
            if folder not in self._damaged:
                log.error("job_folder_not_understood", job=folder.job_id, reason=folder.reason)
                self._damaged.add(folder)

    def _mark(self, path: Path) -> str:
        return self._lookup("inbox", *path.relative_to(self._inbox).parts)


class Pause:
    """Growing rests for as long as the ledger or the disk refuses; each reason is said once."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._reason = ""

    def after(self, act: Callable[[], None]) -> float:
        """Do `act`; returns how many seconds to rest before the next try, 0 if all went well."""
        try:
            act()
        except LedgerAway:
            return self._longer("the ledger is away", _AWAY_SECONDS)
        except OSError as error:
            return self._longer(_name(error), _LONGEST_PAUSE_SECONDS)
        if self._seconds:
            log.info("inbox_resumed")
        self._seconds, self._reason = 0.0, ""
        return 0.0

    def _longer(self, reason: str, longest: float) -> float:
        if reason != self._reason:
            log.warning("inbox_paused", reason=reason)
        self._reason = reason
        self._seconds = min(max(_FIRST_PAUSE_SECONDS, 2 * self._seconds), longest)
        return self._seconds


def _name(error: OSError) -> str:
    """What the system said, without the path that it said it of."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
