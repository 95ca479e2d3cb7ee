"""Checks whether the entries of the whole ledger fit together, and mends them where that is safe.

chartpost leaves none that do not fit. A Redis that was restored from a backup may have them, or one that a person
edited.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import redis

from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import PREFIX, load_script

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Inconsistency:
    """An entry, a job or a document that lacks its counterpart."""

    # What is wrong, such as "due without job".
    what: str
    # Of the job that it names, which may be gone.
    id: str
    mended: bool
    # What a person should do. `chartpost check --deep` gives it with what it does not mend.
    advice: str = ""


class Consistency:
    def __init__(self, client: redis.Redis, ledger: Ledger) -> None:
        self._redis = client
        self._ledger = ledger
        self._check_job = load_script(client, "check_job")

    def inconsistencies(self, *, mend: bool) -> Iterator[Inconsistency]:
        """Everything that does not fit. Safe while workers run: jobs are checked and mended in one script."""
        for job_id, lane in self._due_entries():
            yield from self._checked(job_id, lane, mend)
        for key in self._redis.scan_iter(PREFIX + "job:*", count=_BATCH):
            yield from self._checked(str(key).removeprefix(PREFIX + "job:"), "", mend)
        yield from self._listed_without_job(mend)
        yield from self._names_without_job(mend)

    def _due_entries(self) -> Iterator[tuple[str, str]]:
        """The job's id and the lane of each."""
        for key in self._redis.scan_iter(PREFIX + "due:*", count=_BATCH):
            for job_id, _ in self._redis.zscan_iter(str(key), count=_BATCH):
                yield str(job_id), str(key).removeprefix(PREFIX + "due:")

    def _checked(self, job_id: str, lane: str, mend: bool) -> Iterator[Inconsistency]:
        wrong = str(self._check_job(args=[PREFIX, job_id, lane, "1" if mend else ""]))
        if wrong:
            yield Inconsistency(wrong, job_id, mend)

    def _listed_without_job(self, mend: bool) -> Iterator[Inconsistency]:
        open_lists = [str(key) for key in self._redis.scan_iter(PREFIX + "open:*")]
        for key in [PREFIX + "jobs", PREFIX + "finished", *open_lists]:
            for job_id, _ in self._redis.zscan_iter(key, count=_BATCH):
                if not self._ledger.known(str(job_id)):
                    if mend:
                        self._redis.zrem(key, str(job_id))
                    yield Inconsistency("listed without job", str(job_id), mend)

    def _names_without_job(self, mend: bool) -> Iterator[Inconsistency]:
        # A name that is held by a job that is gone is never given back: documents of that name would wait for ever.
        for key in self._redis.scan_iter(PREFIX + "name:*", count=_BATCH):
            holder = str(self._redis.get(str(key)) or "")
            if holder and not self._ledger.known(holder):
                if mend:
                    self._redis.delete(str(key))
                yield Inconsistency("name held without job", holder, mend)
