"""What becomes of jobs whose step ended without the result that it was meant to have."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from tasks.accounts.account import Account
from tasks.accounts.breaker import CircuitBreaker
from tasks.folders.commit_log import Care
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
    StageError,
)
from tasks.model.job import Failure, Job
from tasks.model.route import OnUnknownOutcome, Stage, Step
from tasks.pipeline.failures import (
    _HELD,
    _NEVER_SEEN,
    _NOT_TO_BE_SEEN,
    _REFUSED_ALONE,
    _may_have_arrived,
    _why_not_confirmed,
    redacted,
)

log = structlog.get_logger()

_PRESIGNS_AT_ONCE = 3
_PRESIGNS_AT_MOST = 6
_SLOW_LOOK = timedelta(days=1)
_SLOW_LOOK_CAPS = 10
_THROTTLED_SECONDS = 10.0


class Recovery:
    def __init__(
        self,
        ledger: Ledger,
        breaker: CircuitBreaker,
        care: Care,
        *,
        first: float,
        cap: float,
        give_up_after: float,
        slow_look: timedelta = _SLOW_LOOK,
    ) -> None:
        """`first`, `cap` and `give_up_after` are the settings' [retry], in seconds."""
        self._ledger = ledger
        self._breaker = breaker
        self._care = care
        self._first = first
        self._cap = cap
        self._give_up_after = timedelta(seconds=give_up_after)
        self._slow_look = slow_look
        self._chance = random.random

    def of(self, error: StageError, leases: Sequence[Lease], account: Account) -> tuple[str, ...]:
        """Settle jobs after an error of theirs. Returns the ids of those that ended."""
        calls = account.counted()
        self._tell_breaker(error, leases[0], account)
        finished = []
        for lease in leases:
            try:
                if self._settle(error, lease, account, calls):
                    finished.append(lease.job.id)
            except LeaseLost as lost:
                log.info("lease_lost", job=lease.job.id, account=account.name, why=str(lost))
            calls = 0
        return tuple(finished)

    def of_a_look_without_result(self, lease: Lease, account: Account, calls: int) -> bool:
        """The provider has no record yet: wait, send again, or give up. True when the job ended."""
        job, confirm = lease.job, account.settings.confirm
        if job.stage is Stage.FAILED:
            return self._looked_slowly(lease, account, calls)
        if job.unknown_step:
            route = account.provider.route(job.document)
            if route.on_unknown_outcome is OnUnknownOutcome.HOLD:
                return self._lease(lease, calls)
            patience = self._slow_look if job.long_reconciliation else timedelta(seconds=confirm.look_seconds)
            reconciled_commit_at = self._committed_at(job)
            # The later one: Redis may have lost that a look had ended, and what was sent after it.
            since = max(filter(None, (reconciled_commit_at, job.unknown_since)), default=lease.now)
            if route.on_unknown_outcome is OnUnknownOutcome.RESEND or self._waited(lease, since) >= patience:
                self._ledger.send_again(lease, calls, route, reconciled_commit_at=reconciled_commit_at)
                log.info("job_sent_again", job=job.id, account=job.account)
                return False
        elif self._waited(lease, job.times[job.stage]) >= timedelta(seconds=confirm.give_up_after_seconds):
            self._fail(lease, _why_not_confirmed(job), calls, keep_name=True)
            return True
        wait = backoff.poll_delay(job.polls, confirm.first_seconds, confirm.cap_seconds, self._chance)
        self._ledger.deferred(lease, wait, calls, polled=True)
        return False

    def of_a_faulty_record(self, fault: DocumentRefused, lease: Lease, calls: int) -> bool:
        """The provider has made something of it that is not our document. True when the job ended."""
        failure = Failure(fault.code, fault.message, fault.hint, redacted(fault.detail, lease.job))
        if lease.job.stage is Stage.FAILED:
            self._ledger.reconciliation_ended(lease, failure, calls)
        else:
            self._fail(lease, failure, calls)
        return True

    def _committed_at(self, job: Job) -> datetime | None:
        """As job.json has it; where that cannot be read, the next sending finds that there is something to look for."""
        try:
            return self._care.committed_at(job)
        except (StageError, OSError):
            return None

    # --- gates -------------------------------------------------------------------------------------------------

    def _tell_breaker(self, error: StageError, lease: Lease, account: Account) -> None:
        if isinstance(error, RetryLater) and error.throttled:
            self._breaker.throttle(account.provider.limit_group, error.after_seconds or _THROTTLED_SECONDS)
            log.info("account_throttled", account=account.name, seconds=error.after_seconds)
        elif isinstance(error, (RetryLater, OutcomeUnknown)) and error.unreachable:
            if self._breaker.unreachable(account.name, str(error)) == "down":
                log.warning("account_down", account=account.name, reason=str(error))
        elif isinstance(error, AccountBlocked) and lease.job.blocked_since is None:
            self._park(account, str(error), lease)

    def _park(self, account: Account, reason: str, lease: Lease) -> None:
        self._breaker.park(account.name, reason, lease.job.id)
        log.warning("account_parked", account=account.name, reason=reason, job=lease.job.id)

    # --- jobs --------------------------------------------------------------------------------------------------

    def _settle(self, error: StageError, lease: Lease, account: Account, calls: int) -> bool:
        match error:
            case RetryLater():
                return self._retry(error, lease, account, calls)
            case PresignAgain():
                return self._presign_again(error, lease, account, calls)
            case DocumentRefused():
                return self._refuse(error, lease, account, calls)
            case AccountBlocked():
                return self._block(error, lease, account, calls)
            case OutcomeUnknown():
                log.warning("outcome_unknown", job=lease.job.id, account=account.name, reason=str(error))
                return self._unknown(lease, account, calls)
        raise error

    def _unknown(self, lease: Lease, account: Account, calls: int) -> bool:
        """Look, send the same ids again, or leave it to a human, as the provider allows. True when the job ended."""
        match account.provider.route(lease.job.document).on_unknown_outcome:
            case OnUnknownOutcome.HOLD:
                return self._lease(lease, calls)
            case OnUnknownOutcome.RESEND if self._out_of_patience(lease):
                return self._give_up(lease, "its outcome was never seen", calls)
            case OnUnknownOutcome.RESEND:
                wait = backoff.delay(lease.job.failures + 1, self._first, self._cap, self._chance)
                self._ledger.repeated(lease, wait, calls)
            case OnUnknownOutcome.RECONCILE:
                self._ledger.unknown(lease, account.settings.confirm.first_seconds, calls)
        return False

    def _lease(self, lease: Lease, calls: int, failure: Failure = _HELD) -> bool:
        self._ledger.hold_for_person(lease, failure, calls, self._sha256(lease.job))
        log.warning("job_held", job=lease.job.id, account=lease.job.account, code=failure.code, reason=failure.message)
        return True

    def _sha256(self, job: Job) -> str | None:
        """By which the same document is known again, and another of its name and size is not taken for it."""
        try:
            return job.sha256 or self._care.sha256(job, lambda: None)
        except StageError:
            return None

    def _retry(self, error: RetryLater, lease: Lease, account: Account, calls: int) -> bool:
        job = lease.job
        ours = error.after_seconds is not None and not error.unreachable
        if not ours and self._out_of_patience(lease):
            if job.step is Step.CONFIRM:
                return self._look_failed(lease, account, calls)
            return self._give_up(lease, str(error), calls)
        delay = backoff.delay(job.failures + 1, self._first, self._cap, self._chance)
        if error.after_seconds is not None:
            delay = error.after_seconds * (1 + 0.2 * self._chance())
        self._ledger.deferred(lease, delay, calls, failed=not ours)
        log.info("job_deferred", job=job.id, account=job.account, reason=str(error), seconds=round(delay, 1))
        return False

    def _give_up(self, lease: Lease, why: str, calls: int) -> bool:
        """Tried for too long; what may have been sent in one of the tries is of unknown outcome. Always True."""
        if _may_have_arrived(lease.job):
            self._ledger.hold_for_person(lease, _NEVER_SEEN, calls, self._sha256(lease.job))
            log.warning("job_failed", job=lease.job.id, account=lease.job.account, code=_NEVER_SEEN.code, reason=why)
            return True
        hint = "Retry it when the provider is well: chartpost retry."
        self._fail(lease, Failure(Code.GAVE_UP, f"Tried for too long: {why}", hint), calls)
        return True

    def _presign_again(self, error: PresignAgain, lease: Lease, account: Account, calls: int) -> bool:
        if lease.job.presigns >= _PRESIGNS_AT_MOST:
            blocked = AccountBlocked(f"{lease.job.presigns} forms in a row were of no use: {error}")
            self._tell_breaker(blocked, lease, account)
            return self._block(blocked, lease, account, calls)
        at_once = lease.job.presigns < _PRESIGNS_AT_ONCE
        wait = 0.0 if at_once else backoff.delay(lease.job.presigns, self._first, self._cap, self._chance)
        self._ledger.presign_again(lease, wait, calls)
        log.info("job_presigned_again", job=lease.job.id, account=lease.job.account, reason=str(error))
        return False

    def _refuse(self, error: DocumentRefused, lease: Lease, account: Account, calls: int) -> bool:
        if lease.job.step is Step.CONFIRM:
            return self._look_failed(lease, account, calls)
        failure = Failure(error.code, error.message, error.hint, redacted(error.detail, lease.job))
        if error.code is Code.OUTCOME_UNKNOWN:
            return self._lease(lease, calls, failure)
        if _may_have_arrived(lease.job) and error.code is not Code.REFUSED_BY_PROVIDER:
            return self._give_up(lease, error.message, calls)  # the file is gone, but may have arrived
        self._fail(lease, failure, calls)
        return True

    def _block(self, error: AccountBlocked, lease: Lease, account: Account, calls: int) -> bool:
        if lease.job.blocked_since and self._is_the_documents_fault(error, lease, account):
            if lease.job.step is Step.CONFIRM:
                return self._look_failed(lease, account, calls)
            if _may_have_arrived(lease.job):
                return self._give_up(lease, str(error), calls)
            self._fail(lease, _REFUSED_ALONE, calls)
            return True
        wait = 0.0
        if lease.job.blocked_since:
            self._park(account, str(error), lease)
            wait = backoff.poll_delay(lease.job.attempts, self._first, self._cap, self._chance)
        self._ledger.blocked(lease, wait, calls)
        return False

    def _is_the_documents_fault(self, error: AccountBlocked, lease: Lease, account: Account) -> bool:
        """Whether the account works now, and this document alone is refused: by its keys, or while others get through.

        That others got through once is no proof for now: the keys may have been refused anew since.
        """
        since = lease.job.blocked_since
        alone = error.credentials or (since is not None and self._breaker.progress_since(account.name, since))
        return alone and self._account_is_well(account)

    def _account_is_well(self, account: Account) -> bool:
        try:
            account.provider.probe()
        except StageError:
            return False
        return True

    def _look_failed(self, lease: Lease, account: Account, calls: int) -> bool:
        """The patient may be gone by now, but the document went before: only the look's end decides.

        Nothing is sent again for want of a look. True when the job ended.
        """
        job, confirm = lease.job, account.settings.confirm
        if job.stage is Stage.FAILED:
            if self._slow_look_is_over(lease):
                return self._looked_slowly(lease, account, calls)
        elif job.unknown_step:
            if self._waited(lease, job.unknown_since or lease.now) >= self._give_up_after:
                return self._lease(lease, calls, _NOT_TO_BE_SEEN)
        elif self._waited(lease, job.times[job.stage]) >= timedelta(seconds=confirm.give_up_after_seconds):
            self._fail(lease, _why_not_confirmed(job), calls, keep_name=True)
            return True
        self._ledger.deferred(lease, self._cap, calls, failed=True)
        return False

    def _slow_look_is_over(self, lease: Lease) -> bool:
        since = lease.job.unknown_since
        return since is not None and lease.now - since >= self._slow_look

    def _looked_slowly(self, lease: Lease, account: Account, calls: int) -> bool:
        job = lease.job
        if not self._slow_look_is_over(lease):
            self._ledger.deferred(lease, _SLOW_LOOK_CAPS * account.settings.confirm.cap_seconds, calls, polled=True)
            return False
        self._ledger.reconciliation_ended(lease, _why_not_confirmed(job, final=True), calls)
        log.info("look_ended", job=job.id, account=job.account)
        return True

    def _fail(self, lease: Lease, failure: Failure, calls: int, *, keep_name: bool = False) -> None:
        self._ledger.failed(lease, failure, calls, keep_name=keep_name)
        log.warning(
            "job_failed", job=lease.job.id, account=lease.job.account, code=failure.code, reason=failure.message
        )

    # --- patience ----------------------------------------------------------------------------------------------

    def _out_of_patience(self, lease: Lease) -> bool:
        if lease.job.failing_since is None:
            return False
        return self._waited(lease, lease.job.failing_since) >= self._give_up_after

    def _waited(self, lease: Lease, since: datetime) -> timedelta:
        """How long a job has waited while its account was neither parked nor down."""
        sick = self._breaker.open_seconds(lease.job.account, lease.now) - lease.job.open_seconds_before
        return lease.now - since - timedelta(seconds=max(0.0, sick))
