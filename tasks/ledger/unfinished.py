"""Since when jobs have been on their way, read from their rows in the clear: many at once, and nothing is unsealed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import redis

from tasks.ledger import keys
from tasks.model.route import Stage
from tasks.model.times import from_ms

_BATCH = 500
_STAGES = tuple(Stage)
_FIELDS = ("stage", "created_at", *(f"at_{stage}" for stage in _STAGES))


def unfinished_since(client: redis.Redis, job_ids: Sequence[str]) -> Iterator[tuple[str, datetime | None]]:
    """Each of these jobs that the ledger knows, and when it last began, by Redis's clock; None if it has ended.

    A job that a person has started again began then.
    """
    for first in range(0, len(job_ids), _BATCH):
        batch = job_ids[first : first + _BATCH]
        pipe = client.pipeline(transaction=False)
        for job_id in batch:
            pipe.hmget(keys.job(job_id), *_FIELDS)
        for job_id, values in zip(batch, pipe.execute(raise_on_error=False), strict=True):
            row = dict(zip(_FIELDS, values, strict=True)) if isinstance(values, list) else {}
            if row.get("stage"):
                yield job_id, None if Stage(str(row["stage"])).final else _began(row)


def _began(row: Mapping[str, str | None]) -> datetime:
    reached = {stage: float(at) for stage in _STAGES if (at := row[f"at_{stage}"])}
    ended = max((at for stage, at in reached.items() if stage.final), default=0.0)
    since = [at for stage, at in reached.items() if not stage.final and at >= ended]
    return from_ms(min(since, default=float(row["created_at"] or 0)))
