"""The ledger looked through as a whole: orphans found, and mended where that can do no harm.

Nothing of ours makes orphans; a Redis restored from a backup, or a hand in the keys, does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import redis

from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import PREFIX, load_script

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Orphan:
    """Something that belongs to nothing. `what` says how, `id` whose it is or was; `mended` whether that is over."""

    what: str
    id: str
    mended: bool
    advice: str = ""


class Consistency:
    def __init__(self, client: redis.Redis, ledger: Ledger) -> None:
        self._redis = client
        self._ledger = ledger
        self._mend = load_script(client, "mend")

    def orphans(self, *, mend: bool) -> Iterator[Orphan]:
        """Everything that does not fit. With `mend` each is put right under the same look, so no job is disturbed."""
        yield from self._due_entries(mend)
        yield from self._jobs(mend)
        yield from self._index(mend)
        yield from self._names(mend)

    def _due_entries(self, mend: bool) -> Iterator[Orphan]:
        for key in self._redis.scan_iter(PREFIX + "due:*", count=_BATCH):
            lane = str(key).removeprefix(PREFIX + "due:")
            for job_id, _ in self._redis.zscan_iter(str(key), count=_BATCH):
                yield from self._check_job(str(job_id), lane, mend)

    def _jobs(self, mend: bool) -> Iterator[Orphan]:
        for key in self._redis.scan_iter(PREFIX + "job:*", count=_BATCH):
            yield from self._check_job(str(key).removeprefix(PREFIX + "job:"), "", mend)

    def _check_job(self, job_id: str, lane: str, mend: bool) -> Iterator[Orphan]:
        wrong = str(self._mend(args=[PREFIX, job_id, lane, "1" if mend else ""]))
        if wrong:
            yield Orphan(wrong, job_id, mend)

    def _index(self, mend: bool) -> Iterator[Orphan]:
        """Entries of the lists of jobs whose row has left."""
        open_lists = [str(key) for key in self._redis.scan_iter(PREFIX + "open:*")]
        for key in [PREFIX + "jobs", PREFIX + "finished", *open_lists]:
            for job_id, _ in self._redis.zscan_iter(key, count=_BATCH):
                if not self._redis.exists(f"{PREFIX}job:{job_id!s}"):
                    if mend:
                        self._redis.zrem(key, str(job_id))
                    yield Orphan("listed without job", str(job_id), mend)

    def _names(self, mend: bool) -> Iterator[Orphan]:
        """Names held by jobs that are gone: documents of that name would wait for nobody."""
        for key in self._redis.scan_iter(PREFIX + "name:*", count=_BATCH):
            holder = str(self._redis.get(str(key)) or "")
            if holder and not self._ledger.known(holder):
                if mend:
                    self._redis.delete(str(key))
                yield Orphan("name held without job", holder, mend)
