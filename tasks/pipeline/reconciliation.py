"""What follows when a search at the provider shows no record, shows a faulty one, or fails.

Searches end by time alone. The patient may have been deleted since the upload, so a failed search proves nothing:
keep searching until the deadline, and never resend because a search failed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from config.settings import Retry
from tasks.accounts.account import Account
from tasks.accounts.breaker import CircuitBreaker
from tasks.folders.commit_log import CommitLog
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.model import backoff
from tasks.model.errors import DocumentRefused, StepError
from tasks.model.job import Job
from tasks.model.route import OnUnknownOutcome, Stage
from tasks.pipeline.final_failures import SEARCHES_FAILED, Failures, not_confirmed, refused

log = structlog.get_logger()

ONE_DAY_OF_SEARCHING = timedelta(days=1)
"""How long to search after `not_confirmed` (the slow search), and before a retried job of unknown outcome is sent."""

SLOW_SEARCH_CAPS = 10  # a slow search follows the one before after so many times confirm.cap_seconds


class Reconciliation:
    def __init__(
        self,
        ledger: Ledger,
        breaker: CircuitBreaker,
        commit_log: CommitLog,
        failures: Failures,
        retry: Retry,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._breaker = breaker
        self._commit_log = commit_log
        self._failures = failures
        self._retry = retry
        self._chance = chance

    def is_last_search(self, lease: Lease, account: Account) -> bool:
        """Whether the job will be sent again if this search finds nothing."""
        job = lease.job
        if job.stage is Stage.FAILED or not job.unknown_step:
            return False
        patience = ONE_DAY_OF_SEARCHING
        if not job.day_of_searching:
            patience = timedelta(seconds=account.settings.confirm.look_seconds)
        since = lease.now if self._another_commit(job) else job.unknown_since or lease.now
        return self._breaker.waited(job, lease.now, since) >= patience

    def after_empty_search(self, lease: Lease, account: Account, calls: int, doubt: str = "") -> bool:
        """The provider has no record yet: wait, send again, or give up. True when the job has ended.

        `doubt` names a record that may be the document's, and says why that is not certain.
        """
        job, confirm, search_for = lease.job, account.settings.confirm, None
        if job.stage is Stage.FAILED:
            return self._after_slow_search(lease, account, calls, doubt)
        if job.unknown_step:
            route = account.provider.route(job.document)
            if route.on_unknown_outcome is OnUnknownOutcome.HOLD:
                self._failures.hold_for_person(lease, calls)
                return True
            search_for = self._another_commit(job)
            resend = route.on_unknown_outcome is OnUnknownOutcome.RESEND
            if resend or self.is_last_search(lease, account):
                if doubt:
                    self._failures.hold_for_doubt(lease, calls, doubt)
                    return True
                self._ledger.send_again(lease, calls, route, reconciled_commit_at=self._committed_at(job))
                log.info("job_sent_again", job=job.id, account=job.account)
                return False
        elif self._confirmation_is_overdue(lease, account):
            self._failures.fail_unconfirmed(lease, calls, doubt)
            return True
        wait = backoff.poll_delay(job.searches, confirm.first_seconds, confirm.cap_seconds, self._chance)
        self._ledger.deferred(lease, wait, calls, found_nothing=True, search_for=search_for)
        return False

    def after_faulty_record(self, fault: DocumentRefused, lease: Lease, calls: int) -> None:
        """The provider has made something of the document that is not our document: the job has failed."""
        failure = refused(fault, lease.job)
        if lease.job.stage is Stage.FAILED:
            self._ledger.slow_search_ended(lease, failure, calls)
        else:
            self._failures.fail(lease, failure, calls)

    def after_failed_search(self, lease: Lease, account: Account, calls: int) -> bool:
        """The provider could not be searched: only the search's end decides. True when the job has ended."""
        job = lease.job
        if job.stage is Stage.FAILED:
            if self._slow_search_is_over(lease):
                return self._after_slow_search(lease, account, calls)
        elif job.unknown_step:
            since = job.unknown_since or lease.now
            if self._breaker.waited(job, lease.now, since) >= timedelta(seconds=self._retry.give_up_after_seconds):
                self._failures.hold_for_person(lease, calls, SEARCHES_FAILED)
                return True
        elif self._confirmation_is_overdue(lease, account):
            self._failures.fail_unconfirmed(lease, calls)
            return True
        self._ledger.deferred(lease, self._retry.cap_seconds, calls, failed=True)
        return False

    def _after_slow_search(self, lease: Lease, account: Account, calls: int, doubt: str = "") -> bool:
        if not self._slow_search_is_over(lease):
            wait = SLOW_SEARCH_CAPS * account.settings.confirm.cap_seconds
            self._ledger.deferred(lease, wait, calls, found_nothing=True)
            return False
        self._ledger.slow_search_ended(lease, not_confirmed(lease.job, final=True, doubt=doubt), calls)
        log.info("look_ended", job=lease.job.id, account=lease.job.account)
        return True

    def _slow_search_is_over(self, lease: Lease) -> bool:
        since = lease.job.unknown_since
        return since is not None and lease.now - since >= ONE_DAY_OF_SEARCHING

    def _confirmation_is_overdue(self, lease: Lease, account: Account) -> bool:
        waited = self._breaker.waited(lease.job, lease.now, lease.job.in_stage_since or lease.now)
        return waited >= timedelta(seconds=account.settings.confirm.give_up_after_seconds)

    def _another_commit(self, job: Job) -> datetime | None:
        """A commit that job.json knows, and for which this search has not begun yet.

        Redis may have lost that a search had ended, and what was sent after it. So the search for another commit begins
        anew. How long ago that commit was, the clock of whoever wrote job.json cannot prove.
        """
        committed_at = self._committed_at(job)
        return committed_at if committed_at != job.searched_commit_at else None

    def _committed_at(self, job: Job) -> datetime | None:
        """When job.json was told of the commit. None if it cannot be read: the next sending then finds it."""
        try:
            return self._commit_log.committed_at(job)
        except (StepError, OSError):
            return None
