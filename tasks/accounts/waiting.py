"""Why a document waits, and until when it is tried."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from config.accounts import Account
from config.settings import Retry
from tasks.accounts.breaker import CircuitBreaker
from tasks.accounts.status import LIMIT_USED_UP, AccountStatuses
from tasks.ledger.clock import ClockReading
from tasks.ledger.ledger import Ledger
from tasks.model.job import Job
from tasks.model.route import Stage, Step
from tasks.model.times import from_ms
from tasks.wording.waiting import WaitingFacts, WaitingReason

_ONE_DAY_SECONDS = 86_400.0  # of searching, after a person has continued a job of unknown outcome


class WaitingReasons:
    """Reads what holds unfinished jobs up. `accounts` are those of the settings."""

    def __init__(
        self,
        ledger: Ledger,
        statuses: AccountStatuses,
        breaker: CircuitBreaker,
        accounts: Mapping[str, Account],
        retry: Retry,
    ) -> None:
        self._ledger = ledger
        self._statuses = statuses
        self._breaker = breaker
        self._accounts = accounts
        self._retry = retry

    def of(self, job: Job, clock: ClockReading, *, machine_is_idle: bool = False) -> WaitingFacts:
        """The reason that matters most; `machine_is_idle`: no worker runs where its file lies. Raises RedisError."""
        account = self._accounts.get(job.account)
        provider = job.provider or (account.provider if account else "")
        if account is None:
            return WaitingFacts(WaitingReason.NOT_IN_SETTINGS, provider)
        # What holds the whole account up comes before what holds this job up.
        if reason := self._of_account(job.account):
            return WaitingFacts(reason, provider)
        if machine_is_idle:
            return WaitingFacts(WaitingReason.ANOTHER_MACHINE, provider)
        reason, since, seconds = self._of_job(job, account)
        until = None if since is None else self._until(job, clock, since, seconds)
        return WaitingFacts(reason, provider, until)

    def _of_account(self, name: str) -> WaitingReason | None:
        health = self._statuses.health(name)
        match health.status:
            case "parked":
                return WaitingReason.ACCOUNT_PARKED
            case "down":
                return WaitingReason.ACCOUNT_DOWN
            case "throttled":
                used_up = health.reason == LIMIT_USED_UP
                return WaitingReason.LIMIT_USED_UP if used_up else WaitingReason.THROTTLED
        return None

    def _of_job(self, job: Job, account: Account) -> tuple[WaitingReason, datetime | None, float]:
        """The reason, since when its budget runs, and of how many seconds that is."""
        uncertainty, confirm = job.uncertainty, account.confirm
        if uncertainty.unknown_since:
            patience = _ONE_DAY_SECONDS if uncertainty.day_of_searching else confirm.look_seconds
            return WaitingReason.UNKNOWN_OUTCOME, uncertainty.unknown_since, patience
        if uncertainty.earlier_sending_unknown:
            return WaitingReason.UNKNOWN_OUTCOME, None, 0
        if job.step is Step.CONFIRM:
            return WaitingReason.VALIDATION, job.since.stage, confirm.give_up_after_seconds
        if job.since.failing:
            return WaitingReason.TROUBLE, job.since.failing, self._retry.give_up_after_seconds
        holder = self._ledger.name_holder(job.document) if job.stage is Stage.RECEIVED else None
        if holder and holder != job.id:
            return WaitingReason.SAME_NAME, None, 0
        return WaitingReason.IN_TURN, None, 0

    def _until(self, job: Job, clock: ClockReading, since: datetime, seconds: float) -> datetime:
        """When a budget ends if nothing stops the account, by Redis's clock and to the whole minute after it."""
        now = from_ms(clock.now_ms)
        left = timedelta(seconds=seconds) - self._breaker.waited(job, now, since)
        ends = clock.for_people(clock.now_ms) + max(left, timedelta(0))
        return ends.replace(second=0, microsecond=0) + timedelta(minutes=1)
