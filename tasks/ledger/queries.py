"""Lists jobs: by state, account and code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from tasks.ledger import keys
from tasks.ledger.ledger import Ledger
from tasks.model.job import Job
from tasks.model.route import Stage

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs to list; None stands for all."""

    state: str | None = None
    account: str | None = None
    code: str | None = None
    # Whether a person has dismissed the failure.
    dismissed: bool | None = None

    def fits(self, state: str | None, account: str | None, code: str | None, *, dismissed: bool = False) -> bool:
        return (
            self.state in (None, state)
            and self.account in (None, account)
            and self.code in (None, code)
            and self.dismissed in (None, dismissed)
        )


class LedgerQueries:
    def __init__(self, ledger: Ledger) -> None:
        self._redis = ledger.redis
        self._ledger = ledger

    def jobs(self, wanted: Wanted) -> Iterator[Job]:
        """The jobs that fit, oldest first."""
        for job_id in self._fitting(wanted):
            # Checked again, since the job may have moved since its fields were read.
            job = self._ledger.get(job_id)
            if job and wanted.fits(job.stage, job.account, job.code, dismissed=job.dismissal is not None):
                yield job

    def _fitting(self, wanted: Wanted) -> Iterator[str]:
        """Ids by the fields in the clear: to unseal a row costs much more, so most rows are left sealed."""
        # The smallest index that has them all.
        if wanted.state and Stage(wanted.state).final:
            # Also of failed jobs that are still searched for. The index tells when a job ended, and not when it came.
            ended = sorted(self._read(keys.FINISHED, wanted))
            yield from (job_id for _, job_id in ended)
        elif wanted.account and wanted.state:
            yield from (job_id for _, job_id in self._read(keys.open_jobs(wanted.account), wanted))
        else:
            yield from (job_id for _, job_id in self._read(keys.JOBS, wanted))

    def _read(self, index: str, wanted: Wanted) -> Iterator[tuple[int, str]]:
        """When each job came in, and its id, in the order of the index."""
        # Read whole: an index that changes while it is read in parts would give a job twice or never.
        ids = (str(job_id) for job_id in self._redis.zrange(index, 0, -1))
        while batch := list(islice(ids, _BATCH)):
            pipe = self._redis.pipeline(transaction=False)
            for job_id in batch:
                pipe.hmget(keys.job(job_id), "stage", "account", "code", "created_at", "dismissed")
            for job_id, (stage, account, code, created_at, dismissed) in zip(batch, pipe.execute(), strict=True):
                if stage and wanted.fits(stage, account, code, dismissed=bool(dismissed)):
                    yield int(created_at), job_id
