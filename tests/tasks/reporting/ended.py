"""Jobs that ended at times of a test's choice: their rows and their places in the list, as moves leave them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import redis

from tasks.ledger import keys

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
NOON = timedelta(hours=12)


def day(days_ago: int) -> datetime:
    """The beginning of a day of UTC."""
    return TODAY - timedelta(days=days_ago)


def ended(
    client: redis.Redis,
    at: datetime,
    *,
    account: str = "north_clinic",
    state: str = "delivered",
    code: str = "",
    seconds: float = 10.0,
    calls: int = 4,
    job_id: str = "",
) -> str:
    """A job that ended then, after so many seconds. With `job_id` one that was there already ends once more."""
    job_id = job_id or str(uuid4())
    ms = int(at.timestamp() * 1000)
    row: dict[str, str | int] = {
        "stage": state,
        "account": account,
        "calls": calls,
        "created_at": ms - int(seconds * 1000),
        "at_received": ms - int(seconds * 1000),
        f"at_{state}": ms,
        # Sealed in a real row: a reader that took it would be noticed.
        "patient": "digest of 4711",
    }
    client.delete(keys.job(job_id))
    if code:
        row["code"] = code
    client.hset(keys.job(job_id), mapping={name: str(value) for name, value in row.items()})
    client.zadd(keys.FINISHED, {job_id: ms})
    client.zadd(keys.JOBS, {job_id: int(row["created_at"])})
    client.sadd(keys.ACCOUNTS, account)
    return job_id


def expire(client: redis.Redis, *job_ids: str) -> None:
    """As after the retention time: the rows first, then what housekeeping removes."""
    for job_id in job_ids:
        client.delete(keys.job(job_id))
        client.zrem(keys.FINISHED, job_id)
        client.zrem(keys.JOBS, job_id)
