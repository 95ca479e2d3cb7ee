"""Checks whether the entries of the whole ledger fit together, and mends them where that is safe.

chartpost leaves none that do not fit. A Redis that was restored from a backup may have them, or one that a person
edited.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import redis

from tasks.ledger import keys
from tasks.ledger.codec import SEALED_PARTS
from tasks.ledger.key_types import all_wrong_keys, command_to_look, set_aside
from tasks.ledger.keys import PREFIX
from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import error_code, is_outage
from tasks.ledger.script_loader import load_script

_BATCH = 500
MEND = "`chartpost check --deep` sets it aside and makes its entries again"


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
        yield from self._wrong_keys(mend)
        for job_id, lane in self._due_entries():
            yield from self._checked(job_id, lane, mend)
        for key in self._redis.scan_iter(keys.job("*"), count=_BATCH):
            yield from self._checked(str(key).removeprefix(keys.job("")), "", mend)
        yield from self._listed_without_job(mend)
        yield from self._names_without_job(mend)
        yield from self._sealed_without_job(mend)

    def make_due_again(self) -> int:
        """Give each job with work left its due entry, if it has none. Returns how many had none."""
        jobs = (str(key).removeprefix(keys.job("")) for key in self._redis.scan_iter(keys.job("*"), count=_BATCH))
        return sum(wrong.what == "job without due" for job_id in jobs for wrong in self._checked(job_id, "", mend=True))

    def _due_entries(self) -> Iterator[tuple[str, str]]:
        """The job's id and the lane of each."""
        for key in self._redis.scan_iter(keys.due("*"), count=_BATCH):
            for job_id, _ in self._redis.zscan_iter(str(key), count=_BATCH):
                yield str(job_id), str(key).removeprefix(keys.due(""))

    def _wrong_keys(self, mend: bool) -> Iterator[Inconsistency]:
        """First: what follows reads them. Those that are set aside have their entries made again by what follows."""
        for wrong in list(all_wrong_keys(self._redis)):
            if not mend:
                yield Inconsistency("key of the wrong type", wrong.key, False, f"{wrong}: {MEND}")
            for name in set_aside(self._redis, [wrong]) if mend else ():
                look = command_to_look(name, wrong.found)
                yield Inconsistency(f"{wrong}; set aside, look at it with `{look}` and delete it", wrong.key, True)

    def _checked(self, job_id: str, lane: str, mend: bool) -> Iterator[Inconsistency]:
        try:
            wrong = str(self._check_job(args=[PREFIX, job_id, lane, "1" if mend else ""]))
        except redis.ResponseError as error:
            if is_outage(error):
                raise
            wrong, mend = f"it cannot be examined ({error_code(error)})", False
        if wrong:
            yield Inconsistency(wrong, job_id, mend)

    def _listed_without_job(self, mend: bool) -> Iterator[Inconsistency]:
        open_lists = [str(key) for key in self._redis.scan_iter(keys.open_jobs("*"))]
        for key in [keys.JOBS, keys.FINISHED, *open_lists]:
            for job_id, _ in self._redis.zscan_iter(key, count=_BATCH):
                if not self._ledger.known(str(job_id)):
                    if mend:
                        self._redis.zrem(key, str(job_id))
                    yield Inconsistency("listed without job", str(job_id), mend)

    def _names_without_job(self, mend: bool) -> Iterator[Inconsistency]:
        # A name that is held by a job that is gone is never given back: documents of that name would wait for ever.
        for key in self._redis.scan_iter(keys.name("*"), count=_BATCH):
            holder = str(self._redis.get(str(key)) or "")
            if holder and not self._ledger.known(holder):
                if mend:
                    self._redis.delete(str(key))
                yield Inconsistency("name held without job", holder, mend)

    def _sealed_without_job(self, mend: bool) -> Iterator[Inconsistency]:
        # Nothing reads it any more, and it tells about a patient.
        for part in SEALED_PARTS:
            for key in self._redis.scan_iter(keys.sealed(part, "*"), count=_BATCH):
                job_id = str(key).removeprefix(keys.sealed(part, ""))
                if not self._ledger.known(job_id):
                    if mend:
                        self._redis.delete(str(key))
                    yield Inconsistency("sealed without job", job_id, mend)
