"""What follows when a step raises an error. The life of a failing job:

1.  What an answer means is decided where it is read: the storage's in `transfer.answers`, a provider's in its table of
    statuses (`providers.statuses`). The step then raises one of the errors of `model.errors`; each is named for what
    happens next. `Consequences.of_error` asks this file about it, and carries out what it answers.
2.  The account hears of it first (`for_account`). A throttled provider pauses its whole limit group. An unreachable
    one counts towards *down*. Refused credentials *park* the account. Other accounts go on.
3.  RetryLater (`_retry_later`): the same step again, after a back-off with jitter (`_backoff`), or when the provider
    has asked for it. The budget is time, `retry.give_up_after_seconds` (`_out_of_time`). Time in which the account was
    parked or down does not count, nor does a wait that the provider asked for. When the budget is spent the job fails
    with `gave_up` (`_give_up`).
4.  PresignAgain (`_presign_again`): back to presign, at once the first times. After six forms the account is parked,
    unless its other documents get through. The document never fails for its forms: it gets another one when the
    account works.
5.  DocumentRefused (`_refused`): the job fails, and is never retried automatically.
6.  AccountBlocked (`_blocked`): the document waits untouched while its account is parked. It is tried again when a
    probe has succeeded. If it is refused again while the account works, the fault is the document's: the job fails
    with `refused_by_provider` (`_only_this_document`). The account works if its probe succeeds now, and either the
    error looks like refused credentials or other documents got through. Some errors say nothing about the document
    (`never_the_document`), such as the page of a web filter. No document ever fails for one of these.
7.  OutcomeUnknown (`_outcome_unknown`): the document may be in the chart. Its route decides: search for the record
    first (*reconcile*), send the same ids again (*resend*), or wait for a person, with `outcome_unknown` (*hold*).
8.  A search that fails proves nothing, and neither does one refusal of it. A job whose step is a search goes on
    searching until its deadline (`reconciliation.after_failed_search`).
9.  A job that an earlier try may have delivered never fails with `gave_up` or `refused_by_provider` because a later
    try did not come through: it waits for a person, with `outcome_unknown` (`_give_up`). Only the provider's own
    refusal of the document is believed. See `Job.may_have_arrived`.
10. A failed job is closed: its file moves to failed/ with an error file (`closing`). After `not_confirmed` a slow
    search goes on for a day and may still turn it into a delivery (`moves.search_slowly`). `chartpost retry` and
    `chartpost resolve` take it up again.

Each of these is a row of the table in `tests/tasks/pipeline/test_decisions.py`.
"""

from __future__ import annotations

from datetime import timedelta

from tasks.model import backoff
from tasks.model.errors import (
    AccountBlocked,
    Code,
    DocumentRefused,
    OutcomeUnknown,
    PresignAgain,
    RetryLater,
    StepError,
)
from tasks.model.job import Job
from tasks.model.route import OnUnknownOutcome, Step
from tasks.pipeline import reconciliation
from tasks.pipeline.decisions import (
    AccountDecision,
    Case,
    CountUnreachable,
    Decision,
    FailWith,
    HoldForPerson,
    Park,
    PresignAgainAfter,
    Reconcile,
    Remark,
    RepeatAfter,
    RetryAfter,
    Throttle,
    WaitForAccount,
)
from tasks.pipeline.final_failures import CANNOT_SEARCH, NEVER_ANSWERED, gave_up, refused, refused_alone

_PRESIGNS_AT_ONCE = 3
_PRESIGNS_AT_MOST = 6
_THROTTLED_SECONDS = 10.0  # when a throttling provider does not say how long
_LONGEST_BEHIND_A_STOPPED_GROUP = 60.0


def for_account(error: StepError, job: Job, reason: str) -> AccountDecision | None:
    """Whether the error slows or stops the whole account. `job` is one of those whose step raised it.

    `reason` is the error for people, which may say more than the error itself.
    """
    match error:
        case RetryLater(throttled=True):
            return Throttle(error.after_seconds or _THROTTLED_SECONDS, error.group_reason)
        case RetryLater(unreachable=True) | OutcomeUnknown(unreachable=True):
            return CountUnreachable(str(error))
        case RetryLater(lasting=True):
            return Remark(f"{error} Job {job.id} and others of its patient wait.")
        case AccountBlocked() if job.since.blocked is None:
            return Park(reason)
    return None


def after_error(error: StepError, case: Case, reason: str) -> Decision:
    """What follows for a job whose step has raised this error. `reason` as in `for_account`."""
    match error:
        case RetryLater():
            return _retry_later(error, case)
        case PresignAgain():
            return _presign_again(case, reason)
        case DocumentRefused():
            return _refused(error, case)
        case AccountBlocked():
            return _blocked(error, case, reason)
        case OutcomeUnknown():
            return _outcome_unknown(case)
    raise error


def _retry_later(error: RetryLater, case: Case) -> Decision:
    # A wait that the provider asked for while it answered is no failure, and costs nothing of the budget.
    asked_for = error.after_seconds is not None and not error.unreachable
    if not asked_for and _out_of_time(case):
        if case.job.step is Step.CONFIRM:
            return reconciliation.after_failed_search(case)
        return _give_up(case, str(error))
    if error.after_seconds is None:
        wait = _backoff(case, case.job.counts.failures + 1)
    else:
        wait = error.after_seconds
        if error.throttled:  # its group is stopped for the whole of that time, unless a person resumes it
            wait = min(wait, _LONGEST_BEHIND_A_STOPPED_GROUP)
        wait *= 1 + 0.2 * case.chance()  # so that not all come back at the same moment
    return RetryAfter(wait, str(error), is_failure=not asked_for)


def _presign_again(case: Case, reason: str) -> Decision:
    presigns = case.job.counts.presigns
    if presigns < _PRESIGNS_AT_ONCE:
        return PresignAgainAfter(0.0, reason)
    if presigns < _PRESIGNS_AT_MOST:
        return PresignAgainAfter(_backoff(case, presigns), reason)
    # A form's age is no property of the document, which waits however long it takes; and others first.
    wait = _behind_others(case, presigns)
    if case.ask.others_got_through(case.job.since.stage or case.now):
        return PresignAgainAfter(wait, reason)
    return PresignAgainAfter(wait, reason, parks=f"{presigns} forms in a row were of no use: {reason}")


def _refused(error: DocumentRefused, case: Case) -> Decision:
    if case.job.step is Step.CONFIRM:
        return reconciliation.after_failed_search(case)
    failure = refused(error, case.job)
    if error.code is Code.OUTCOME_UNKNOWN:
        return HoldForPerson(failure)
    if case.job.may_have_arrived and error.code is not Code.REFUSED_BY_PROVIDER:
        return _give_up(case, error.message)  # the file is gone, but may have arrived
    return FailWith(failure)


def _blocked(error: AccountBlocked, case: Case, reason: str) -> Decision:
    if case.job.since.blocked is None:
        return WaitForAccount()
    if _only_this_document(error, case):
        if case.job.step is Step.CONFIRM:
            return reconciliation.after_failed_search(case)
        return _give_up(case, str(error)) if case.job.may_have_arrived else FailWith(refused_alone(error))
    # It has parked the account before: let others try first.
    return WaitForAccount(_behind_others(case, case.job.counts.attempts), parks=reason)


def _only_this_document(error: AccountBlocked, case: Case) -> bool:
    """True if the account works now and refuses this document alone."""
    if error.never_the_document:
        return False
    since = case.job.since.blocked
    works = error.credentials or (since is not None and case.ask.others_got_through(since))
    # That others got through proves nothing about now: the keys may have been refused again since.
    return works and case.ask.probe_works()


def _outcome_unknown(case: Case) -> Decision:
    match case.on_unknown_outcome:
        case OnUnknownOutcome.HOLD:
            return HoldForPerson(CANNOT_SEARCH)
        case OnUnknownOutcome.RESEND if _out_of_time(case):
            return _give_up(case, "its outcome was never seen")
        case OnUnknownOutcome.RESEND:
            return RepeatAfter(_backoff(case, case.job.counts.failures + 1))
        case OnUnknownOutcome.RECONCILE:
            return Reconcile(case.confirm.first_seconds)


def _give_up(case: Case, why: str) -> Decision:
    """It was tried for too long. What an earlier try may have sent is of unknown outcome, not given up."""
    return HoldForPerson(NEVER_ANSWERED, gave_up=why) if case.job.may_have_arrived else FailWith(gave_up(why))


def _out_of_time(case: Case) -> bool:
    since = case.job.since.failing
    return since is not None and case.has_waited(since, timedelta(seconds=case.retry.give_up_after_seconds))


def _backoff(case: Case, failures: int) -> float:
    return backoff.delay(failures, case.retry.first_seconds, case.retry.cap_seconds, case.chance)


def _behind_others(case: Case, times: int) -> float:
    """Seconds with less jitter than a back-off has, which may be none at all: others go first."""
    return backoff.poll_delay(times, case.retry.first_seconds, case.retry.cap_seconds, case.chance)
