"""The failures that need a person's attention: those that nobody has taken up again or dismissed.

Beside the rows stands a list of the jobs whose failures were closed. It may hold more than it should, never less: who
counts looks into each row, and removes what needs no attention any more.
"""

from __future__ import annotations

from collections import Counter

import redis

from tasks.ledger import keys
from tasks.model.route import Stage

_BATCH = 500
_DAY_MS = 86_400_000


def note_failure(client: redis.Redis, job_id: str, at_ms: int, kept_days: float) -> None:
    """A failure is closed, at `at_ms`. Its row is kept for so many days, and the list no longer than any row."""
    with client.pipeline(transaction=False) as pipe:
        pipe.zadd(keys.FAILURES, {job_id: at_ms})
        pipe.zremrangebyscore(keys.FAILURES, "-inf", at_ms - (kept_days + 1) * _DAY_MS)
        pipe.execute()


def needing_attention(client: redis.Redis) -> Counter[str]:
    """Account -> how many of its failures need attention."""
    counts: Counter[str] = Counter()
    job_ids = [str(job_id) for job_id in client.zrange(keys.FAILURES, 0, -1)]
    for first in range(0, len(job_ids), _BATCH):
        batch = job_ids[first : first + _BATCH]
        pipe = client.pipeline(transaction=False)
        for job_id in batch:
            pipe.hmget(keys.job(job_id), "stage", "account", "dismissed")
        over = []
        for job_id, row in zip(batch, pipe.execute(raise_on_error=False), strict=True):
            if not isinstance(row, list):  # a key of the wrong type, of which `check` has a line of its own
                continue
            stage, account, dismissed = row
            if stage == Stage.FAILED and not dismissed:
                counts[str(account)] += 1
            else:
                over.append(job_id)
        if over:
            client.zrem(keys.FAILURES, *over)
    return counts
