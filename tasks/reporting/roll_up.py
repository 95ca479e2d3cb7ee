"""The counts of each day, kept longer than its jobs: `chartpost:counts:<day>`, a hash without a patient.

A day is one of UTC, so that workers in several time zones write the same. It is rolled up once it is over, from the
list of jobs that have ended, and its counts never become fewer:

- Repeated, or run by two workers at once, it writes the same counts. They replace what is there only if they are more.
- The hash is written by one transaction, so a kill leaves the day as it was.
- A job that is sent again later ends once more, on another day: each end is counted on its own day. One that is sent
  again before its day was rolled up counts by its last end alone.
- If Redis's clock was ahead, days that had not come were counted too early. When more has ended on them, as the list
  tells, they are counted again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import redis

from tasks.ledger import keys
from tasks.ledger.redis import is_outage
from tasks.model.times import from_ms, to_ms
from tasks.reporting.counts import Counts
from tasks.reporting.ended_jobs import EndedJobs

_DAY_SECONDS = 86_400
_DAY_MS = 1000 * _DAY_SECONDS
_LEAST_SECONDS = _DAY_SECONDS  # of a day that a wrong clock has put far back
_LISTED, _DOCUMENTS = "listed", "documents"  # no account's fields begin so: theirs have a colon


class RollUp:
    def __init__(self, client: redis.Redis, *, counts_days: int) -> None:
        self._redis = client
        self._counts_days = counts_days
        self._ended = EndedJobs(client)

    def run(self) -> list[str]:
        """Count the days that are over and not counted yet. Returns the days that were written.

        Raises RedisError, for the key of a day that has become another type only when all other days are counted.
        """
        written, wrong_key = [], None
        for day in self._days():
            try:
                if self._is_news(day) and self._count(day):
                    written.append(day.isoformat())
            except redis.ResponseError as error:
                if is_outage(error):
                    raise
                wrong_key = error
        if wrong_key:
            raise wrong_key
        return written

    def _days(self) -> Iterator[date]:
        """The days that are over by Redis's clock and on which something ended, as far as it is still listed."""
        today, lowest = self._now().date(), "-inf"
        while first := self._redis.zrangebyscore(keys.FINISHED, lowest, "+inf", start=0, num=1, withscores=True):
            day = from_ms(first[0][1]).date()
            if day >= today:
                return
            yield day
            lowest = str(_ms(day) + _DAY_MS)

    def _is_news(self, day: date) -> bool:
        return self._listed(day) > int(self._redis.hget(keys.counts(day), _LISTED) or 0)

    def _listed(self, day: date) -> int:
        return int(self._redis.zcount(keys.FINISHED, _ms(day), f"({_ms(day) + _DAY_MS}"))

    def _count(self, day: date) -> bool:
        listed = self._listed(day)  # first: what ends meanwhile is news for the next time
        counts = Counts()
        for job in self._ended.between(_ms(day), _ms(day) + _DAY_MS):
            counts.add(job)
        return self._write(day, listed, counts)

    def _write(self, day: date, listed: int, counts: Counts) -> bool:
        """True if they were more than what was there."""
        key, fields = keys.counts(day), {_DOCUMENTS: counts.total, **counts.fields()}
        seconds = int((_midnight(day) - self._now()).total_seconds()) + self._counts_days * _DAY_SECONDS
        with self._redis.pipeline() as pipe:
            while True:
                pipe.watch(key)  # type: ignore[no-untyped-call]  # redis-py leaves out its types
                more = counts.total > int(pipe.hget(key, _DOCUMENTS) or 0)
                pipe.multi()
                if more:
                    pipe.delete(key)
                    pipe.hset(key, mapping={name: str(number) for name, number in fields.items()})
                pipe.hset(key, _LISTED, str(listed))
                pipe.expire(key, max(_LEAST_SECONDS, seconds))
                try:
                    pipe.execute()
                except redis.WatchError:  # another worker has written it meanwhile
                    continue
                return more

    def _now(self) -> datetime:
        return datetime.fromtimestamp(int(self._redis.time()[0]), UTC)


def read_counts(client: redis.Redis, days: list[date]) -> dict[date, Counts]:
    """What is kept of these days; without those that were not rolled up."""
    with client.pipeline(transaction=False) as pipe:
        for day in days:
            pipe.hgetall(keys.counts(day))
        found = pipe.execute() if days else []
    return {
        day: Counts.from_fields({str(name): str(value) for name, value in fields.items()})
        for day, fields in zip(days, found, strict=True)
        if fields
    }


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _ms(day: date) -> int:
    return to_ms(_midnight(day))
