"""The provider's clock, as its answers tell it, and by how much this machine's differs.

Upload forms and signed assertions expire by the clocks of provider and storage. A machine whose clock is wrong would
refuse good forms, and send expired ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from tasks.http.dates import servers_time

log = structlog.get_logger()

# From this difference on, the provider's clock is believed instead of ours. S3 and token servers allow for some
# minutes, and an answer may be some seconds on its way.
WRONG_SECONDS = 120.0
# A larger difference is not believed: with it, no certificate would have been found valid.
_MOST_SECONDS = 366 * 86_400.0
_SLOWEST_ANSWER_SECONDS = 30.0  # when it took longer, it is not known at which moment the date was written
_MEASURED_FOR_SECONDS = 900.0
# Reckoned by the uptime for so long, the provider's time is known to a minute: a computer's clock drifts by less than
# ten seconds a day.
_RECKONED_FOR_SECONDS = 7 * 86_400.0
# Where the provider has not told its time: more than a wrong time zone makes.
_UNTOLD = timedelta(days=1)


def _uptime() -> float:
    """Seconds that no setting of the clock changes. On Linux they go on while the machine sleeps."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)


@dataclass(frozen=True, slots=True)
class _Reading:
    # Who said it, as people call it.
    server: str
    # Seconds since 1970 by that server's clock, and the uptime at that moment.
    said: float
    at: float


class ProviderClock:
    """One account's, in one process; threads share it. Dates come only from answers of the provider's own API."""

    def __init__(
        self,
        account: str = "",
        *,
        now: Callable[[], float] = lambda: time.time(),
        uptime: Callable[[], float] = _uptime,
    ) -> None:
        self._account = account
        self._now = now
        self._uptime = uptime
        self._reading: _Reading | None = None
        self._warned = False
        self._log_lock = threading.Lock()

    def begin(self) -> float:
        """Call before a request leaves; `note` is given the result."""
        return self._uptime()

    def note(self, server: str, headers: Mapping[str, str], began: float) -> None:
        """Learn the time from an answer's Date."""
        answered = self._uptime()
        at = servers_time(headers)
        if at is None or answered - began > _SLOWEST_ANSWER_SECONDS:
            return
        # Written somewhere between request and answer, and cut to whole seconds.
        self._reading = _Reading(server, at.timestamp() + 0.5, (began + answered) / 2)
        self._log_change()

    @property
    def server(self) -> str:
        """Who said the time; empty if nobody did."""
        return self._reading.server if self._reading else ""

    @property
    def ahead_seconds(self) -> float | None:
        """By how much this machine's clock is ahead, negative if it is behind. None if that is not known just now."""
        return self._ahead(_MEASURED_FOR_SECONDS)

    @property
    def is_wrong(self) -> bool:
        """Whether this machine's clock differs from the provider's by minutes."""
        return abs(self.ahead_seconds or 0.0) > WRONG_SECONDS

    def now(self) -> datetime:
        """The time by which forms are judged: this machine's, or the provider's if the machine's is wrong."""
        ahead = self.ahead_seconds or 0.0
        return datetime.fromtimestamp(self._now() - (ahead if abs(ahead) > WRONG_SECONDS else 0.0), UTC)

    def earliest(self) -> datetime:
        """A moment of the provider's time that has passed: whatever it creates from now on is not older.

        It is now, give or take a minute, if the provider has told its time in the last days.
        """
        ahead = self._ahead(_RECKONED_FOR_SECONDS)
        now = datetime.fromtimestamp(self._now(), UTC)
        return now - (_UNTOLD if ahead is None else timedelta(seconds=ahead))

    @property
    def warning(self) -> str:
        """A sentence for people if this machine's clock is wrong; empty if it is not."""
        ahead = self.ahead_seconds or 0.0
        if not self.is_wrong:
            return ""
        direction = "ahead of" if ahead > 0 else "behind"
        return f"This machine's clock is wrong: it is {length(ahead)} {direction} {self.server}'s. Set it by NTP."

    def _ahead(self, at_most_ago: float) -> float | None:
        """By how much this machine's clock is ahead, from an answer of so many seconds ago at most; else None."""
        reading = self._reading
        if reading is None or self._uptime() - reading.at > at_most_ago:
            return None
        ahead = self._now() - (reading.said + self._uptime() - reading.at)
        return ahead if abs(ahead) <= _MOST_SECONDS else None

    def _log_change(self) -> None:
        with self._log_lock:
            before, self._warned = self._warned, self.is_wrong
            if self._warned and not before:
                ahead = round(self.ahead_seconds or 0.0)
                log.warning("clock_wrong", account=self._account, server=self.server, ahead_seconds=ahead)
            elif before and not self._warned:
                log.info("clock_right_again", account=self._account)


def length(seconds: float) -> str:
    """A difference of clocks for people, without its sign: "61 min"."""
    seconds = abs(seconds)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 48 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 86_400:.0f} days"
