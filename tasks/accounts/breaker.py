"""The two gates before every account, both in Redis and shared by all workers.

One stands before a limit group (accounts that share a provider's rate limit): rate and `resumes_at`. The other stands
before each account: ok, parked (credentials or set-up refused) or down (the provider does not answer).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

from tasks.ledger.redis import PREFIX, load_script
from tasks.model.errors import RetryLater
from tasks.model.times import from_ms

_FAILURES_UNTIL_DOWN = 5
_LONGEST_PAUSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class BreakerState:
    """An account's gate: `status` is ok, throttled, parked or down; `resumes_at` when it is tried again."""

    status: str
    reason: str = ""
    job_id: str = ""
    since: datetime | None = None
    resumes_at: datetime | None = None


class CircuitBreaker:
    """Asked by the feeder before a job is sent, and by every call to a provider."""

    def __init__(self, client: redis.Redis, *, probe_first_seconds: float, probe_cap_seconds: float) -> None:
        self._redis = client
        self._probe_first = int(probe_first_seconds * 1000)
        self._probe_cap = int(probe_cap_seconds * 1000)
        self._scripts = {name: load_script(client, name) for name in ("unwell", "probe")}
        self._rate = MovingWindowRateLimiter(
            RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix=PREFIX + "rate")
        )

    def take_call(self, group: str, per_minute: int) -> None:
        """Count one request of this limit group. Raises RetryLater while there is none left.

        The group's gate then stays shut until some calls are free again, so that jobs are not sent one by one
        against a limit that has just let one call through.
        """
        item = RateLimitItemPerMinute(per_minute)
        if self._rate.hit(item, group):
            return
        free_at = float(self._rate.get_window_stats(item, group).reset_time)
        pause = max(free_at - time.time(), min(_LONGEST_PAUSE_SECONDS, 10 * 60 / per_minute), 0.1)
        self.throttle(group, pause)
        raise RetryLater("The account's own limit of requests per minute is used up.", after_seconds=pause)

    def throttle(self, group: str, seconds: float) -> None:
        """Nothing more for this limit group until `seconds` have passed."""
        self._redis.set(PREFIX + "limit:" + group, "1", px=max(1, int(seconds * 1000)))

    def park(self, account: str, reason: str, job_id: str = "") -> str:
        """Credentials or set-up are wrong: nothing is sent until a probe succeeds."""
        return str(self._run("unwell", account, "parked", reason, job_id, self._probe_first, 1))

    def unreachable(self, account: str, reason: str) -> str:
        """The provider did not answer; after several in a row the account is down until a probe succeeds."""
        return str(self._run("unwell", account, "down", reason, "", self._probe_first, _FAILURES_UNTIL_DOWN))

    def open_accounts(self, accounts: Iterable[str]) -> list[str]:
        """Which of these accounts are parked or down."""
        names = list(accounts)
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.hget(PREFIX + "account:" + name, "state")
        return [name for name, state in zip(names, pipe.execute(), strict=True) if state in ("parked", "down")]

    def take_probe(self, account: str) -> bool:
        """Whether the caller shall probe this account now; at most one caller at a time is told so."""
        return bool(self._run("probe", account, "take", self._probe_cap))

    def half_open(self, account: str) -> bool:
        """The account works again, as far as a probe shows. False when it was not unwell.

        Documents ask for more than a probe does. So it is on trial, with one document at a time: one more failure and
        it is unwell again, for longer; one document taken and it is well.
        """
        return bool(self._run("probe", account, "well", self._probe_cap))

    def progress_since(self, account: str, moment: datetime) -> bool:
        """Whether some document of this account has been stored or delivered since then."""
        at = self._row(account).get("progress_at")
        return at is not None and from_ms(at) > moment

    def open_seconds(self, account: str, now: datetime) -> float:
        """How long the account has been parked or down, all told: time that costs no document its patience."""
        row = self._row(account)
        current = (now - from_ms(row["since"])).total_seconds() if "since" in row else 0.0
        return float(row.get("sick_ms", 0)) / 1000 + max(0.0, current)

    def health(self, account: str, group: str) -> BreakerState:
        row = self._row(account)
        if row.get("state") in ("parked", "down"):
            return BreakerState(
                status=row["state"],
                reason=row.get("reason", ""),
                job_id=row.get("job", ""),
                since=from_ms(row["since"]),
                resumes_at=from_ms(row["probe_at"]),
            )
        pause = int(self._redis.pttl(PREFIX + "limit:" + group))
        if pause > 0:
            now = self._redis.time()
            until = from_ms(now[0] * 1000 + now[1] / 1000 + pause)
            return BreakerState("throttled", "The limit of requests is used up.", resumes_at=until)
        return BreakerState("ok")

    def _row(self, account: str) -> dict[str, str]:
        return {str(k): str(v) for k, v in self._redis.hgetall(PREFIX + "account:" + account).items()}

    def _run(self, script: str, *args: object) -> Any:
        return self._scripts[script](args=[PREFIX, *(str(arg) for arg in args)])
