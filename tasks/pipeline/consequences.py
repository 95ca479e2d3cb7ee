"""Carries out what follows for a job, once `recovery` or `reconciliation` has decided it.

A decision changes the job in the ledger, may change its account, and is told in the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cached_property

import structlog

from config.settings import Retry
from tasks.accounts.account import Account
from tasks.accounts.breaker import CircuitBreaker
from tasks.accounts.rate_limit import RateLimit
from tasks.folders.commit_log import CommitLog
from tasks.ledger import moves
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.ledger.moves import Move
from tasks.model.errors import LeaseLost, OutcomeUnknown, StepError
from tasks.model.job import Failure, Job
from tasks.pipeline import recovery
from tasks.pipeline.decisions import (
    Case,
    CountUnreachable,
    Decision,
    Ending,
    EndSlowSearch,
    FailUnconfirmed,
    FailWith,
    HoldForPerson,
    Park,
    PresignAgainAfter,
    Reconcile,
    Remark,
    RepeatAfter,
    RetryAfter,
    SearchAgain,
    SearchAgainAfterFailure,
    SendAgain,
    Throttle,
    WaitForAccount,
)
from tasks.sources.documents import Documents

log = structlog.get_logger()


class Consequences:
    """Used by the runner, and by `confirm` for what its searches have not found."""

    def __init__(
        self,
        ledger: Ledger,
        breaker: CircuitBreaker,
        rate_limit: RateLimit,
        commit_log: CommitLog,
        documents: Documents,
        retry: Retry,
    ) -> None:
        self._ledger = ledger
        self._breaker = breaker
        self._rate_limit = rate_limit
        self._commit_log = commit_log
        self._documents = documents
        self._retry = retry

    def of_error(self, error: StepError, leases: Sequence[Lease], account: Account) -> tuple[str, ...]:
        """Carry out what follows for each job after an error of their step. Returns the ids of those that ended."""
        calls, reason = account.counted(), account.reason(error)
        self._tell_account(error, leases[0].job, account, reason)
        finished = []
        for lease in leases:
            try:
                if isinstance(error, OutcomeUnknown):
                    log.warning("outcome_unknown", job=lease.job.id, account=account.name, reason=str(error))
                decision = recovery.after_error(error, self.case(lease, account), reason)
                if self.carry_out(decision, lease, account, calls):
                    finished.append(lease.job.id)
            except LeaseLost as lost:
                log.info("lease_lost", job=lease.job.id, account=account.name, why=str(lost))
            calls = 0
        return tuple(finished)

    def case(self, lease: Lease, account: Account) -> Case:
        """What a decision on this job needs to know."""
        settings, route = account.settings, account.provider.route(lease.job.document)
        ask = _Asked(lease, account, self._breaker, self._commit_log)
        return Case(lease, route, self._retry, settings.confirm, ask)

    def carry_out(self, decision: Decision, lease: Lease, account: Account, calls: int) -> bool:
        """Record a decision. `calls` are the requests that its step has made. True when the job has ended."""
        job = lease.job
        match decision:
            case RetryAfter(seconds, reason):
                self._ledger.apply(lease, moves.deferred(lease, seconds, calls, failed=decision.is_failure))
                log.info("job_deferred", job=job.id, account=job.account, reason=reason, seconds=round(seconds, 1))
            case PresignAgainAfter(seconds, reason):
                self._park(account, decision.parks, job)
                self._ledger.apply(lease, moves.presign_again(seconds, calls))
                log.info("job_presigned_again", job=job.id, account=job.account, reason=reason)
            case WaitForAccount(seconds):
                self._park(account, decision.parks, job)
                self._ledger.apply(lease, moves.blocked(lease, seconds, calls))
            case Reconcile(seconds):
                self._ledger.apply(lease, moves.outcome_unknown(job, seconds, calls))
            case RepeatAfter(seconds):
                self._ledger.apply(lease, moves.repeated(lease, seconds, calls))
            case SearchAgain(seconds, another):
                again = moves.deferred(lease, seconds, calls, found_nothing=True, search_for=another)
                self._ledger.apply(lease, again)
            case SearchAgainAfterFailure(seconds):
                self._ledger.apply(lease, moves.deferred(lease, seconds, calls, failed=True))
            case SendAgain(reconciled_commit_at):
                self._ledger.apply(lease, self._sending_again(job, account, calls, reconciled_commit_at))
                log.info("job_sent_again", job=job.id, account=job.account)
            case FailWith(failure):
                self._ledger.apply(lease, moves.failed(failure, calls))
                _log_failed(job, failure, failure.message)
            case FailUnconfirmed(failure):
                self._ledger.apply(lease, moves.failed(failure, calls, keep_name=True))
                _log_failed(job, failure, failure.message)
            case HoldForPerson(failure):
                self._ledger.apply(lease, moves.hold_for_person(failure, calls, self._sha256(job)))
                if decision.gave_up:
                    _log_failed(job, failure, decision.gave_up)
                else:
                    why = failure.message
                    log.warning("job_held", job=job.id, account=job.account, code=failure.code, reason=why)
            case EndSlowSearch(failure):
                self._ledger.apply(lease, moves.slow_search_ended(failure, calls))
                if decision.day_is_over:
                    log.info("look_ended", job=job.id, account=job.account)
        return isinstance(decision, Ending)

    def _tell_account(self, error: StepError, job: Job, account: Account, reason: str) -> None:
        match recovery.for_account(error, job, reason):
            case Throttle(seconds, group_reason):
                self._rate_limit.throttle(account.provider.limit_group, seconds, group_reason)
                log.info("account_throttled", account=account.name, seconds=seconds)
            case CountUnreachable(why):
                if self._breaker.unreachable(account.name, why) == "down":
                    log.warning("account_down", account=account.name, reason=why)
            case Remark(sentence):
                self._breaker.remark(account.name, sentence)
            case Park(why):
                self._park(account, why, job)

    def _park(self, account: Account, reason: str, job: Job) -> None:
        if reason:
            self._breaker.park(account.name, reason, job.id)
            log.warning("account_parked", account=account.name, reason=reason, job=job.id)

    def _sending_again(self, job: Job, account: Account, calls: int, reconciled_commit_at: datetime | None) -> Move:
        route = account.provider.route(job.document)
        redis_run = self._ledger.redis_run() if job.uncertainty.redis_run else ""
        return moves.send_again(job, calls, route, redis_run=redis_run, reconciled_commit_at=reconciled_commit_at)

    def _sha256(self, job: Job) -> str | None:
        """By this digest the same document is recognised when it comes again, also if its upload was never answered."""
        try:
            return job.sha256 or self._documents.sha256(job.id, job.document)
        except StepError:
            return None


class _Asked:
    """Implements `decisions.Inquiries` for one job of one account."""

    def __init__(self, lease: Lease, account: Account, breaker: CircuitBreaker, commit_log: CommitLog) -> None:
        self._lease = lease
        self._account = account
        self._breaker = breaker
        self._commit_log = commit_log

    def waited(self, since: datetime) -> timedelta:
        return self._breaker.waited(self._lease.job, self._lease.now, since)

    def others_got_through(self, since: datetime) -> bool:
        return self._breaker.progress_since(self._account.name, since)

    def probe_works(self) -> bool:
        try:
            self._account.provider.probe()
        except StepError:
            return False
        return True

    def committed_at(self) -> datetime | None:
        return self._committed_at

    @cached_property
    def _committed_at(self) -> datetime | None:
        # Read once: the commit that a decision calls searched for must be the one that it has judged.
        try:
            return self._commit_log.committed_at(self._lease.job)
        except (StepError, OSError):  # the next sending then finds it
            return None


def _log_failed(job: Job, failure: Failure, reason: str) -> None:
    log.warning("job_failed", job=job.id, account=job.account, code=failure.code, reason=reason)
