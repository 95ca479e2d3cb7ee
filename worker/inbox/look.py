"""What lies in the inbox and is not taken, found by looking: for a process that is not the watcher.

The watcher knows for how long it has seen a file. Here the file's own times must do, and a second look tells which
files are still being written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from config.settings import Inbox
from tasks.sources.entries import opened_below
from tasks.sources.writers import Writers
from worker.inbox.filter import MOMENTARY, Reason
from worker.inbox.report import LEFT_SECONDS
from worker.inbox.scan import Candidate, Ignored, Scan, scan
from worker.inbox.wholeness import why_not_whole

_LONGEST_LOOK_SECONDS = 10.0
_MOST_QUESTIONS = 100  # each reads a whole document


def look_into(
    inbox: Path,
    accounts: Iterable[str],
    settings: Inbox,
    writers: Writers,
    *,
    is_tried_already: Callable[[Candidate], bool] = lambda _: False,
    now: Callable[[], float] = time.time,
    wait: Callable[[float], None] = time.sleep,
) -> list[Ignored]:
    """Every entry that is left in the inbox, with its reason. Raises OSError if there is no inbox.

    A document that is not whole is named at once. Waits `settle_seconds` if files have come within the last minute.
    `is_tried_already` tells whether an earlier try of the same document is on its way.
    """
    names = list(accounts)
    found = scan(inbox, names, settings.ignore)
    old = {path: each for path, each in found.candidates.items() if _is_old(path, now())}
    changing: list[Ignored] = []
    if len(old) < len(found.candidates):
        wait(min(settings.settle_seconds, _LONGEST_LOOK_SECONDS))
        changing = list(_changed(found, scan(inbox, names, settings.ignore)))
    seen_before = {entry.path for entry in changing}
    waiting = [candidate for path, candidate in old.items() if path not in seen_before and _is_there(path)]
    not_whole = {
        path: reason
        for path in found.candidates
        if path not in seen_before and (reason := _why_not_whole(inbox, path, writers))
    }
    waiting = [each for each in waiting if each.path not in not_whole]
    tried = {each.path for each in islice(waiting, _MOST_QUESTIONS) if is_tried_already(each)}
    # A sidecar that came a moment ago waits for its document, as it should.
    left = [each for each in found.ignored if each.reason not in MOMENTARY or _is_old(each.path, now())]
    return [
        *left,
        *changing,
        *(Ignored(path, found.candidates[path].account, reason) for path, reason in not_whole.items()),
        *(Ignored(each.path, each.account, _reason(each.path in tried)) for each in waiting),
    ]


def _why_not_whole(inbox: Path, path: Path, writers: Writers) -> Reason | None:
    with suppress(FileNotFoundError, NotADirectoryError), opened_below(inbox, path.parent) as folder:
        return why_not_whole(folder.entry(path.name), writers)
    return None


def _reason(tried: bool) -> Reason:
    return Reason.EARLIER_TRY if tried else Reason.WAITING


def _changed(first: Scan, second: Scan) -> Iterator[Ignored]:
    for path, candidate in second.candidates.items():
        before = first.candidates.get(path)
        if before and before.fingerprint != candidate.fingerprint:
            yield Ignored(path, candidate.account, Reason.STILL_CHANGING)


def _is_old(path: Path, now: float) -> bool:
    """Whether an entry has lain here unchanged for a minute. `st_ctime` also tells when it was moved here."""
    try:
        return now - path.lstat().st_ctime >= LEFT_SECONDS
    except OSError:
        return False


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True
