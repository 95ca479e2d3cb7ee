"""The rate limit of a limit group, shared by all workers. Accounts that share a provider's limit are one group."""

from __future__ import annotations

import time
from datetime import datetime

import redis
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

from tasks.ledger.redis import PREFIX, now_ms
from tasks.model.errors import RetryLater
from tasks.model.times import from_ms

_LEAST_PAUSE_CAP_SECONDS = 10.0
_CALLS_AFTER_PAUSE = 10
_SHARE_OF_PAGES = 2  # of all calls, one in so many may be a further page of a long list


class RateLimit:
    """Every call to a provider asks it. `take_due.lua` sends no jobs of a group that is throttled."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._window = MovingWindowRateLimiter(
            RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix=PREFIX + "rate")
        )

    def take_call(self, group: str, per_minute: int) -> None:
        """Count one request of this limit group. Raises RetryLater if the limit is used up."""
        pause = self._pause(group, per_minute)
        if pause:
            self.throttle(group, pause)
            raise RetryLater("The account's own limit of requests per minute is used up.", after_seconds=pause)

    def take_page(self, group: str, per_minute: int) -> None:
        """Count one further page of a long list. Raises RetryLater if such pages have had their share of the limit.

        The group itself goes on: the rest of the limit is for everybody's other calls.
        """
        pause = self._pause(f"{group}:pages", max(1, per_minute // _SHARE_OF_PAGES))
        if pause:
            raise RetryLater("The list is long: the next pages are read in a while.", after_seconds=pause)

    def _pause(self, counter: str, per_minute: int) -> float:
        """Count one, and return 0; or return the seconds to wait if so many were counted within the last minute."""
        item = RateLimitItemPerMinute(per_minute)
        if self._window.hit(item, counter):
            return 0.0
        free_at = float(self._window.get_window_stats(item, counter).reset_time)
        # At least until some calls are free. With a shorter pause, jobs would be sent one by one against a limit that
        # lets one call through each time, and most steps need several calls.
        least = min(_CALLS_AFTER_PAUSE * 60 / per_minute, _LEAST_PAUSE_CAP_SECONDS)
        return max(free_at - time.time(), least, 0.1)

    def throttle(self, group: str, seconds: float, reason: str = "") -> None:
        """No new jobs of this limit group are taken until `seconds` have passed. Steps in flight go on.

        `reason` is a sentence for people, where there is more to say than that the limit is used up.
        """
        self._redis.set(PREFIX + "limit:" + group, reason or "1", px=max(1, int(seconds * 1000)))

    def throttled_reason(self, group: str) -> str:
        """Why the limit group waits, if there is more to say than that the limit is used up."""
        reason = str(self._redis.get(PREFIX + "limit:" + group) or "1")
        return "" if reason == "1" else reason

    def throttled_until(self, group: str) -> datetime | None:
        """When the limit group may go on; None if it may now."""
        pause_ms = int(self._redis.pttl(PREFIX + "limit:" + group))
        if pause_ms <= 0:
            return None
        return from_ms(now_ms(self._redis) + pause_ms)
