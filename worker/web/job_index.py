"""What the pages search: of each job in Redis a few fields, kept in this process and brought up to date when asked.

A row tells its patient by an HMAC, and its file's name is sealed, so that Redis can search neither. Reading all rows
for each page would take seconds. Here they are read once, and then only what is new. It holds file names in memory, and
at most MOST_JOBS jobs, the newest; older ones are found by their id.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import redis

from tasks.ledger import keys
from tasks.ledger.codec import JobCodec
from tasks.ledger.ledger import Ledger
from tasks.ledger.script_loader import load_script
from tasks.model.job import Job
from tasks.model.route import Stage

MOST_JOBS = 50_000

_FRESH_SECONDS = 1.0
_BATCH = 500
_FINAL = frozenset(str(stage) for stage in Stage if stage.final)
_Item = TypeVar("_Item")
_REREAD = 2000  # ended jobs that may change: the newest of those that were not delivered


@dataclass(slots=True)
class Entry:
    """A job as the index knows it. `stage` is None while it has not ended."""

    job_id: str
    # Milliseconds since the epoch, by Redis's clock, as `ended_at`.
    created_at: int
    account: str
    # The HMAC of account and patient (`JobCodec`).
    patient: str
    # In lower case; empty if it could not be unsealed.
    file_name: str
    ended_at: int | None = None
    stage: str | None = None
    code: str | None = None
    dismissed: bool = False

    @property
    def needs_attention(self) -> bool:
        return self.stage == Stage.FAILED and not self.dismissed


@dataclass(slots=True)
class Counted:
    """Of one account: its documents that were delivered in a time, and its failures that need attention now."""

    delivered: int = 0
    attention: int = 0


@dataclass(frozen=True, slots=True)
class Search:
    """Which jobs to find; None or empty stands for all."""

    accounts: Collection[str]
    # Account -> the HMAC of the patient there.
    patients: Mapping[str, str] | None = None
    # Part of a file's name, in any case.
    file_name: str = ""
    # From then on and before then, in milliseconds: when it came in.
    since: int | None = None
    until: int | None = None
    # A final stage; "open": not ended; "attention": failed, and nobody has dealt with it.
    state: str = ""
    # Failed with one of these.
    codes: Collection[str] | None = None

    def fits(self, entry: Entry) -> bool:
        return (
            entry.account in self.accounts
            and (self.patients is None or self.patients.get(entry.account) == entry.patient)
            and (not self.file_name or self.file_name in entry.file_name)
            and (self.since is None or entry.created_at >= self.since)
            and (self.until is None or entry.created_at < self.until)
            and self._is_in_state(entry)
            and (self.codes is None or entry.code in self.codes)
        )

    def _is_in_state(self, entry: Entry) -> bool:
        match self.state:
            case "":
                return True
            case "open":
                return entry.stage is None
            case "attention":
                return entry.needs_attention
        return entry.stage == self.state


class JobIndex:
    def __init__(
        self,
        client: redis.Redis,
        codec: JobCodec,
        *,
        most_jobs: int = MOST_JOBS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = client
        self._codec = codec
        self._read_states = load_script(client, "read_states", "worker.web")
        self._find_record = load_script(client, "find_record", "worker.web")
        self._most_jobs = most_jobs
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._newest = 0
        self._last_ended = 0
        self._ended = 0
        self._fresh_until = 0.0

    def find(self, search: Search, most: int, skip: int = 0) -> Sequence[Entry]:
        """The jobs that fit, newest first. Raises REDIS_ERRORS, as all of these do."""
        with self._lock:
            self._refresh()
            return list(islice(self._fitting(search), skip, skip + most))

    def find_and_count(self, search: Search, most: int) -> tuple[Sequence[Entry], int]:
        """The newest of the jobs that fit, and how many fit."""
        with self._lock:
            self._refresh()
            fitting = list(self._fitting(search))
            return fitting[:most], len(fitting)

    def count_by_code(self, search: Search) -> Mapping[tuple[str, str], int]:
        """(Account, code) -> how many of the jobs that fit ended so. The code is empty where none is known."""
        with self._lock:
            self._refresh()
            return Counter((entry.account, entry.code or "") for entry in self._fitting(search))

    def counted_since(self, since: int) -> Mapping[str, Counted]:
        """Account -> its counts, of those delivered from then on. One walk for all accounts."""
        counts: defaultdict[str, Counted] = defaultdict(Counted)
        with self._lock:
            self._refresh()
            for entry in self._entries.values():
                if entry.stage == Stage.DELIVERED:
                    if entry.ended_at and entry.ended_at >= since:
                        counts[entry.account].delivered += 1
                elif entry.needs_attention:
                    counts[entry.account].attention += 1
        return counts

    def with_beginning(self, beginning: str, accounts: Collection[str]) -> Sequence[str]:
        """The ids that begin so, newest first."""
        with self._lock:
            self._refresh()
            fitting = (entry for entry in reversed(self._entries.values()) if entry.job_id.startswith(beginning))
            return [entry.job_id for entry in fitting if entry.account in accounts]

    def with_record(self, record_id: str, accounts: Collection[str], ledger: Ledger) -> Job | None:
        """The job that a record of the provider proves. Redis looks at the records of each patient."""
        with self._lock:
            self._refresh()
            entries = [entry for entry in reversed(self._entries.values()) if entry.account in accounts]
        # Which jobs a record proves is kept for a patient, or for a whole account (`Job.scope`).
        scopes = dict.fromkeys(entry.patient for entry in entries)
        scopes |= dict.fromkeys(ledger.seal.lookup("scope", account) for account in accounts)
        for batch in _batches(list(scopes)):
            job_id = self._find_record(args=[keys.PREFIX, record_id, json.dumps(batch)])
            if job_id and (job := ledger.get(str(job_id))):
                return job
        return None

    def forget_freshness(self) -> None:
        """Somebody has changed a job: the next question reads what is new."""
        with self._lock:
            self._fresh_until = 0.0

    def _fitting(self, search: Search) -> Iterator[Entry]:
        return (entry for entry in reversed(self._entries.values()) if search.fits(entry))

    # --- bringing it up to date --------------------------------------------------------------------------------

    def _refresh(self) -> None:
        now = self._clock()
        if now < self._fresh_until:
            return
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.zcard(keys.JOBS)
            pipe.zrange(keys.JOBS, 0, 0, withscores=True)
            pipe.zcard(keys.FINISHED)
            known, oldest, ended = pipe.execute()
        self._drop_before(oldest[0][1] if oldest else float("inf"))
        if known < len(self._entries):  # another Redis, or one that has forgotten jobs
            self._entries, self._newest, self._last_ended, self._ended = {}, 0, 0, 0
        self._add_new()
        self._note_ended(int(ended))
        self._reread()
        self._fresh_until = self._clock() + _FRESH_SECONDS

    def _drop_before(self, oldest: float) -> None:
        """Drop jobs that have left Redis: entries are in the order in which their jobs came."""
        gone = []
        for job_id, entry in self._entries.items():
            if entry.created_at >= oldest:
                break
            gone.append(job_id)
        for job_id in gone:
            del self._entries[job_id]

    def _add_new(self) -> None:
        """The newest of those that came since the last look."""
        found = self._redis.zrange(
            keys.JOBS,
            "+inf",
            self._newest,
            desc=True,
            byscore=True,
            offset=0,
            num=self._most_jobs,
            withscores=True,
        )
        new = [(str(pair[0]), int(pair[1])) for pair in reversed(found) if str(pair[0]) not in self._entries]
        for batch in _batches(new):
            with self._redis.pipeline(transaction=False) as pipe:
                for job_id, _ in batch:
                    pipe.hmget(keys.job(job_id), "account", "patient")
                    pipe.get(keys.sealed("document", job_id))
                answers = pipe.execute()
            for (job_id, created_at), row, sealed in zip(batch, answers[::2], answers[1::2], strict=True):
                self._newest = max(self._newest, created_at)
                account, patient = row[0], row[1]
                if account:
                    name = self._file_name(job_id, sealed)
                    self._entries[job_id] = Entry(job_id, created_at, str(account), str(patient), name)
        for job_id in list(islice(self._entries, max(0, len(self._entries) - self._most_jobs))):
            del self._entries[job_id]

    def _file_name(self, job_id: str, sealed: str | None) -> str:
        if sealed is None:
            return ""
        return (self._codec.file_name(job_id, sealed) or "").casefold()

    def _note_ended(self, ended: int) -> None:
        """Those that have ended since. One that was sent again is not in that list any more: `_reread` sees that."""
        since = self._last_ended if ended >= self._ended else 0
        found = self._redis.zrangebyscore(keys.FINISHED, since, "+inf", withscores=True)
        self._ended = ended
        changed = []
        for pair in found:
            entry, at = self._entries.get(str(pair[0])), int(pair[1])
            self._last_ended = max(self._last_ended, at)
            if entry and entry.ended_at != at:
                entry.ended_at = at
                changed.append(entry)
        self._read(changed)

    def _reread(self) -> None:
        """What has not been delivered may be sent again, resolved or dismissed."""
        undelivered = (entry for entry in reversed(self._entries.values()) if entry.stage not in (None, "delivered"))
        self._read(list(islice(undelivered, _REREAD)))

    def _read(self, entries: Sequence[Entry]) -> None:
        for batch in _batches(entries):
            # One answer for all: a command for each job, and its answer, would cost this process much more.
            answer = self._read_states(args=[keys.PREFIX, json.dumps([entry.job_id for entry in batch])])
            for entry, (stage, code, dismissed) in zip(batch, json.loads(answer), strict=True):
                if stage in _FINAL:
                    entry.stage, entry.code, entry.dismissed = stage, code or None, dismissed
                else:
                    entry.stage, entry.code, entry.dismissed, entry.ended_at = None, None, False, None


def _batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[at : at + _BATCH] for at in range(0, len(items), _BATCH))
