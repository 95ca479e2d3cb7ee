"""Lists jobs, the newest first: by state, account, code, patient and time. Reads no more than what is asked for.

The lists in Redis are read from their newest end in pages (`scripts/list_jobs.lua`), until enough are found. Redis
compares the fields that are in the clear, a patient's digest among them: nothing is unsealed but what is shown.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from tasks.ledger import keys
from tasks.ledger.keys import PREFIX
from tasks.ledger.ledger import Ledger
from tasks.ledger.script_loader import load_script
from tasks.model.job import Job
from tasks.model.route import Stage
from tasks.model.times import to_ms

_FIRST_PAGE = 100  # a short list is most often asked for; the pages grow, since a rare kind needs many
_LARGEST_PAGE = 2000  # Redis does nothing else while it reads one: a few milliseconds
_UNSEALED_AT_ONCE = 500
# A job is found by when it came, in a list that goes by when jobs ended, unless a clock was set back by more than this
# in between.
_CLOCK_SET_MS = 86_400_000
_UNFINISHED = frozenset(str(stage) for stage in Stage if not stage.final)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs to list; None stands for all. Times are milliseconds since 1970, of when a job came in."""

    state: str | None = None
    account: str | None = None
    code: str | None = None
    # Those that have not ended.
    unfinished: bool = False
    # Digests of one patient at each account (`JobCodec.patient_key`).
    patients: frozenset[str] | None = None
    # Digests of one name (`JobCodec.name_key`).
    names: frozenset[str] | None = None
    since_ms: int | None = None
    # The first moment that is too late.
    until_ms: int | None = None

    # Whether a person has dismissed the failure.
    dismissed: bool | None = None

    def fits(self, state: str | None, account: str | None, code: str | None, *, dismissed: bool = False) -> bool:
        """True if a job of this state, account and code is wanted, whenever it came and whoever its patient is."""
        if self.unfinished and state not in _UNFINISHED:
            return False
        return (
            self.state in (None, state)
            and self.account in (None, account)
            and self.code in (None, code)
            and self.dismissed in (None, dismissed)
        )

    def as_json(self) -> str:
        """For `list_jobs.lua`."""
        states = _UNFINISHED & ({self.state} if self.state else _UNFINISHED) if self.unfinished else {self.state}
        allowed = {
            "stage": None if states == {None} else states,
            "account": {self.account} if self.account else None,
            "code": {self.code} if self.code else None,
            "patient": self.patients,
            "name": self.names,
        }
        fields = {field: sorted(map(str, values)) for field, values in allowed.items() if values is not None}
        return json.dumps({**fields, "created_at": ["" if at is None else at for at in (self.since_ms, self.until_ms)]})


class LedgerQueries:
    def __init__(self, ledger: Ledger) -> None:
        self._redis = ledger.redis
        self._ledger = ledger
        self._list_jobs = load_script(ledger.redis, "list_jobs")

    def jobs(self, wanted: Wanted, limit: int | None = None) -> Iterator[Job]:
        """The jobs that fit, the newest first, at most `limit`. In a final state that is the one that ended last."""
        found, ids = 0, self.ids(wanted)
        while limit is None or found < limit:
            most = _UNSEALED_AT_ONCE if limit is None else min(_UNSEALED_AT_ONCE, limit - found)
            batch = list(islice(ids, most))
            if not batch:
                return
            for job in self._ledger.get_all(batch):
                # Checked again, since the job may have moved since its fields were read.
                if wanted.fits(job.stage, job.account, job.code, dismissed=job.dismissal is not None):
                    found += 1
                    yield job

    def oldest_open(self, account: str, before: datetime, most: int) -> list[str]:
        """The ids of an account's jobs that came before then and have not ended, the oldest first."""
        found = self._redis.zrangebyscore(keys.open_jobs(account), "-inf", f"({to_ms(before)}", start=0, num=most)
        return [str(job_id) for job_id in found]

    def ids(self, wanted: Wanted) -> Iterator[str]:
        """As `jobs`, but only the ids, and as of the moment in which each row was read."""
        # A job that ends, is sent again or ends again meanwhile may stand in two lists, or in two places of one.
        given: set[str] = set()
        for job_id in self._listed(wanted):
            if job_id not in given:
                given.add(job_id)
                yield job_id

    def with_prefix(self, prefix: str) -> list[str]:
        """The ids that begin so, in no order. Redis compares them, in one walk over their names."""
        found = self._redis.zscan_iter(keys.JOBS, match=f"{prefix}*", count=5000)
        return sorted({str(job_id) for job_id, _ in found})

    def called(self, file_name: str) -> Iterator[str]:
        """The ids of documents that were sent under this name, the newest first. Opens what is sealed of every job."""
        ids = self.ids(Wanted())
        while batch := list(islice(ids, _UNSEALED_AT_ONCE)):
            for job_id, sealed in zip(batch, self._ledger.sealed_documents(batch), strict=True):
                if sealed and self._ledger.codec.file_name(job_id, sealed) == file_name:
                    yield job_id

    def accounts(self) -> list[str]:
        """Every account that ever had a job."""
        return sorted(str(name) for name in self._redis.smembers(keys.ACCOUNTS))

    def _listed(self, wanted: Wanted) -> Iterator[str]:
        """From the smallest list that has them all."""
        since, until = wanted.since_ms, wanted.until_ms
        if wanted.state and Stage(wanted.state).final:
            # Also of failed jobs that are still searched for. The list tells when a job ended, and not when it came.
            ended_since = None if since is None else since - _CLOCK_SET_MS
            return (job_id for _, job_id in self._pages(keys.FINISHED, wanted, ended_since, None))
        if wanted.unfinished or wanted.state:
            accounts = [wanted.account] if wanted.account else self.accounts()
            lists = (self._pages(keys.open_jobs(account), wanted, since, until) for account in accounts)
            return (job_id for _, job_id in heapq.merge(*lists, reverse=True))
        return (job_id for _, job_id in self._pages(keys.JOBS, wanted, since, until))

    def _pages(self, key: str, wanted: Wanted, since: int | None, until: int | None) -> Iterator[tuple[float, str]]:
        """Score and id of those that fit, by the list's own order."""
        highest = "+inf" if until is None else f"({until}"
        lowest = "-inf" if since is None else str(since)
        size, as_json = _FIRST_PAGE, wanted.as_json()
        while highest:
            last, *found = self._list_jobs(args=[PREFIX, key, highest, lowest, size, as_json])
            yield from ((float(score), str(job_id)) for job_id, score in zip(found[::2], found[1::2], strict=True))
            # By score and not by rank: ranks move when the list changes.
            highest = f"({last}" if last else ""
            size = min(2 * size, _LARGEST_PAGE)
