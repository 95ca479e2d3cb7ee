"""What becomes of jobs whose step ended without the result that it was meant to have."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from tasks.accounts.account import Account
from tasks.accounts.breaker import Gates
from tasks.folders.commit_log import Care
from tasks.ledger.lease import Hold
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
from tasks.model.route import Stage, Step, Unseen
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


class Aftermath:
    def __init__(
        self,
        ledger: Ledger,
        gates: Gates,
        care: Care,
        *,
        first: float,
        cap: float,
        give_up_after: float,
        slow_look: timedelta = _SLOW_LOOK,
    ) -> None:
        """`first`, `cap` and `give_up_after` are the settings' [retry], in seconds."""
        self._ledger = ledger
        self._gates = gates
        self._care = care
        self._first = first
        self._cap = cap
        self._give_up_after = timedelta(seconds=give_up_after)
        self._slow_look = slow_look
        self._chance = random.random

    def of(self, error: StageError, holds: Sequence[Hold], account: Account) -> tuple[str, ...]:
        """Settle jobs after an error of theirs. Returns the ids of those that ended."""
        calls = account.counted()
        self._tell_gates(error, holds[0], account)
        finished = []
        for hold in holds:
            try:
                if self._settle(error, hold, account, calls):
                    finished.append(hold.job.id)
            except LeaseLost as lost:
                log.info("lease_lost", job=hold.job.id, account=account.name, why=str(lost))
            calls = 0
        return tuple(finished)

    def of_a_look_without_result(self, hold: Hold, account: Account, calls: int) -> bool:
        """The provider has no record yet: wait, send again, or give up. True when the job ended."""
        job, confirm = hold.job, account.settings.confirm
        if job.stage is Stage.FAILED:
            return self._looked_slowly(hold, account, calls)
        if job.unknown_step:
            route = account.provider.route(job.document)
            if route.unseen is Unseen.HOLD:
                return self._hold(hold, calls)
            patience = self._slow_look if job.long_look else timedelta(seconds=confirm.look_seconds)
            looked_for = self._committed_at(job)
            # The later one: Redis may have lost that a look had ended, and what was sent after it.
            since = max(filter(None, (looked_for, job.unknown_since)), default=hold.now)
            if route.unseen is Unseen.RESEND or self._waited(hold, since) >= patience:
                self._ledger.send_again(hold, calls, route, looked_for=looked_for)
                log.info("job_sent_again", job=job.id, account=job.account)
                return False
        elif self._waited(hold, job.times[job.stage]) >= timedelta(seconds=confirm.give_up_after_seconds):
            self._fail(hold, _why_not_confirmed(job), calls, keep_name=True)
            return True
        wait = backoff.poll_delay(job.looks, confirm.first_seconds, confirm.cap_seconds, self._chance)
        self._ledger.deferred(hold, wait, calls, looked=True)
        return False

    def of_a_faulty_record(self, fault: DocumentRefused, hold: Hold, calls: int) -> bool:
        """The provider has made something of it that is not our document. True when the job ended."""
        failure = Failure(fault.code, fault.message, fault.hint, redacted(fault.detail, hold.job))
        if hold.job.stage is Stage.FAILED:
            self._ledger.look_ended(hold, failure, calls)
        else:
            self._fail(hold, failure, calls)
        return True

    def _committed_at(self, job: Job) -> datetime | None:
        """As job.json has it; where that cannot be read, the next sending finds that there is something to look for."""
        try:
            return self._care.committed_at(job)
        except (StageError, OSError):
            return None

    # --- gates -------------------------------------------------------------------------------------------------

    def _tell_gates(self, error: StageError, hold: Hold, account: Account) -> None:
        if isinstance(error, RetryLater) and error.throttled:
            self._gates.throttle(account.provider.limit_group, error.after_seconds or _THROTTLED_SECONDS)
            log.info("account_throttled", account=account.name, seconds=error.after_seconds)
        elif isinstance(error, (RetryLater, OutcomeUnknown)) and error.unreachable:
            if self._gates.unreachable(account.name, str(error)) == "down":
                log.warning("account_down", account=account.name, reason=str(error))
        elif isinstance(error, AccountBlocked) and hold.job.blocked_since is None:
            self._park(account, str(error), hold)

    def _park(self, account: Account, reason: str, hold: Hold) -> None:
        self._gates.park(account.name, reason, hold.job.id)
        log.warning("account_parked", account=account.name, reason=reason, job=hold.job.id)

    # --- jobs --------------------------------------------------------------------------------------------------

    def _settle(self, error: StageError, hold: Hold, account: Account, calls: int) -> bool:
        match error:
            case RetryLater():
                return self._retry(error, hold, account, calls)
            case PresignAgain():
                return self._presign_again(error, hold, account, calls)
            case DocumentRefused():
                return self._refuse(error, hold, account, calls)
            case AccountBlocked():
                return self._block(error, hold, account, calls)
            case OutcomeUnknown():
                log.warning("outcome_unknown", job=hold.job.id, account=account.name, reason=str(error))
                return self._unknown(hold, account, calls)
        raise error

    def _unknown(self, hold: Hold, account: Account, calls: int) -> bool:
        """Look, send the same ids again, or leave it to a human, as the provider allows. True when the job ended."""
        match account.provider.route(hold.job.document).unseen:
            case Unseen.HOLD:
                return self._hold(hold, calls)
            case Unseen.RESEND if self._out_of_patience(hold):
                return self._give_up(hold, "its outcome was never seen", calls)
            case Unseen.RESEND:
                wait = backoff.delay(hold.job.failures + 1, self._first, self._cap, self._chance)
                self._ledger.repeated(hold, wait, calls)
            case Unseen.LOOK:
                self._ledger.unknown(hold, account.settings.confirm.first_seconds, calls)
        return False

    def _hold(self, hold: Hold, calls: int, failure: Failure = _HELD) -> bool:
        self._ledger.held(hold, failure, calls, self._sha256(hold.job))
        log.warning("job_held", job=hold.job.id, account=hold.job.account, code=failure.code, reason=failure.message)
        return True

    def _sha256(self, job: Job) -> str | None:
        """By which the same document is known again, and another of its name and size is not taken for it."""
        try:
            return job.sha256 or self._care.sha256(job, lambda: None)
        except StageError:
            return None

    def _retry(self, error: RetryLater, hold: Hold, account: Account, calls: int) -> bool:
        job = hold.job
        ours = error.after_seconds is not None and not error.unreachable
        if not ours and self._out_of_patience(hold):
            if job.step is Step.CONFIRM:
                return self._look_failed(hold, account, calls)
            return self._give_up(hold, str(error), calls)
        delay = backoff.delay(job.failures + 1, self._first, self._cap, self._chance)
        if error.after_seconds is not None:
            delay = error.after_seconds * (1 + 0.2 * self._chance())
        self._ledger.deferred(hold, delay, calls, failed=not ours)
        log.info("job_deferred", job=job.id, account=job.account, reason=str(error), seconds=round(delay, 1))
        return False

    def _give_up(self, hold: Hold, why: str, calls: int) -> bool:
        """Tried for too long; what may have been sent in one of the tries is of unknown outcome. Always True."""
        if _may_have_arrived(hold.job):
            self._ledger.held(hold, _NEVER_SEEN, calls, self._sha256(hold.job))
            log.warning("job_failed", job=hold.job.id, account=hold.job.account, code=_NEVER_SEEN.code, reason=why)
            return True
        hint = "Retry it when the provider is well: chartpost retry."
        self._fail(hold, Failure(Code.GAVE_UP, f"Tried for too long: {why}", hint), calls)
        return True

    def _presign_again(self, error: PresignAgain, hold: Hold, account: Account, calls: int) -> bool:
        if hold.job.presigns >= _PRESIGNS_AT_MOST:
            blocked = AccountBlocked(f"{hold.job.presigns} forms in a row were of no use: {error}")
            self._tell_gates(blocked, hold, account)
            return self._block(blocked, hold, account, calls)
        at_once = hold.job.presigns < _PRESIGNS_AT_ONCE
        wait = 0.0 if at_once else backoff.delay(hold.job.presigns, self._first, self._cap, self._chance)
        self._ledger.presign_again(hold, wait, calls)
        log.info("job_presigned_again", job=hold.job.id, account=hold.job.account, reason=str(error))
        return False

    def _refuse(self, error: DocumentRefused, hold: Hold, account: Account, calls: int) -> bool:
        if hold.job.step is Step.CONFIRM:
            return self._look_failed(hold, account, calls)
        failure = Failure(error.code, error.message, error.hint, redacted(error.detail, hold.job))
        if error.code is Code.OUTCOME_UNKNOWN:
            return self._hold(hold, calls, failure)
        if _may_have_arrived(hold.job) and error.code is not Code.REFUSED_BY_PROVIDER:
            return self._give_up(hold, error.message, calls)  # the file is gone, but may have arrived
        self._fail(hold, failure, calls)
        return True

    def _block(self, error: AccountBlocked, hold: Hold, account: Account, calls: int) -> bool:
        if hold.job.blocked_since and self._is_the_documents_fault(error, hold, account):
            if hold.job.step is Step.CONFIRM:
                return self._look_failed(hold, account, calls)
            if _may_have_arrived(hold.job):
                return self._give_up(hold, str(error), calls)
            self._fail(hold, _REFUSED_ALONE, calls)
            return True
        wait = 0.0
        if hold.job.blocked_since:
            self._park(account, str(error), hold)
            wait = backoff.poll_delay(hold.job.attempts, self._first, self._cap, self._chance)
        self._ledger.blocked(hold, wait, calls)
        return False

    def _is_the_documents_fault(self, error: AccountBlocked, hold: Hold, account: Account) -> bool:
        """Whether the account works now, and this document alone is refused: by its keys, or while others get through.

        That others got through once is no proof for now: the keys may have been refused anew since.
        """
        since = hold.job.blocked_since
        alone = error.credentials or (since is not None and self._gates.progress_since(account.name, since))
        return alone and self._account_is_well(account)

    def _account_is_well(self, account: Account) -> bool:
        try:
            account.provider.probe()
        except StageError:
            return False
        return True

    def _look_failed(self, hold: Hold, account: Account, calls: int) -> bool:
        """The patient may be gone by now, but the document went before: only the look's end decides.

        Nothing is sent again for want of a look. True when the job ended.
        """
        job, confirm = hold.job, account.settings.confirm
        if job.stage is Stage.FAILED:
            if self._slow_look_is_over(hold):
                return self._looked_slowly(hold, account, calls)
        elif job.unknown_step:
            if self._waited(hold, job.unknown_since or hold.now) >= self._give_up_after:
                return self._hold(hold, calls, _NOT_TO_BE_SEEN)
        elif self._waited(hold, job.times[job.stage]) >= timedelta(seconds=confirm.give_up_after_seconds):
            self._fail(hold, _why_not_confirmed(job), calls, keep_name=True)
            return True
        self._ledger.deferred(hold, self._cap, calls, failed=True)
        return False

    def _slow_look_is_over(self, hold: Hold) -> bool:
        since = hold.job.unknown_since
        return since is not None and hold.now - since >= self._slow_look

    def _looked_slowly(self, hold: Hold, account: Account, calls: int) -> bool:
        job = hold.job
        if not self._slow_look_is_over(hold):
            self._ledger.deferred(hold, _SLOW_LOOK_CAPS * account.settings.confirm.cap_seconds, calls, looked=True)
            return False
        self._ledger.look_ended(hold, _why_not_confirmed(job, final=True), calls)
        log.info("look_ended", job=job.id, account=job.account)
        return True

    def _fail(self, hold: Hold, failure: Failure, calls: int, *, keep_name: bool = False) -> None:
        self._ledger.failed(hold, failure, calls, keep_name=keep_name)
        log.warning("job_failed", job=hold.job.id, account=hold.job.account, code=failure.code, reason=failure.message)

    # --- patience ----------------------------------------------------------------------------------------------

    def _out_of_patience(self, hold: Hold) -> bool:
        if hold.job.failing_since is None:
            return False
        return self._waited(hold, hold.job.failing_since) >= self._give_up_after

    def _waited(self, hold: Hold, since: datetime) -> timedelta:
        """How long a job has waited while its account was neither parked nor down."""
        sick = self._gates.sick_seconds(hold.job.account, hold.now) - hold.job.sick_before
        return hold.now - since - timedelta(seconds=max(0.0, sick))
