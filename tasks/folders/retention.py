"""Removes delivered documents when they have been kept for as long as the settings say.

How old a receipt is, only clocks can tell, and any of them may be wrong by a year. So a document is removed only if it
is old by each clock at hand, and the *limit* (what was written before it is removed) moves on at most twice as fast as
the time that was seen passing. A clock that is a year ahead then costs a day's documents a day, not the whole folder.

Before the limit was ever kept, the receipts tell the time: see `_first_limit`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from tasks.folders import durable
from tasks.folders.outcomes import Outcomes
from tasks.model.times import steady_seconds

log = structlog.get_logger()

_DAY_SECONDS = 86_400.0
_FASTEST = 2.0
"""Seconds by which the limit may move in a second: after a standstill it catches up."""
_CLOCK_SET_SECONDS = 60.0
_NOTICED_SECONDS = 7 * _DAY_SECONDS
"""Within this time people notice that a clock is wrong."""
_OF_OTHERS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
"""People have moved it away since, swapped its folder for a link, or taken our right to it: the others go on."""


class Retention:
    """`run` once an hour. `redis_clock` is seconds since 1970 by Redis's clock; 0 days keep everything for ever.

    `state_file` keeps the limit, so that it does not begin anew with each start.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        days: float,
        state_file: Path,
        *,
        redis_clock: Callable[[], float],
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady_seconds,
    ) -> None:
        self._outcomes = outcomes
        self._days = days
        self._state_file = state_file
        self._redis_clock = redis_clock
        self._clock = clock
        self._steady = steady
        self._last: tuple[float, float] | None = None

    def run(self) -> None:
        """Remove what is older than the limit. Raises OSError and Redis's errors."""
        if not self._days:
            return
        last, self._last = self._last, (self._now(), self._steady())
        if last is None:  # no time was seen passing yet
            return
        now, passed = self._last[0], self._last[1] - last[1]
        if abs(now - last[0] - passed) > _CLOCK_SET_SECONDS:
            log.warning("delivered_not_swept", reason="a clock was set", seconds=round(now - last[0] - passed))
            return
        before = self._read_limit()
        fastest = self._first_limit(now) if before is None else before + _FASTEST * passed
        limit = min(now - self._days * _DAY_SECONDS, fastest)
        self._remove_older(limit)
        draft = self._state_file.with_name(self._state_file.name + ".draft")
        durable.replace(self._state_file, json.dumps({"limit": limit}).encode(), draft, 0o600)

    def _now(self) -> float:
        """Seconds since 1970 by the clock that is furthest behind: this machine's, Redis's or the file system's."""
        self._state_file.touch(0o600)
        return min(self._clock(), self._redis_clock(), self._state_file.stat().st_mtime)

    def _read_limit(self) -> float | None:
        """None before the first time, and if a person has emptied the file."""
        try:
            return float(json.loads(self._state_file.read_bytes())["limit"])
        except (ValueError, KeyError, TypeError):
            return None

    def _first_limit(self, now: float) -> float:
        """The limit as it was when the last receipt was written that is a week old by the clock; or a week ago.

        That is not too late, unless the clock has been wrong for more than a week. If it is ahead by less than a week,
        a week ago by it has passed in truth too. If it is ahead by more, then what was written since it is wrong is
        less than a week old by it, and everything else is older and was written by a right clock.
        """
        latest = now - _NOTICED_SECONDS
        written = []
        for delivered in self._outcomes.receipts():
            with suppress(*_OF_OTHERS):
                written.append(delivered.companion.lstat().st_mtime)
        return max((at for at in written if at <= latest), default=latest) - self._days * _DAY_SECONDS

    def _remove_older(self, limit: float) -> None:
        kept = 0
        for delivered in self._outcomes.receipts():
            try:
                if self._outcomes.remove_delivered(delivered, before=limit):
                    log.info("delivered_swept", job=delivered.content["job_id"])
            except PermissionError:
                kept += 1
            except _OF_OTHERS:
                pass
        if kept:
            log.warning("delivered_not_swept", reason="no right to write to their folders", count=kept)
