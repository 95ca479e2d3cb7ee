"""The status of each account, as `chartpost accounts`, `show` and `check` and the metrics show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis

from config.accounts import Account
from tasks.accounts.breaker import CircuitBreaker
from tasks.accounts.rate_limit import RateLimit
from tasks.ledger import keys
from tasks.ledger.clock import LedgerClock
from tasks.ledger.redis import is_outage
from tasks.model.times import from_ms, iso

_NOT_IN_SETTINGS = "The settings do not name this account any more: add it again, or cancel its jobs."

_KEY_OF_WRONG_TYPE = "A key of this account in Redis has become another type: `chartpost check` names it."

LIMIT_USED_UP = "The limit of requests is used up."


@dataclass(frozen=True, slots=True)
class AccountHealth:
    # ok, throttled, parked or down
    status: str
    reason: str = ""
    # When the account is tried again.
    resumes_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """An account and its unfinished documents."""

    name: str
    # None for an account that has left the settings.
    provider: str | None
    status: str
    reason: str | None
    # Documents without a slot and with one.
    waiting: int
    in_flight: int
    # When the oldest of them came in.
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
    """`accounts` are those of the settings."""

    def __init__(
        self, client: redis.Redis, breaker: CircuitBreaker, rate_limit: RateLimit, accounts: Mapping[str, Account]
    ) -> None:
        self._redis = client
        self._clock = LedgerClock(client)
        self._breaker = breaker
        self._rate_limit = rate_limit
        self._accounts = accounts

    def all(self) -> Iterator[AccountStatus]:
        """Every account of the settings, and those that have left the settings and still have unfinished documents."""
        ever_used = {str(name) for name in self._redis.smembers(keys.ACCOUNTS)}
        for name in sorted({*self._accounts, *ever_used}):
            try:
                unfinished = int(self._redis.zcard(keys.open_jobs(name)))
                if name in self._accounts or unfinished:
                    yield self._status(name, unfinished)
            except redis.ResponseError as error:
                if is_outage(error):
                    raise
                yield self._unreadable(name)

    def health(self, name: str) -> AccountHealth:
        """Raises KeyError for an account that is not in the settings."""
        # The circuit first: it stops the account for longer than a limit does, and needs attention.
        circuit = self._breaker.state(name)
        if circuit:
            return AccountHealth(circuit.status, circuit.reason, circuit.probe_at)
        group = self._accounts[name].limit_group
        if until := self._rate_limit.throttled_until(group):
            return AccountHealth("throttled", self._rate_limit.throttled_reason(group) or LIMIT_USED_UP, until)
        return AccountHealth("ok", self._breaker.remarked(name))

    def _unreadable(self, name: str) -> AccountStatus:
        """One of its keys has become another type: nothing is known of its documents, and none is sent."""
        provider = self._accounts[name].provider if name in self._accounts else None
        return AccountStatus(name, provider, "parked", _KEY_OF_WRONG_TYPE, 0, 0, None, None)

    def _status(self, name: str, unfinished: int) -> AccountStatus:
        # The key is called "flying", since workers of an earlier version share it. Entries before now have lost their
        # lease, and their slots are free.
        in_flight = int(self._redis.zcount(keys.flying(name), self._clock.read().now_ms, "+inf"))
        oldest = self._redis.zrange(keys.open_jobs(name), 0, 0, withscores=True)
        account = self._accounts.get(name)
        health = self.health(name) if account else AccountHealth("parked", _NOT_IN_SETTINGS)
        return AccountStatus(
            name=name,
            provider=account.provider if account else None,
            status=health.status,
            reason=health.reason or None,
            waiting=max(0, unfinished - in_flight),
            in_flight=in_flight,
            oldest_at=from_ms(oldest[0][1]) if oldest else None,
            resumes_at=health.resumes_at,
        )
