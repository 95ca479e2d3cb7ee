"""What follows when a step raises an error. The life of a failing job:

1.  The step raises one of the errors of `model.errors`; each is named for what happens next.
2.  The account hears of it first. Its rate limit: a throttled provider pauses its limit group. Its circuit breaker: an
    unreachable one counts towards *down*, refused credentials *park* the account. Other accounts go on.
3.  RetryLater: the same step again, after a back-off with jitter or exactly when the provider asked. The budget is
    time (`retry.give_up_after_seconds`), in which time parked or down does not count; then the job has failed
    (`gave_up`).
4.  PresignAgain: back to presign, at once the first times. After six forms the account is parked, unless others get
    through; the document itself never fails for it, and is presigned again once the account works.
5.  DocumentRefused: the job has failed, and is never retried automatically.
6.  AccountBlocked: the document waits untouched while the account is parked. When a probe succeeds it is tried again.
    If the account works and refuses this document alone, the job has failed (`refused_by_provider`), unless the error
    says nothing about the document (`never_the_document`), such as a web filter's 200.
7.  OutcomeUnknown: the document may be in the chart. The provider's route decides: search for its record first
    (`reconciliation`), send the same ids again, or hold it for a person (`outcome_unknown`).
8.  A search that fails or finds nothing goes on until its deadline: `reconciliation`.
9.  A failed job is closed: its file moves to failed/ with an error file. After `not_confirmed` a slow search goes on
    for a day and may still turn it into a delivery. `chartpost retry` and `chartpost resolve` take it up again.

A job that an earlier try may have delivered is never simply failed or given up: see `may_have_arrived`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from config.settings import Retry
from tasks.accounts.account import Account
from tasks.accounts.breaker import CircuitBreaker
from tasks.accounts.rate_limit import RateLimit
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.model import backoff
from tasks.model.errors import (
    AccountBlocked,
    Code,
    DocumentRefused,
    LeaseLost,
    OutcomeUnknown,
    PresignAgain,
    RetryLater,
    StepError,
)
from tasks.model.route import OnUnknownOutcome, Step
from tasks.pipeline.final_failures import Failures, may_have_arrived, refused, refused_alone
from tasks.pipeline.reconciliation import Reconciliation

log = structlog.get_logger()

_PRESIGNS_AT_ONCE = 3
_PRESIGNS_AT_MOST = 6
_THROTTLED_SECONDS = 10.0  # when a throttling provider does not say how long
_LONGEST_BEHIND_A_STOPPED_GROUP = 60.0


class Recovery:
    """Decides what follows for the jobs of a step that raised an error, and records it in the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        breaker: CircuitBreaker,
        rate_limit: RateLimit,
        failures: Failures,
        reconciliation: Reconciliation,
        retry: Retry,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.reconciliation = reconciliation
        self._ledger = ledger
        self._breaker = breaker
        self._rate_limit = rate_limit
        self._failures = failures
        self._retry = retry
        self._chance = chance

    def after(self, error: StepError, leases: Sequence[Lease], account: Account) -> tuple[str, ...]:
        """Record what follows for each job after an error of their step. Returns the ids of those that ended."""
        calls = account.counted()
        self._tell_account(error, leases[0], account)
        finished = []
        for lease in leases:
            try:
                if self._decide(error, lease, account, calls):
                    finished.append(lease.job.id)
            except LeaseLost as lost:
                log.info("lease_lost", job=lease.job.id, account=account.name, why=str(lost))
            calls = 0
        return tuple(finished)

    # --- the account -------------------------------------------------------------------------------------------

    def _tell_account(self, error: StepError, lease: Lease, account: Account) -> None:
        """Let the error slow or stop the whole account, by its rate limit or its circuit breaker."""
        if isinstance(error, RetryLater) and error.throttled:
            seconds = error.after_seconds or _THROTTLED_SECONDS
            self._rate_limit.throttle(account.provider.limit_group, seconds, error.group_reason)
            log.info("account_throttled", account=account.name, seconds=seconds)
        elif isinstance(error, (RetryLater, OutcomeUnknown)) and error.unreachable:
            if self._breaker.unreachable(account.name, str(error)) == "down":
                log.warning("account_down", account=account.name, reason=str(error))
        elif isinstance(error, RetryLater) and error.lasting:
            self._breaker.remark(account.name, f"{error} Job {lease.job.id} and others of its patient wait.")
        elif isinstance(error, AccountBlocked) and lease.job.blocked_since is None:
            self._park(account, account.reason(error), lease)

    def _park(self, account: Account, reason: str, lease: Lease) -> None:
        self._breaker.park(account.name, reason, lease.job.id)
        log.warning("account_parked", account=account.name, reason=reason, job=lease.job.id)

    # --- the job -----------------------------------------------------------------------------------------------

    # The methods that return a bool return True when the job has ended.

    def _decide(self, error: StepError, lease: Lease, account: Account, calls: int) -> bool:
        match error:
            case RetryLater():
                return self._retry_later(error, lease, account, calls)
            case PresignAgain():
                return self._presign_again(error, lease, account, calls)
            case DocumentRefused():
                return self._refuse(error, lease, account, calls)
            case AccountBlocked():
                return self._block(error, lease, account, calls)
            case OutcomeUnknown():
                log.warning("outcome_unknown", job=lease.job.id, account=account.name, reason=str(error))
                return self._after_unknown_outcome(lease, account, calls)
        raise error

    def _retry_later(self, error: RetryLater, lease: Lease, account: Account, calls: int) -> bool:
        job = lease.job
        # A wait that the provider asked for while it answered is no failure, and costs nothing of the budget.
        asked_for = error.after_seconds is not None and not error.unreachable
        if not asked_for and self._out_of_time(lease):
            if job.step is Step.CONFIRM:
                return self.reconciliation.after_failed_search(lease, account, calls)
            self._failures.give_up(lease, str(error), calls)
            return True
        if error.after_seconds is None:
            wait = self._backoff(job.failures + 1)
        else:
            wait = error.after_seconds
            if error.throttled:  # its group is stopped for the whole of that time, unless a person resumes it
                wait = min(wait, _LONGEST_BEHIND_A_STOPPED_GROUP)
            wait *= 1 + 0.2 * self._chance()  # so that not all come back at the same moment
        self._ledger.deferred(lease, wait, calls, failed=not asked_for)
        log.info("job_deferred", job=job.id, account=job.account, reason=str(error), seconds=round(wait, 1))
        return False

    def _presign_again(self, error: PresignAgain, lease: Lease, account: Account, calls: int) -> bool:
        job, reason = lease.job, account.reason(error)
        wait = 0.0 if job.presigns < _PRESIGNS_AT_ONCE else self._backoff(job.presigns)
        if job.presigns >= _PRESIGNS_AT_MOST:
            # A form's age is no property of the document, which waits however long it takes; and others first.
            wait = backoff.poll_delay(job.presigns, self._retry.first_seconds, self._retry.cap_seconds, self._chance)
            if not self._breaker.progress_since(account.name, job.in_stage_since or lease.now):
                self._park(account, f"{job.presigns} forms in a row were of no use: {reason}", lease)
        self._ledger.presign_again(lease, wait, calls)
        log.info("job_presigned_again", job=job.id, account=job.account, reason=reason)
        return False

    def _refuse(self, error: DocumentRefused, lease: Lease, account: Account, calls: int) -> bool:
        if lease.job.step is Step.CONFIRM:
            return self.reconciliation.after_failed_search(lease, account, calls)
        failure = refused(error, lease.job)
        if error.code is Code.OUTCOME_UNKNOWN:
            self._failures.hold_for_person(lease, calls, failure)
        elif may_have_arrived(lease.job) and error.code is not Code.REFUSED_BY_PROVIDER:
            self._failures.give_up(lease, error.message, calls)  # the file is gone, but may have arrived
        else:
            self._failures.fail(lease, failure, calls)
        return True

    def _block(self, error: AccountBlocked, lease: Lease, account: Account, calls: int) -> bool:
        job = lease.job
        if job.blocked_since and self._only_this_document(error, lease, account):
            if job.step is Step.CONFIRM:
                return self.reconciliation.after_failed_search(lease, account, calls)
            if may_have_arrived(job):
                self._failures.give_up(lease, str(error), calls)
            else:
                self._failures.fail(lease, refused_alone(error), calls)
            return True
        wait = 0.0
        if job.blocked_since:  # it has parked the account before: let others try first
            self._park(account, account.reason(error), lease)
            wait = backoff.poll_delay(job.attempts, self._retry.first_seconds, self._retry.cap_seconds, self._chance)
        self._ledger.blocked(lease, wait, calls)
        return False

    def _only_this_document(self, error: AccountBlocked, lease: Lease, account: Account) -> bool:
        """True if the account works now and refuses this document alone."""
        if error.never_the_document:
            return False
        since = lease.job.blocked_since
        others_got_through = since is not None and self._breaker.progress_since(account.name, since)
        if not (error.credentials or others_got_through):
            return False
        # That others got through proves nothing about now: the keys may have been refused again since.
        try:
            account.provider.probe()
        except StepError:
            return False
        return True

    def _after_unknown_outcome(self, lease: Lease, account: Account, calls: int) -> bool:
        match account.provider.route(lease.job.document).on_unknown_outcome:
            case OnUnknownOutcome.HOLD:
                self._failures.hold_for_person(lease, calls)
                return True
            case OnUnknownOutcome.RESEND if self._out_of_time(lease):
                self._failures.give_up(lease, "its outcome was never seen", calls)
                return True
            case OnUnknownOutcome.RESEND:
                self._ledger.repeated(lease, self._backoff(lease.job.failures + 1), calls)
            case OnUnknownOutcome.RECONCILE:
                self._ledger.outcome_unknown(lease, account.settings.confirm.first_seconds, calls)
        return False

    # --- time --------------------------------------------------------------------------------------------------

    def _backoff(self, failures: int) -> float:
        return backoff.delay(failures, self._retry.first_seconds, self._retry.cap_seconds, self._chance)

    def _out_of_time(self, lease: Lease) -> bool:
        since = lease.job.failing_since
        if since is None:
            return False
        waited = self._breaker.waited(lease.job, lease.now, since)
        return waited >= timedelta(seconds=self._retry.give_up_after_seconds)
