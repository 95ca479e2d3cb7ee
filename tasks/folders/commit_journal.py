"""The commits of documents that have no `job.json`, on this machine's disk: `data_dir/commits/`.

The document of a Celery call or a stream message stays with its sender. If Redis comes back from an older copy, or
without its last second after a power cut, these files alone tell that it may have been sent (`forgotten_commits`). Each
process writes a file a day; a line is on the disk before the last block of its document leaves.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import structlog

from tasks.folders import durable
from tasks.model.job import Facts
from tasks.model.route import Step

log = structlog.get_logger()

KEPT_DAYS = 8
"""For how long a commit is kept. An older copy of Redis than this must not be restored."""

_ENDING = ".jsonl"


@dataclass(frozen=True, slots=True)
class NotedCommit:
    """One commit. `facts` are sealed for their job, as in the ledger."""

    # Counts the commits of one ledger. A Redis whose count is smaller has forgotten this commit.
    number: int
    # The mark of the run of Redis that had it (`forgotten_commits`).
    run: str
    job_id: str
    step: Step
    facts: str
    # It is certain that the commit led to nothing.
    undone: bool = False


class CommitJournal:
    """`seal_facts` seals the facts of a job. Threads may share a journal."""

    def __init__(
        self,
        folder: Path,
        seal_facts: Callable[[str, Facts], str],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folder = folder
        self._seal_facts = seal_facts
        self._now = now
        self._lock, self._sync_lock = threading.Lock(), threading.Lock()
        self._file: int | None = None
        self._day: date | None = None
        self._written = self._synced = 0
        self._unusable = False

    def note(self, number: int, run: str, job_id: str, step: Step, facts: Facts, *, undone: bool = False) -> None:
        """Write a commit down, durably unless it is `undone`. Raises OSError.

        A worker whose `data_dir` cannot be written keeps no commits, and says so once.
        """
        entry = NotedCommit(number, run, job_id, step, "" if undone else self._seal_facts(job_id, facts), undone)
        line = json.dumps(asdict(entry)).encode() + b"\n"
        with self._lock:
            file = self._open()
            if file is None:
                return
            os.write(file, line)
            self._written += 1
            mine = self._written
        if not undone:
            self._sync(mine)

    def entries(self, *, after: int, not_of_run: str) -> list[NotedCommit]:
        """The last commit of each job, of those with a larger number and from other runs of Redis; in their order."""
        found: dict[str, NotedCommit] = {}
        for entry in sorted(self._all(), key=lambda entry: (entry.number, entry.undone)):
            if entry.undone:
                found.pop(entry.job_id, None)
            elif entry.number > after and entry.run != not_of_run:
                found.pop(entry.job_id, None)
                found[entry.job_id] = entry
        return list(found.values())

    def _all(self) -> Iterator[NotedCommit]:
        for path in sorted(self._folder.glob(f"*{_ENDING}")):
            for line in path.read_bytes().splitlines():
                try:
                    values = json.loads(line)
                    yield NotedCommit(**{**values, "step": Step(values["step"])})
                except (ValueError, TypeError, KeyError):
                    continue  # a power cut has left half a line: its last block had not left

    def _open(self) -> int | None:
        """Today's file; None where none can be made."""
        today = self._now().date()
        if self._unusable or (self._file is not None and today == self._day):
            return self._file
        try:
            durable.make_folder(self._folder, 0o700)
            path = self._folder / f"{today.isoformat()}-{uuid4().hex}{_ENDING}"
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            self._unusable = True
            log.warning("commits_not_kept", error=errno.errorcode.get(error.errno or 0, "OSError"))
            return None
        durable.sync_folder(self._folder)
        with self._sync_lock:
            if self._file is not None:
                os.fsync(self._file)
                os.close(self._file)
            self._file, self._day = file, today
        self._remove_old(today)
        return file

    def _sync(self, mine: int) -> None:
        # One sync serves all lines that were written before it began.
        with self._sync_lock:
            if self._synced < mine and self._file is not None:
                written = self._written
                os.fsync(self._file)
                self._synced = written

    def _remove_old(self, today: date) -> None:
        oldest = (today - timedelta(days=KEPT_DAYS)).isoformat()
        for path in self._folder.glob(f"*{_ENDING}"):
            if path.name < oldest:
                path.unlink(missing_ok=True)
