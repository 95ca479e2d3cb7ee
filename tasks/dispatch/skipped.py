"""The lanes and jobs that a feeder skips, because a command on one of their keys fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import redis
import structlog

from tasks.dispatch.feeder_report import FeederTrouble
from tasks.ledger.key_types import kind_of, wrong_lane_keys
from tasks.ledger.keys import OWN_LANES

log = structlog.get_logger()

_KEPT_SECONDS = 2.0  # a lane without a free slot is not looked at in each round


@dataclass(slots=True)
class _Skipped:
    why: str
    until: float


class SkippedLanes:
    """Each is logged once while it lasts. `groups`: account -> limit group."""

    def __init__(
        self,
        client: redis.Redis,
        groups: Callable[[], Mapping[str, str]],
        lease_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = client
        self._groups = groups
        # A job is looked at once a lease.
        self._job_kept_seconds = max(_KEPT_SECONDS, 2 * lease_seconds)
        self._clock = clock
        self._lanes: dict[str, _Skipped] = {}
        self._jobs: dict[str, _Skipped] = {}

    def note(self, faults: Sequence[str]) -> bool:
        """Take the faults of one round, as `take_due.lua` returns them. True if a lane is skipped that was not."""
        now, new = self._clock(), False
        for lane, job_id, code in zip(*(map(str, faults[part::3]) for part in range(3)), strict=True):
            if job_id:
                if job_id not in self._jobs:
                    log.error("job_skipped", job=job_id, lane=lane, code=code)
                self._jobs[job_id] = _Skipped(code, now + self._job_kept_seconds)
                continue
            if lane not in self._lanes:
                new = True
                self._lanes[lane] = _Skipped(self._why(lane, code), 0.0)
            self._lanes[lane].until = now + _KEPT_SECONDS
        for lane in [lane for lane, skipped in self._lanes.items() if skipped.until < now]:
            del self._lanes[lane]
            log.info("lane_served_again", lane=lane)
        self._jobs = {job_id: skipped for job_id, skipped in self._jobs.items() if skipped.until >= now}
        return new

    def trouble(self) -> FeederTrouble:
        return FeederTrouble(
            skipped={lane: skipped.why for lane, skipped in self._lanes.items()},
            skipped_jobs={job_id: skipped.why for job_id, skipped in self._jobs.items()},
        )

    def _why(self, lane: str, code: str) -> str:
        wrong = [] if lane in OWN_LANES else wrong_lane_keys(self._redis, {lane: self._groups()[lane]})
        log.error("lane_skipped", lane=lane, code=code, keys=[kind_of(key.key) for key in wrong])
        return "; ".join(map(str, wrong)) or code
