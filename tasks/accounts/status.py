"""How each account fares, for people and metrics: `chartpost accounts`, `show`, `check`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis

from tasks.accounts.account import Accounts
from tasks.accounts.breaker import CircuitBreaker
from tasks.accounts.rate_limit import RateLimit
from tasks.ledger.redis import PREFIX
from tasks.model.times import from_ms, iso

_NOT_IN_SETTINGS = "The settings do not name this account any more: add it again, or cancel its jobs."


@dataclass(frozen=True, slots=True)
class AccountHealth:
    """`status` is ok, throttled, parked or down; `resumes_at` is when the account is tried again."""

    status: str
    reason: str = ""
    resumes_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """An account and its unfinished documents: `in_flight` hold a slot, `waiting` do not."""

    name: str
    provider: str | None
    status: str
    reason: str | None
    waiting: int
    in_flight: int
    oldest_at: datetime | None
    resumes_at: datetime | None

    def fields(self) -> dict[str, Any]:
        """As the public contract lists an account."""
        return {
            "name": self.name,
            "provider": self.provider,
            "status": self.status,
            "reason": self.reason,
            "waiting": self.waiting,
            "in_flight": self.in_flight,
            "oldest_at": iso(self.oldest_at),
            "resumes_at": iso(self.resumes_at),
        }


class AccountStatuses:
    def __init__(self, client: redis.Redis, breaker: CircuitBreaker, rate_limit: RateLimit, accounts: Accounts) -> None:
        self._redis = client
        self._breaker = breaker
        self._rate_limit = rate_limit
        self._accounts = accounts

    def all(self) -> Iterator[AccountStatus]:
        """Every account of the settings, and those that have left the settings and still have unfinished documents."""
        seen = {str(name) for name in self._redis.smembers(PREFIX + "accounts")}
        for name in sorted({*self._accounts, *seen}):
            unfinished = int(self._redis.zcard(PREFIX + "open:" + name))
            if name in self._accounts or unfinished:
                yield self._status(name, unfinished)

    def health(self, name: str) -> AccountHealth:
        """Raises KeyError for an account that is not in the settings."""
        circuit = self._breaker.state(name)
        if circuit:
            return AccountHealth(circuit.status, circuit.reason, circuit.probe_at)
        until = self._rate_limit.throttled_until(self._accounts[name].provider.limit_group)
        if until:
            return AccountHealth("throttled", "The limit of requests is used up.", until)
        return AccountHealth("ok")

    def _status(self, name: str, unfinished: int) -> AccountStatus:
        seconds, micros = self._redis.time()
        # Stays `flying` in Redis: older workers share the key.
        in_flight = int(self._redis.zcount(PREFIX + "flying:" + name, seconds * 1000 + micros // 1000, "+inf"))
        oldest = self._redis.zrange(PREFIX + "open:" + name, 0, 0, withscores=True)
        account = self._accounts.get(name)
        health = self.health(name) if account else AccountHealth("parked", _NOT_IN_SETTINGS)
        return AccountStatus(
            name=name,
            provider=account.provider.kind if account else None,
            status=health.status,
            reason=health.reason or None,
            waiting=max(0, unfinished - in_flight),
            in_flight=in_flight,
            oldest_at=from_ms(oldest[0][1]) if oldest else None,
            resumes_at=health.resumes_at,
        )
