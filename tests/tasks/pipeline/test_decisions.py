"""What follows for a job, as a table: (its state, what happened) -> decision. Nothing is read or written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from config.accounts import Confirm
from config.settings import Retry
from tasks.ledger.lease import Lease
from tasks.model.document import Relabeling
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
from tasks.model.job import Counts, Failure, Job, Record, Since, Uncertainty
from tasks.model.polling import Looks
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tasks.pipeline.decisions import (
    AccountDecision,
    Case,
    CountUnreachable,
    Decision,
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
from tasks.pipeline.final_failures import CANNOT_SEARCH, NEVER_ANSWERED, SEARCHES_FAILED, doubtful, gave_up
from tasks.pipeline.reconciliation import after_empty_search, after_failed_search, after_faulty_record, is_last_search
from tasks.pipeline.recovery import after_error, for_account
from tests.tasks.providers.doubles import job as made_job

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RETRY = Retry(first_seconds=1, cap_seconds=100, give_up_after_seconds=3600)
CONFIRM = Confirm(first_seconds=2, cap_seconds=60, give_up_after_seconds=1800, look_seconds=600)
RECONCILE, RESEND, HOLD = OnUnknownOutcome.RECONCILE, OnUnknownOutcome.RESEND, OnUnknownOutcome.HOLD
LOOKS = Looks((), CONFIRM.first_seconds, CONFIRM.cap_seconds)
A_COMMIT, A_LATER_COMMIT = NOW - timedelta(minutes=9), NOW - timedelta(minutes=1)


def ago(**spans: float) -> datetime:
    return NOW - timedelta(**spans)


@dataclass
class World:
    """What a decision asks. A question whose answer must not decide raises."""

    others: bool | None = None
    probe: bool | None = None
    committed: datetime | None = None
    excused: timedelta = timedelta()
    asked: list[str] = field(default_factory=list)

    def waited(self, since: datetime) -> timedelta:
        return NOW - since - self.excused

    def others_got_through(self, since: datetime) -> bool:
        assert self.others is not None, "whether others got through must not decide"
        self.asked.append("others")
        return self.others

    def probe_works(self) -> bool:
        assert self.probe is not None, "a probe must not decide"
        self.asked.append("probe")
        return self.probe

    def committed_at(self) -> datetime | None:
        return self.committed


def a_job(step: Step = Step.POST, stage: Stage = Stage.PRESIGNED, **parts: object) -> Job:
    since = Since(stage=ago(minutes=1))
    return replace(made_job(), stage=stage, step=step, **{"since": since, **parts})  # type: ignore[arg-type]  # parts


def case(job: Job, world: World | None = None, on_unknown_outcome: OnUnknownOutcome = RECONCILE) -> Case:
    """With a chance of a half in all that is left to it."""
    route = Route(on_unknown_outcome=on_unknown_outcome)
    return Case(Lease(job, "1", NOW), route, RETRY, CONFIRM, world or World(), chance=lambda: 0.5)


SENT = Uncertainty(committed=True)
SENT_BEFORE = Uncertainty(earlier_sending_unknown=True)
SEARCHED = Uncertainty(committed=True, unknown_step=Step.POST, unknown_since=ago(minutes=1))
LABELS = replace(made_job().document, relabeling=Relabeling("d", ()))

LATER = RetryLater("No answer.")
USELESS = PresignAgain("The form has expired.")
BLOCKED = AccountBlocked("The keys are refused.", credentials=True)
STRANGE = AccountBlocked("Nobody knows what this means.")
FILTER = AccountBlocked("A page for people.", never_the_document=True)
UNKNOWN_PATIENT = DocumentRefused(Code.REFUSED_BY_PROVIDER, "No such patient.")
MISSING = DocumentRefused(Code.FILE_MISSING, "It is gone.")
UNSEEN = OutcomeUnknown("No answer came.")

TRIED_FOR_LONG = Since(stage=ago(days=1), failing=ago(hours=2))
PARKED_BEFORE = Since(stage=ago(hours=1), blocked=ago(minutes=30))
REFUSED_ALONE = Failure(
    Code.REFUSED_BY_PROVIDER,
    "The provider refuses this document, and takes others of the same account.",
    "Ask the provider what this account may write for this patient, or what is wrong with this file; then retry.",
)

Row = tuple[str, Job, StepError, World, OnUnknownOutcome, Decision]

# By the numbers of the story in `recovery`.
AFTER_ERRORS: tuple[Row, ...] = (
    ("3 the first failure", a_job(), LATER, World(), RECONCILE, RetryAfter(0.5, "No answer.")),
    (
        "3 the fourth in a row waits longer",
        a_job(counts=Counts(failures=3)),
        LATER,
        World(),
        RECONCILE,
        RetryAfter(4.0, "No answer."),
    ),
    (
        "3 as the provider has asked",
        a_job(since=TRIED_FOR_LONG),
        RetryLater("Come back.", after_seconds=30),
        World(),
        RECONCILE,
        RetryAfter(33.0, "Come back.", is_failure=False),
    ),
    (
        "3 behind a stopped group it is due soon",
        a_job(),
        RetryLater("Come back.", after_seconds=3600, throttled=True),
        World(),
        RECONCILE,
        RetryAfter(66.0, "Come back.", is_failure=False),
    ),
    (
        "3 an outage with a time costs budget",
        a_job(since=TRIED_FOR_LONG),
        RetryLater("Away.", after_seconds=30, unreachable=True),
        World(),
        RECONCILE,
        FailWith(gave_up("Away.")),
    ),
    ("3 the budget is spent", a_job(since=TRIED_FOR_LONG), LATER, World(), RECONCILE, FailWith(gave_up("No answer."))),
    (
        "3 time parked or down does not count",
        a_job(since=TRIED_FOR_LONG),
        LATER,
        World(excused=timedelta(hours=1, seconds=1)),
        RECONCILE,
        RetryAfter(0.5, "No answer."),
    ),
    (
        "4 a new form at once",
        a_job(counts=Counts(presigns=2)),
        USELESS,
        World(),
        RECONCILE,
        PresignAgainAfter(0, "why"),
    ),
    (
        "4 a new form later",
        a_job(counts=Counts(presigns=3)),
        USELESS,
        World(),
        RECONCILE,
        PresignAgainAfter(2.0, "why"),
    ),
    (
        "4 six forms park the account",
        a_job(counts=Counts(presigns=6)),
        USELESS,
        World(others=False),
        RECONCILE,
        PresignAgainAfter(64.0, "why", parks="6 forms in a row were of no use: why"),
    ),
    (
        "4 unless others get through",
        a_job(counts=Counts(presigns=6)),
        USELESS,
        World(others=True),
        RECONCILE,
        PresignAgainAfter(64.0, "why"),
    ),
    (
        "5 the document is refused",
        a_job(),
        UNKNOWN_PATIENT,
        World(),
        RECONCILE,
        FailWith(Failure(Code.REFUSED_BY_PROVIDER, "No such patient.")),
    ),
    ("6 the account is refused", a_job(), BLOCKED, World(), RECONCILE, WaitForAccount()),
    (
        "6 it is refused again, and so is the probe",
        a_job(since=PARKED_BEFORE, counts=Counts(attempts=2)),
        BLOCKED,
        World(probe=False),
        RECONCILE,
        WaitForAccount(4.0, parks="why"),
    ),
    (
        "6 it is refused alone",
        a_job(since=PARKED_BEFORE),
        BLOCKED,
        World(probe=True),
        RECONCILE,
        FailWith(REFUSED_ALONE),
    ),
    (
        "6 no credentials, and nobody gets through",
        a_job(since=PARKED_BEFORE),
        STRANGE,
        World(others=False),
        RECONCILE,
        WaitForAccount(1.0, parks="why"),
    ),
    (
        "6 no credentials, and others get through",
        a_job(since=PARKED_BEFORE),
        STRANGE,
        World(others=True, probe=True),
        RECONCILE,
        FailWith(REFUSED_ALONE),
    ),
    (
        "6 others got through, and the probe is refused now",
        a_job(since=PARKED_BEFORE),
        STRANGE,
        World(others=True, probe=False),
        RECONCILE,
        WaitForAccount(1.0, parks="why"),
    ),
    (
        "6 what says nothing about the document",
        a_job(since=PARKED_BEFORE),
        FILTER,
        World(),
        RECONCILE,
        WaitForAccount(1.0, parks="why"),
    ),
    ("7 reconcile", a_job(), UNSEEN, World(), RECONCILE, Reconcile(2.0)),
    ("7 resend", a_job(), UNSEEN, World(), RESEND, RepeatAfter(0.5)),
    ("7 hold", a_job(), UNSEEN, World(), HOLD, HoldForPerson(CANNOT_SEARCH)),
    (
        "7 resend, and the budget is spent",
        a_job(since=TRIED_FOR_LONG, uncertainty=SENT_BEFORE),
        UNSEEN,
        World(),
        RESEND,
        HoldForPerson(NEVER_ANSWERED, gave_up="its outcome was never seen"),
    ),
    (
        "8 a search that fails",
        a_job(Step.CONFIRM, Stage.STORED, since=TRIED_FOR_LONG),
        LATER,
        World(excused=timedelta(hours=23, minutes=50)),
        RECONCILE,
        RetryAfter(0.5, "No answer."),
    ),
    (
        "8 a search whose budget is spent ends by its own deadline",
        a_job(Step.CONFIRM, since=TRIED_FOR_LONG, uncertainty=SEARCHED),
        LATER,
        World(),
        RECONCILE,
        SearchAgainAfterFailure(100),
    ),
    (
        "8 a search that is refused",
        a_job(Step.CONFIRM, uncertainty=SEARCHED),
        UNKNOWN_PATIENT,
        World(),
        RECONCILE,
        SearchAgainAfterFailure(100),
    ),
    (
        "8 a search that alone is refused",
        a_job(Step.CONFIRM, since=PARKED_BEFORE, uncertainty=SEARCHED),
        BLOCKED,
        World(probe=True),
        RECONCILE,
        SearchAgainAfterFailure(100),
    ),
    (
        "9 the budget is spent after something was sent",
        a_job(since=TRIED_FOR_LONG, uncertainty=SENT),
        LATER,
        World(),
        RECONCILE,
        HoldForPerson(NEVER_ANSWERED, gave_up="No answer."),
    ),
    (
        "9 it is refused alone after something was sent",
        a_job(since=PARKED_BEFORE, uncertainty=SENT_BEFORE),
        BLOCKED,
        World(probe=True),
        RECONCILE,
        HoldForPerson(NEVER_ANSWERED, gave_up="The keys are refused."),
    ),
    (
        "9 its file is gone after something was sent",
        a_job(uncertainty=SENT_BEFORE),
        MISSING,
        World(),
        RECONCILE,
        HoldForPerson(NEVER_ANSWERED, gave_up="It is gone."),
    ),
    (
        "9 the provider's refusal is believed after something was sent",
        a_job(uncertainty=SENT_BEFORE),
        UNKNOWN_PATIENT,
        World(),
        RECONCILE,
        FailWith(Failure(Code.REFUSED_BY_PROVIDER, "No such patient.")),
    ),
    (
        "9 a refusal that may be of a repetition",
        a_job(uncertainty=SENT_BEFORE),
        DocumentRefused(Code.OUTCOME_UNKNOWN, "It knows it already."),
        World(),
        RESEND,
        HoldForPerson(Failure(Code.OUTCOME_UNKNOWN, "It knows it already.")),
    ),
    (
        "9 labels are simply set again",
        a_job(since=TRIED_FOR_LONG, uncertainty=SENT, document=LABELS),
        LATER,
        World(),
        RESEND,
        FailWith(gave_up("No answer.")),
    ),
)


@pytest.mark.parametrize(
    ("job", "error", "world", "on_unknown_outcome", "decision"),
    [row[1:] for row in AFTER_ERRORS],
    ids=[row[0] for row in AFTER_ERRORS],
)
def test_what_follows_an_error(
    job: Job, error: StepError, world: World, on_unknown_outcome: OnUnknownOutcome, decision: Decision
) -> None:
    assert after_error(error, case(job, world, on_unknown_outcome), "why") == decision


def test_the_table_has_a_row_for_each_sentence_of_the_story_that_decides() -> None:
    assert {row[0].split()[0] for row in AFTER_ERRORS} == {"3", "4", "5", "6", "7", "8", "9"}
    # 1 and 10 decide nothing; 2 is the account's table below.


def test_a_probe_is_made_only_where_it_decides() -> None:
    world = World(others=False, probe=True)
    after_error(STRANGE, case(a_job(since=PARKED_BEFORE), world), "why")
    assert world.asked == ["others"]


def test_an_error_that_says_nothing_about_what_follows_is_raised_again() -> None:
    with pytest.raises(LeaseLost):
        after_error(LeaseLost("lost"), case(a_job()), "why")


@pytest.mark.parametrize(
    ("error", "job", "decision"),
    [
        (
            RetryLater("Slow.", throttled=True, after_seconds=7, group_reason="It asks."),
            a_job(),
            Throttle(7, "It asks."),
        ),
        (RetryLater("Slow.", throttled=True), a_job(), Throttle(10.0, "")),
        (RetryLater("Slow and away.", throttled=True, unreachable=True), a_job(), Throttle(10.0, "")),
        (RetryLater("Away.", unreachable=True), a_job(), CountUnreachable("Away.")),
        (OutcomeUnknown("Away.", unreachable=True), a_job(), CountUnreachable("Away.")),
        (
            RetryLater("It does not add up.", lasting=True),
            a_job(id="j-1"),
            Remark("It does not add up. Job j-1 and others of its patient wait."),
        ),
        (BLOCKED, a_job(), Park("why")),
        (BLOCKED, a_job(since=PARKED_BEFORE), None),  # whether it is parked again depends on the document
        (LATER, a_job(), None),
        (UNSEEN, a_job(), None),
        (USELESS, a_job(), None),
        (UNKNOWN_PATIENT, a_job(), None),
    ],
)
def test_what_follows_for_the_account(error: StepError, job: Job, decision: AccountDecision | None) -> None:
    assert for_account(error, job, "why") == decision


# --- searches --------------------------------------------------------------------------------------------------------


def searched(stage: Stage = Stage.PRESIGNED, age: timedelta = timedelta(), **changes: object) -> Job:
    """A job of unknown outcome, searched for since `age`."""
    uncertainty = replace(SEARCHED, unknown_since=NOW - age, **changes)  # type: ignore[arg-type]  # whatever a row has
    return a_job(Step.CONFIRM, stage, uncertainty=uncertainty)


def stored(age: timedelta, **parts: object) -> Job:
    return a_job(Step.CONFIRM, Stage.STORED, since=Since(stage=NOW - age), **parts)


def slowly(age: timedelta) -> Job:
    """A job that has failed with `not_confirmed`, and is searched for since `age`."""
    return a_job(Step.CONFIRM, Stage.FAILED, uncertainty=Uncertainty(unknown_since=NOW - age))


MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
LONG = timedelta(minutes=10)  # confirm.look_seconds
NO_RECORD = Failure(
    Code.NOT_CONFIRMED,
    "The upload was stored, but the provider's validation produced no record in time.",
    "Look into the chart. We go on looking for a day; put the file back into the inbox, or retry, to continue then.",
)
NO_RECORD_IN_A_DAY = Failure(
    Code.NOT_CONFIRMED,
    "The upload was stored, but the provider's validation produced no record within a day.",
    "The provider has dropped it: check the file's type and name, then put it back into the inbox, or retry.",
)
DOUBT = "Record 9 may be it."
DOUBTED = replace(NO_RECORD, message=f"{NO_RECORD.message} {DOUBT}", hint=f"Look there first. {NO_RECORD.hint}")

NOT_PROVEN = Failure(
    Code.NOT_CONFIRMED,
    f"The upload was stored, and not confirmed in time. {DOUBT}",
    "Look there first. We go on looking for a day; put the file back into the inbox, or retry, to continue then.",
)


def into_a_record(job: Job) -> Job:
    return replace(job, facts=replace(job.facts, record=Record("9")))


EMPTY: tuple[tuple[str, Job, World, OnUnknownOutcome, str, Decision], ...] = (
    ("stored: wait", stored(MINUTE), World(), RECONCILE, "", SearchAgain(2.0)),
    ("stored: too long", stored(timedelta(minutes=30)), World(), RECONCILE, "", FailUnconfirmed(NO_RECORD)),
    ("stored: a doubt is named", stored(timedelta(minutes=30)), World(), RECONCILE, DOUBT, FailUnconfirmed(DOUBTED)),
    (
        "stored in a record of its own: a doubt is named",
        into_a_record(stored(timedelta(minutes=30))),
        World(),
        RECONCILE,
        DOUBT,
        FailUnconfirmed(NOT_PROVEN),
    ),
    (
        "stored: time parked does not count",
        stored(timedelta(minutes=30)),
        World(excused=MINUTE),
        RECONCILE,
        "",
        SearchAgain(2.0),
    ),
    ("unknown: wait", searched(age=MINUTE), World(), RECONCILE, "", SearchAgain(2.0)),
    ("unknown: its time is over", searched(age=LONG), World(), RECONCILE, "", SendAgain(None)),
    (
        "unknown: the commit that was searched for is named",
        searched(age=LONG, searched_commit_at=A_COMMIT),
        World(committed=A_COMMIT),
        RECONCILE,
        "",
        SendAgain(A_COMMIT),
    ),
    (
        "unknown: another commit is searched for from now on",
        searched(age=LONG, searched_commit_at=A_COMMIT),
        World(committed=A_LATER_COMMIT),
        RECONCILE,
        "",
        SearchAgain(2.0, another_commit_at=A_LATER_COMMIT),
    ),
    ("unknown: a doubt", searched(age=LONG), World(), RECONCILE, DOUBT, HoldForPerson(doubtful(DOUBT))),
    ("unknown: a doubt before the end", searched(age=MINUTE), World(), RECONCILE, DOUBT, SearchAgain(2.0)),
    ("unknown: a person's retry", searched(age=LONG, day_of_searching=True), World(), RECONCILE, "", SearchAgain(2.0)),
    (
        "unknown: the day of a person's retry is over",
        searched(age=DAY, day_of_searching=True),
        World(),
        RECONCILE,
        "",
        SendAgain(None),
    ),
    ("unknown: nothing to search with, resend", searched(), World(), RESEND, "", SendAgain(None)),
    ("unknown: nothing to search with, hold", searched(age=DAY), World(), HOLD, "", HoldForPerson(CANNOT_SEARCH)),
    ("slow: go on", slowly(timedelta(hours=23)), World(), RECONCILE, "", SearchAgain(600)),
    ("slow: the day is over", slowly(DAY), World(), RECONCILE, "", EndSlowSearch(NO_RECORD_IN_A_DAY)),
    # The day passes whether the account is usable or not.
    ("slow: parked", slowly(DAY), World(excused=DAY), RECONCILE, "", EndSlowSearch(NO_RECORD_IN_A_DAY)),
)


@pytest.mark.parametrize(
    ("job", "world", "on_unknown_outcome", "doubt", "decision"),
    [row[1:] for row in EMPTY],
    ids=[row[0] for row in EMPTY],
)
def test_what_follows_a_search_that_found_nothing(
    job: Job, world: World, on_unknown_outcome: OnUnknownOutcome, doubt: str, decision: Decision
) -> None:
    assert after_empty_search(case(job, world, on_unknown_outcome), LOOKS, doubt) == decision


@pytest.mark.parametrize(
    ("job", "decision"),
    [
        (stored(MINUTE), SearchAgainAfterFailure(100)),
        (stored(timedelta(minutes=30)), FailUnconfirmed(NO_RECORD)),
        (searched(age=LONG), SearchAgainAfterFailure(100)),  # nothing is sent for want of a search
        (searched(age=timedelta(hours=1)), HoldForPerson(SEARCHES_FAILED)),
        (slowly(timedelta(hours=23)), SearchAgainAfterFailure(100)),
        (slowly(DAY), EndSlowSearch(NO_RECORD_IN_A_DAY)),
    ],
)
def test_what_follows_a_search_that_failed(job: Job, decision: Decision) -> None:
    assert after_failed_search(case(job)) == decision


def test_a_faulty_record_ends_a_job_and_ends_the_slow_search_of_a_failed_one() -> None:
    failure = Failure(Code.REFUSED_BY_PROVIDER, "No such patient.")
    assert after_faulty_record(UNKNOWN_PATIENT, stored(MINUTE)) == FailWith(failure)
    assert after_faulty_record(UNKNOWN_PATIENT, slowly(MINUTE)) == EndSlowSearch(failure, day_is_over=False)


@pytest.mark.parametrize(
    ("job", "world", "last"),
    [
        (searched(age=LONG), World(), True),
        (searched(age=MINUTE), World(), False),
        (searched(age=LONG), World(excused=MINUTE), False),
        (searched(age=LONG, day_of_searching=True), World(), False),
        (searched(age=LONG), World(committed=A_LATER_COMMIT), False),
        (stored(DAY), World(), False),
        (slowly(DAY), World(), False),
        (searched(Stage.FAILED, age=DAY), World(), False),
    ],
)
def test_the_search_before_a_second_sending_is_the_last_one(job: Job, world: World, last: bool) -> None:
    assert is_last_search(case(job, world)) is last


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda job: replace(job, times={Stage.REGISTERED: NOW}), "has not finished processing it in time"),
        (lambda job: replace(job, facts=replace(job.facts, record=Record("d-1"))), "did not hold it in time"),
    ],
)
def test_the_sentence_says_how_far_it_had_come(change: Callable[[Job], Job], words: str) -> None:
    decision = after_empty_search(case(change(stored(timedelta(minutes=30)))), LOOKS)
    assert isinstance(decision, FailUnconfirmed)
    assert words in decision.failure.message
