"""Why a document waits, and until when it is tried: decided here, and said elsewhere in the words of who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from config.accounts import Account
from config.settings import Retry
from tasks.accounts.breaker import CircuitBreaker
from tasks.accounts.status import LIMIT_USED_UP, AccountHealth, AccountStatuses
from tasks.ledger.clock import ClockReading
from tasks.ledger.ledger import Ledger
from tasks.model.job import Job
from tasks.model.route import Stage, Step
from tasks.model.times import from_ms
from tasks.wording.waiting import WaitingFacts, WaitingReason

_ONE_DAY_SECONDS = 86_400.0  # of searching, after a person has continued a job of unknown outcome


@dataclass(frozen=True, slots=True)
class Wait:
    """Why an unfinished job waits: the reason that matters most, and what is known of it."""

    reason: WaitingReason
    # The kind of provider, as the settings name it.
    provider: str
    # How its account is, if that holds the job up.
    health: AccountHealth | None = None
    # The job that has its name, for SAME_NAME.
    holder: str = ""
    # Since when the time runs after which it is given up or sent again, and how long that is. None: none runs.
    since: datetime | None = None
    patience_seconds: float = 0.0


class WaitingReasons:
    """Reads what holds unfinished jobs up. `accounts` are those of the settings.

    It asks for each account once: good for one command, one page, or one round.
    """

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
        self._health: dict[str, AccountHealth] = {}

    def why(self, job: Job, *, machine_is_idle: bool = False) -> Wait:
        """`machine_is_idle`: no worker runs where the job's file lies. Raises RedisError."""
        account = self._accounts.get(job.account)
        provider = job.provider or (account.provider if account else "")
        if account is None:
            return Wait(WaitingReason.NOT_IN_SETTINGS, provider)
        # What holds the whole account up comes before what holds this job up.
        health = self._health_of(job.account)
        if reason := reason_of_account(health.status, health.reason):
            return Wait(reason, provider, health=health)
        if machine_is_idle:
            return Wait(WaitingReason.ANOTHER_MACHINE, provider)
        return self._of_job(job, account, provider)

    def facts(self, job: Job, clock: ClockReading, *, machine_is_idle: bool = False) -> WaitingFacts:
        """What the sentences for a front desk are made of. Raises RedisError."""
        wait = self.why(job, machine_is_idle=machine_is_idle)
        until = None if wait.since is None else self._until(job, clock, wait.since, wait.patience_seconds)
        return WaitingFacts(wait.reason, wait.provider, until)

    def _health_of(self, account: str) -> AccountHealth:
        if account not in self._health:
            self._health[account] = self._statuses.health(account)
        return self._health[account]

    def _of_job(self, job: Job, account: Account, provider: str) -> Wait:
        uncertainty, confirm = job.uncertainty, account.confirm
        if uncertainty.unknown_since:
            patience = _ONE_DAY_SECONDS if uncertainty.day_of_searching else confirm.look_seconds
            since = uncertainty.unknown_since
            return Wait(WaitingReason.UNKNOWN_OUTCOME, provider, since=since, patience_seconds=patience)
        if uncertainty.earlier_sending_unknown:
            return Wait(WaitingReason.UNKNOWN_OUTCOME, provider)
        if job.step is Step.CONFIRM:
            patience = confirm.give_up_after_seconds
            return Wait(WaitingReason.VALIDATION, provider, since=job.since.stage, patience_seconds=patience)
        if job.since.failing:
            patience = self._retry.give_up_after_seconds
            return Wait(WaitingReason.TROUBLE, provider, since=job.since.failing, patience_seconds=patience)
        holder = self._ledger.name_holder(job.document) if job.stage is Stage.RECEIVED else None
        if holder and holder != job.id:
            return Wait(WaitingReason.SAME_NAME, provider, holder=holder)
        return Wait(WaitingReason.IN_TURN, provider)

    def _until(self, job: Job, clock: ClockReading, since: datetime, seconds: float) -> datetime:
        """When a budget ends if nothing stops the account, by Redis's clock and to the whole minute after it."""
        now = from_ms(clock.now_ms)
        left = timedelta(seconds=seconds) - self._breaker.waited(job, now, since)
        ends = clock.for_people(clock.now_ms) + max(left, timedelta(0))
        return ends.replace(second=0, microsecond=0) + timedelta(minutes=1)


def reason_of_account(status: str, reason: str | None) -> WaitingReason | None:
    """Why an account of this status holds its documents up; None if it does not."""
    match status:
        case "parked":
            return WaitingReason.ACCOUNT_PARKED
        case "down":
            return WaitingReason.ACCOUNT_DOWN
        case "throttled":
            return WaitingReason.LIMIT_USED_UP if reason == LIMIT_USED_UP else WaitingReason.THROTTLED
    return None
