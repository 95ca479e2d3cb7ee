"""What a feeder does once a minute: it removes what is left of expired jobs, and looks after the clocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import redis
import structlog

from tasks.ledger import keys
from tasks.ledger.clock import ClockReading, LedgerClock
from tasks.ledger.redis import is_outage

log = structlog.get_logger()

_AT_ONCE = 1000
_CLOCK_SET_SECONDS = 5.0


class Housekeeping:
    """`longest_wait_seconds`: no due entry of these lanes is further ahead when all is well."""

    def __init__(
        self, client: redis.Redis, *, lanes: Sequence[str], jobs_days: float, longest_wait_seconds: float
    ) -> None:
        self._redis = client
        self._clock = LedgerClock(client)
        self._lanes = lanes
        self._keep_ms = int(jobs_days * 86_400_000)
        self._longest_wait_ms = int(longest_wait_seconds * 1000)
        self._ahead_ms: int | None = None

    def run(self) -> None:
        clock = self._clock.read()
        self._tell_of_a_set_clock(clock)
        self._mend_due_entries(clock)
        self._forget_expired(clock)
        self._clock.forget_boots()

    def _forget_expired(self, clock: ClockReading) -> None:
        """Rows of finished jobs expire in Redis (EXPIRE). Their entries in sorted sets do not, and are removed here."""
        before = clock.wall_ms - self._keep_ms
        for member in self._redis.zrangebyscore(keys.FINISHED, "-inf", before, start=0, num=_AT_ONCE):
            job_id = str(member)
            if not self._redis.exists(keys.job(job_id)):
                self._redis.zrem(keys.FINISHED, job_id)
                self._redis.zrem(keys.JOBS, job_id)
                self._redis.zrem(keys.CLOSING_GIVEN_UP, job_id)

    def _mend_due_entries(self, clock: ClockReading) -> None:
        """Make due what would wait longer than anything ever waits: its time was taken from another clock.

        A worker of an earlier version does that, which goes by Redis's.
        """
        latest = clock.now_ms + self._longest_wait_ms
        machines = sorted(str(name) for name in self._redis.smembers(keys.MACHINES))
        for lane, machine in product(self._lanes, (None, *machines)):
            due = keys.due(lane, machine)
            try:
                late = self._redis.zrangebyscore(due, f"({latest}", "+inf", start=0, num=_AT_ONCE)
            except redis.ResponseError as error:
                if is_outage(error):
                    raise
                continue  # a key of the wrong type: the feeder skips this lane, and says so
            if late:
                # XX, LT: only what is there still, and only to an earlier time.
                self._redis.zadd(due, dict.fromkeys(map(str, late), clock.now_ms), xx=True, lt=True)
                log.warning("due_entries_mended", lane=lane, count=len(late))

    def _tell_of_a_set_clock(self, clock: ClockReading) -> None:
        before, self._ahead_ms = self._ahead_ms, clock.ahead_ms
        set_by = 0 if before is None else before - clock.ahead_ms
        if abs(set_by) > _CLOCK_SET_SECONDS * 1000:
            # Work goes on by the ledger's own clock. What people read is off until Redis's is right again.
            self._clock.note_set(clock, set_by)
            log.warning("redis_clock_was_set", seconds=round(set_by / 1000))
