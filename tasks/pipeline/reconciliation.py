"""What follows when a search at the provider shows no record, shows a faulty one, or fails.

Searches end by time alone. The patient may have been deleted since the upload, so a failed search proves nothing:
keep searching until the deadline, and never resend because a search failed.

1.  The outcome is unknown: search for `confirm.look_seconds`, then repeat the step. A job that a person has continued
    is searched for during a day before that. Searches that all fail end after `retry.give_up_after_seconds`: a person
    must look, and nothing is sent.
2.  The document is stored or registered: search for `confirm.give_up_after_seconds`, then the job has failed with
    `not_confirmed`.
3.  After `not_confirmed`: search slowly for a day, then the failure is final.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from tasks.model import backoff
from tasks.model.errors import DocumentRefused
from tasks.model.job import Job
from tasks.model.polling import Looks
from tasks.model.route import OnUnknownOutcome, Stage
from tasks.pipeline.decisions import (
    Case,
    Decision,
    EndSlowSearch,
    FailUnconfirmed,
    FailWith,
    HoldForPerson,
    SearchAgain,
    SearchAgainAfterFailure,
    SendAgain,
)
from tasks.pipeline.final_failures import CANNOT_SEARCH, SEARCHES_FAILED, doubtful, not_confirmed, refused

ONE_DAY_OF_SEARCHING = timedelta(days=1)
"""How long to search after `not_confirmed` (the slow search), and before a retried job of unknown outcome is sent."""

SLOW_SEARCH_CAPS = 10  # a slow search follows the one before after so many times confirm.cap_seconds


def is_last_search(case: Case) -> bool:
    """Whether the job will be sent again if this search finds nothing."""
    job = case.job
    if job.stage is Stage.FAILED or not job.uncertainty.outcome_unknown:
        return False
    patience = timedelta(seconds=case.confirm.look_seconds)
    if job.uncertainty.day_of_searching:
        patience = ONE_DAY_OF_SEARCHING
    # Redis may have lost that a search had ended, and what was sent after it: the search for another commit begins
    # again. How long ago that commit was, the clock of whoever wrote job.json cannot prove.
    since = case.now if _another_commit(case) else job.uncertainty.unknown_since or case.now
    return case.has_waited(since, patience)


def after_empty_search(case: Case, looks: Looks, doubt: str = "") -> Decision:
    """The provider has no record yet: wait, send again, or fail.

    `doubt` names a record that may be the document's, and says why that is not certain.
    """
    job, confirm = case.job, case.confirm
    if job.stage is Stage.FAILED:
        if _slow_search_is_over(case):
            return EndSlowSearch(not_confirmed(job, final=True, doubt=doubt))
        return SearchAgain(SLOW_SEARCH_CAPS * confirm.cap_seconds)
    if not job.uncertainty.outcome_unknown:
        if _confirmation_is_overdue(case):
            return FailUnconfirmed(not_confirmed(job, doubt=doubt))
        return SearchAgain(looks.after(case.lease.in_stage.total_seconds(), job.counts.searches, case.chance))
    if case.on_unknown_outcome is OnUnknownOutcome.HOLD:
        return HoldForPerson(CANNOT_SEARCH)
    if case.on_unknown_outcome is OnUnknownOutcome.RESEND or is_last_search(case):
        # It may be there, in a record that does not prove it: sending it again could be a second copy.
        return HoldForPerson(doubtful(doubt)) if doubt else SendAgain(case.ask.committed_at())
    wait = backoff.poll_delay(job.counts.searches, confirm.first_seconds, confirm.cap_seconds, case.chance)
    return SearchAgain(wait, another_commit_at=_another_commit(case))


def after_faulty_record(fault: DocumentRefused, job: Job) -> Decision:
    """The provider has made something of the document that is not our document: the job has failed."""
    failure = refused(fault, job)
    return EndSlowSearch(failure, day_is_over=False) if job.stage is Stage.FAILED else FailWith(failure)


def after_failed_search(case: Case) -> Decision:
    """The provider could not be searched: only the search's end decides."""
    job = case.job
    if job.stage is Stage.FAILED:
        if _slow_search_is_over(case):
            return EndSlowSearch(not_confirmed(job, final=True))
    elif job.uncertainty.outcome_unknown:
        since = job.uncertainty.unknown_since or case.now
        if case.has_waited(since, timedelta(seconds=case.retry.give_up_after_seconds)):
            return HoldForPerson(SEARCHES_FAILED)
    elif _confirmation_is_overdue(case):
        return FailUnconfirmed(not_confirmed(job))
    return SearchAgainAfterFailure(case.retry.cap_seconds)


def _another_commit(case: Case) -> datetime | None:
    """When job.json was told of a commit for which this search has not begun yet."""
    committed_at = case.ask.committed_at()
    return committed_at if committed_at != case.job.uncertainty.searched_commit_at else None


def _slow_search_is_over(case: Case) -> bool:
    since = case.job.uncertainty.unknown_since
    return since is not None and case.now - since >= ONE_DAY_OF_SEARCHING


def _confirmation_is_overdue(case: Case) -> bool:
    patience = timedelta(seconds=case.confirm.give_up_after_seconds)
    return case.has_waited(case.job.since.stage or case.now, patience)
