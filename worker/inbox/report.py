"""Logs why a file is left in the inbox, or a folder in processing/: once per file, and without its name."""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from config.redaction import crash_site
from tasks.folders.claims import Damaged
from worker.inbox.filter import EXPECTED, MOMENTARY, Reason
from worker.inbox.scan import Candidate, Ignored

log = structlog.get_logger()

_MOST_SWAPPED = 1000

LEFT_SECONDS = 60.0
"""What has been left for so long is logged and counted. Before, it may be a moment in a sender's work."""
# Not logged for each file: `inbox_paused` says why nothing is taken, and what could not be claimed was logged then.
_LOGGED_OTHERWISE = (Reason.WAITING, Reason.EARLIER_TRY, Reason.NAME_TOO_LONG, Reason.NOT_CLAIMED)


class Report:
    """`pseudonym` turns parts of a path, which name patients, into what may be logged instead."""

    def __init__(
        self, inbox: Path, pseudonym: Callable[..., str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._inbox = inbox
        self._pseudonym = pseudonym
        self._clock = clock
        # Path, and whether its reason is a momentary one -> when it was first left so. A file that is written for long
        # has several momentary reasons by turns.
        self._since: dict[tuple[Path, bool], float] = {}
        self._logged: set[tuple[Path, Reason]] = set()
        self._damaged: set[Damaged] = set()
        self._crashed: set[tuple[str, str]] = set()
        self._swapped: set[Path] = set()
        self.next_at: float | None = None
        """When the next entry will have been left for long enough to be named; None while there is none."""
        self.counts: Mapping[tuple[str, str], int] = {}
        """(account, reason) -> how many entries have been left for a minute."""

    def ignored(self, entries: Sequence[Ignored], *, left_seconds: float = LEFT_SECONDS) -> None:
        """`entries` is everything that the last scan left: an entry that goes and comes back is logged again."""
        now = self._clock()
        keys = {entry: (entry.path, entry.reason in MOMENTARY) for entry in entries}
        self._since = {key: self._since.get(key, now) for key in keys.values()}
        self._logged = {(path, reason) for path, reason in self._logged if (path, reason in MOMENTARY) in self._since}
        counts: Counter[tuple[str, str]] = Counter()
        self.next_at = None
        for entry in entries:
            due_at = self._since[keys[entry]] + left_seconds
            if due_at <= now:
                counts[entry.account, entry.reason] += 1
                self._log(entry)
            elif self.next_at is None or due_at < self.next_at:
                self.next_at = due_at
        self.counts = counts

    def held_back(self, candidate: Candidate, why: Mapping[str, str]) -> None:
        log.warning("document_held_back", account=candidate.account, entry=self._entry(candidate.path), **why)

    def swapped(self, candidate: Candidate) -> None:
        """A link or a file stands where the candidate's folder was. Said once for each folder."""
        folder = candidate.path.parent
        if folder not in self._swapped and len(self._swapped) < _MOST_SWAPPED:
            self._swapped.add(folder)
            log.warning("inbox_folder_swapped", account=candidate.account, entry=self._entry(folder))

    def crashed(self, job_id: str, error: Exception) -> None:
        site = crash_site(error)
        if (job_id, site["place"]) not in self._crashed:
            log.error("document_not_recovered", job=job_id, **site)
            self._crashed.add((job_id, site["place"]))

    def damaged(self, folders: Sequence[Damaged]) -> None:
        for folder in folders:
            if folder not in self._damaged:
                log.error("job_folder_not_understood", job=folder.job_id, reason=folder.reason)
                self._damaged.add(folder)

    def _log(self, entry: Ignored) -> None:
        if (entry.path, entry.reason) in self._logged or entry.reason in _LOGGED_OTHERWISE:
            return
        self._logged.add((entry.path, entry.reason))
        log_ignored = log.info if entry.reason in EXPECTED else log.warning
        pseudonym = self._entry(entry.path)
        log_ignored("inbox_entry_ignored", account=entry.account, entry=pseudonym, reason=entry.reason)

    def _entry(self, path: Path) -> str:
        return self._pseudonym("inbox", *path.relative_to(self._inbox).parts)


def name_of_error(error: OSError) -> str:
    """What the system said, such as ENOSPC. The error's own words quote the path, and so the patient."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


def why_not_claimed(error: OSError) -> Reason:
    return Reason.NAME_TOO_LONG if error.errno == errno.ENAMETOOLONG else Reason.NOT_CLAIMED
