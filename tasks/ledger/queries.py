"""Read-only questions to the ledger: which jobs there are, and how each account fares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import redis

from tasks.accounts.account import Accounts
from tasks.accounts.breaker import CircuitBreaker
from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import PREFIX
from tasks.model.job import Job
from tasks.model.route import Stage
from tasks.model.times import from_ms, iso

_BATCH = 500
_GONE = "The settings do not name this account any more: add it again, or cancel its jobs."


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs are asked for; None stands for all."""

    state: str | None = None
    account: str | None = None
    code: str | None = None

    def fits(self, state: str | None, account: str | None, code: str | None) -> bool:
        asked = ((self.state, state), (self.account, account), (self.code, code))
        return all(wanted is None or wanted == is_ for wanted, is_ in asked)


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account's health. `waiting` and `in_flight` are its unfinished documents without and with a slot."""

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


class LedgerQueries:
    def __init__(self, ledger: Ledger, breaker: CircuitBreaker, accounts: Accounts) -> None:
        self._redis: redis.Redis = ledger.redis
        self._ledger = ledger
        self._breaker = breaker
        self._accounts = accounts

    def jobs(self, wanted: Wanted) -> Iterator[Job]:
        """The jobs that fit, in the order in which they came in."""
        ids = self._ids(wanted)
        while batch := list(islice(ids, _BATCH)):
            for job_id in self._fitting(batch, wanted):
                job = self._ledger.get(job_id)
                if job and wanted.fits(job.stage, job.account, job.code):
                    yield job

    def accounts(self) -> Iterator[AccountState]:
        """Every account of the settings, and those that have left them and still have unfinished documents."""
        seen = {str(name) for name in self._redis.smembers(PREFIX + "accounts")}
        for name in sorted({*self._accounts, *seen}):
            unfinished = int(self._redis.zcard(PREFIX + "open:" + name))
            if name in self._accounts or unfinished:
                yield self._account(name, unfinished)

    def account(self, name: str) -> AccountState:
        return self._account(name, int(self._redis.zcard(PREFIX + "open:" + name)))

    def _account(self, name: str, unfinished: int) -> AccountState:
        now = self._redis.time()
        in_flight = int(self._redis.zcount(PREFIX + "flying:" + name, now[0] * 1000 + now[1] // 1000, "+inf"))
        oldest = self._redis.zrange(PREFIX + "open:" + name, 0, 0, withscores=True)
        account = self._accounts.get(name)
        health = self._breaker.health(name, account.provider.limit_group) if account else None
        return AccountState(
            name=name,
            provider=account.provider.kind if account else None,
            status=health.status if health else "parked",
            reason=(health.reason or None) if health else _GONE,
            waiting=max(0, unfinished - in_flight),
            in_flight=in_flight,
            oldest_at=from_ms(oldest[0][1]) if oldest else None,
            resumes_at=health.resumes_at if health else None,
        )

    def _ids(self, wanted: Wanted) -> Iterator[str]:
        """Candidates, from the smallest index that holds them all."""
        if wanted.account and wanted.state and not Stage(wanted.state).final:
            index = PREFIX + "open:" + wanted.account
        else:
            index = PREFIX + "jobs"
        # All at once: an index that changes while it is read in parts would show jobs twice or never.
        return (str(job_id) for job_id in self._redis.zrange(index, 0, -1))

    def _fitting(self, ids: Sequence[str], wanted: Wanted) -> list[str]:
        """Those whose rows fit by what stands there in the clear; the others are not even opened."""
        pipe = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(PREFIX + "job:" + job_id, "stage", "account", "code")
        rows = zip(ids, pipe.execute(), strict=True)
        return [job_id for job_id, (stage, account, code) in rows if stage and wanted.fits(stage, account, code)]
