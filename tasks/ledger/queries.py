"""Read-only questions to the ledger: which jobs there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import PREFIX
from tasks.model.job import Job
from tasks.model.route import Stage

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs are asked for; None stands for all."""

    state: str | None = None
    account: str | None = None
    code: str | None = None

    def fits(self, state: str | None, account: str | None, code: str | None) -> bool:
        asked = ((self.state, state), (self.account, account), (self.code, code))
        return all(wanted is None or wanted == is_ for wanted, is_ in asked)


class LedgerQueries:
    def __init__(self, ledger: Ledger) -> None:
        self._redis = ledger.redis
        self._ledger = ledger

    def jobs(self, wanted: Wanted) -> Iterator[Job]:
        """The jobs that fit, in the order in which they came in."""
        ids = self._ids(wanted)
        while batch := list(islice(ids, _BATCH)):
            for job_id in self._fitting(batch, wanted):
                job = self._ledger.get(job_id)
                if job and wanted.fits(job.stage, job.account, job.code):
                    yield job

    def _ids(self, wanted: Wanted) -> Iterator[str]:
        """Candidates, from the smallest index that holds them all."""
        if wanted.account and wanted.state and not Stage(wanted.state).final:
            index = PREFIX + "open:" + wanted.account
        else:
            index = PREFIX + "jobs"
        # All at once: an index that changes while it is read in parts would show jobs twice or never.
        return (str(job_id) for job_id in self._redis.zrange(index, 0, -1))

    def _fitting(self, ids: Sequence[str], wanted: Wanted) -> list[str]:
        """Those whose rows fit by what stands there in the clear; the others are not even opened."""
        pipe = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(PREFIX + "job:" + job_id, "stage", "account", "code")
        rows = zip(ids, pipe.execute(), strict=True)
        return [job_id for job_id, (stage, account, code) in rows if stage and wanted.fits(stage, account, code)]
