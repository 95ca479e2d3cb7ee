"""What questions about jobs and accounts need: the settings, Redis, the ledger and who works on it.

`chartpost jobs`, `accounts` and `show` need no more, and start in half the time. `runtime.Runtime` adds all that works.
"""

from __future__ import annotations

from functools import cached_property

import redis

from config.errors import SettingsError
from config.load import ensure_secret_key
from config.settings import Settings
from tasks.accounts.breaker import CircuitBreaker
from tasks.accounts.rate_limit import RateLimit
from tasks.accounts.status import AccountStatuses
from tasks.accounts.waiting import WaitingReasons
from tasks.dispatch.workers import Workers
from tasks.folders.machines import Machine
from tasks.ledger.ledger import Ledger
from tasks.ledger.queries import LedgerQueries
from tasks.ledger.redis import connect
from tasks.ledger.seal import Seal


class LedgerRuntime:
    """Of one process. Raises SettingsError if there is no secret key and none may be made."""

    # Every collaborator is built late: Redis and HTTP clients that are made before a fork share their connections with
    # the child, and each process would read the other's answers.

    def __init__(self, settings: Settings) -> None:
        self.settings = ensure_secret_key(settings)

    @cached_property
    def redis_url(self) -> str:
        """The configured address, else that of the embedded server. Raises SettingsError if there is neither."""
        if self.settings.redis.url:
            return self.settings.redis.url
        path = self.settings.data_dir / "redis.url"
        try:
            return path.read_text().strip()
        except OSError:
            raise SettingsError(
                ["redis.url is empty and no embedded server runs here: start `chartpost run`, or set redis.url."]
            ) from None

    @cached_property
    def seal(self) -> Seal:
        return Seal(self.settings.secret_key.get_secret_value())

    @cached_property
    def redis(self) -> redis.Redis:
        return connect(self.redis_url)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(
            self.redis,
            self.seal,
            lease_seconds=self.settings.worker.lease_seconds,
            jobs_days=self.settings.retention.jobs_days,
            machine=self.machine.name,
        )

    @cached_property
    def machine(self) -> Machine:
        """This machine among those that share one Redis."""
        return Machine(self.redis, self.settings.data_dir)

    @cached_property
    def queries(self) -> LedgerQueries:
        return LedgerQueries(self.ledger)

    @cached_property
    def workers(self) -> Workers:
        """For reading which workers take messages. A worker process makes its own, with its name and slots."""
        return Workers(self.redis)

    # --- accounts ----------------------------------------------------------------------------------------------

    @cached_property
    def breaker(self) -> CircuitBreaker:
        retry = self.settings.retry
        return CircuitBreaker(
            self.redis, probe_first_seconds=retry.probe_first_seconds, probe_cap_seconds=retry.probe_cap_seconds
        )

    @cached_property
    def rate_limit(self) -> RateLimit:
        return RateLimit(self.redis)

    @cached_property
    def account_statuses(self) -> AccountStatuses:
        return AccountStatuses(self.redis, self.breaker, self.rate_limit, self.settings.accounts)

    def waiting_reasons(self) -> WaitingReasons:
        """New ones for each command, page or round: they keep what they have read."""
        return WaitingReasons(
            self.ledger, self.account_statuses, self.breaker, self.settings.accounts, self.settings.retry
        )
