"""Lists jobs: by state, account and code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import PREFIX
from tasks.model.job import Job
from tasks.model.route import Stage

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs to list; None stands for all."""

    state: str | None = None
    account: str | None = None
    code: str | None = None

    def fits(self, state: str | None, account: str | None, code: str | None) -> bool:
        return self.state in (None, state) and self.account in (None, account) and self.code in (None, code)


class LedgerQueries:
    def __init__(self, ledger: Ledger) -> None:
        self._redis = ledger.redis
        self._ledger = ledger

    def jobs(self, wanted: Wanted) -> Iterator[Job]:
        """The jobs that fit, oldest first."""
        # The smallest index that has them all.
        if wanted.account and wanted.state and not Stage(wanted.state).final:
            index = PREFIX + "open:" + wanted.account
        else:
            index = PREFIX + "jobs"
        # Read whole: an index that changes while it is read in parts would give a job twice or never.
        ids = (str(job_id) for job_id in self._redis.zrange(index, 0, -1))
        while batch := list(islice(ids, _BATCH)):
            # Unsealing a row costs much more than reading three fields in the clear, so most rows are left sealed.
            pipe = self._redis.pipeline(transaction=False)
            for job_id in batch:
                pipe.hmget(PREFIX + "job:" + job_id, "stage", "account", "code")
            for job_id, (stage, account, code) in zip(batch, pipe.execute(), strict=True):
                if not stage or not wanted.fits(stage, account, code):
                    continue
                # Checked again, since the job may have moved since its fields were read.
                job = self._ledger.get(job_id)
                if job and wanted.fits(job.stage, job.account, job.code):
                    yield job
