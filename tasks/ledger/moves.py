"""The moves of a job: what each transition changes, as a value.

`TRANSITIONS` lists every one: from which stages, to which stage, with which next step. A function of the same name
makes the `Move` for one job; it reads and writes nothing. `Ledger.apply` seals it and has `scripts/move.lua` carry it
out, which checks the stage and the fencing token. With `Ledger.go_on` the worker keeps the job and goes on at once with
the step that the move leads to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tasks.ledger.keys import CALLBACK_LANE, CLOSING_LANE
from tasks.ledger.lease import Lease
from tasks.model.document import Document, same_producer
from tasks.model.errors import Code
from tasks.model.job import Facts, Failure, Job, Record, Statement
from tasks.model.polling import Validation
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tasks.model.times import to_ms

GIVEN_UP = " (given up)"
"""The end of a `closing_error` whose step the closing has gone on without."""

_BEFORE_THE_RECORD = (Stage.RECEIVED, Stage.PRESIGNED, Stage.STORED)
_UNFINISHED = (*_BEFORE_THE_RECORD, Stage.REGISTERED)
_NOT_DELIVERED = (*_UNFINISHED, Stage.FAILED)
_FINAL = (Stage.DELIVERED, Stage.FAILED, Stage.CANCELLED)
_FAILED = (Stage.FAILED,)
_USUAL_ROUTE = Route()


@dataclass(frozen=True, slots=True)
class Transition:
    """What a move may do. An empty `to` or `step`: as it was. Several: it depends on the job or its route."""

    allowed: tuple[Stage, ...]
    to: tuple[Stage, ...] = ()
    step: tuple[Step, ...] = ()
    # Sentence for the page of the moves.
    means: str = ""


TRANSITIONS: Mapping[str, Transition] = {
    # --- forward ---
    "presigned": Transition((Stage.RECEIVED,), (Stage.PRESIGNED,), (Step.POST,), "there is an upload form"),
    "committed": Transition(_BEFORE_THE_RECORD, means="the commit point: the last bytes may leave"),
    "uncommitted": Transition(
        _BEFORE_THE_RECORD,
        means="the last bytes certainly did not leave, or the answer says that nothing was stored",
    ),
    "stored": Transition(
        (Stage.RECEIVED, Stage.PRESIGNED), (Stage.STORED,), (Step.REGISTER, Step.CONFIRM), "the storage has the file"
    ),
    "registered": Transition(
        _BEFORE_THE_RECORD,
        (Stage.REGISTERED,),
        (Step.CONFIRM,),
        "the provider has a record and has not finished processing it",
    ),
    "delivered": Transition(_NOT_DELIVERED, (Stage.DELIVERED,), (Step.NOTIFY,), "the record is known"),
    "duplicate": Transition(
        (Stage.RECEIVED,), (Stage.DELIVERED,), (Step.NOTIFY,), "the same document is in the chart already"
    ),
    "failed": Transition(_UNFINISHED, (Stage.FAILED,), (Step.NOTIFY,), "it failed"),
    "hold_for_person": Transition(
        _UNFINISHED,
        (Stage.FAILED,),
        (Step.NOTIFY,),
        "only a person can find out whether it arrived; its name stays reserved",
    ),
    # --- waiting and turning back ---
    "deferred": Transition(
        _NOT_DELIVERED, means="the same step again later, after a failure or a search that found nothing"
    ),
    "put_back": Transition(
        _NOT_DELIVERED, means="its worker keeps the slot for accounts that answer: the same step again"
    ),
    "blocked": Transition(_NOT_DELIVERED, means="it parked its account, and waits"),
    "presign_again": Transition(_BEFORE_THE_RECORD, (Stage.RECEIVED,), (Step.PRESIGN,), "the form is of no more use"),
    "outcome_unknown": Transition(
        _BEFORE_THE_RECORD, (), (Step.CONFIRM,), "the outcome is unknown: search for the record"
    ),
    "repeated": Transition(_BEFORE_THE_RECORD, means="the outcome is unknown: the same step again with the same ids"),
    "send_again": Transition(
        _BEFORE_THE_RECORD,
        _BEFORE_THE_RECORD,
        (Step.PRESIGN, Step.POST, Step.REGISTER),
        "the search found nothing in its time: the step whose outcome was unknown again",
    ),
    "record_found": Transition(
        _BEFORE_THE_RECORD,
        (Stage.RECEIVED,),
        (Step.PRESIGN,),
        "the provider has made a record for it that is still empty: continue with that one",
    ),
    "commit_remembered": Transition(
        _BEFORE_THE_RECORD,
        _BEFORE_THE_RECORD,
        (Step.PRESIGN, Step.POST, Step.REGISTER),
        "Redis had forgotten a commit, and a machine's disk knows it: search before sending",
    ),
    # --- closing ---
    "closed": Transition(_FINAL, means="some closing work is done"),
    "callback_is_left": Transition(_FINAL, means="all but the callback is done: it goes to the lane of callbacks"),
    "closing_deferred": Transition(_FINAL, means="closing work failed and is tried again"),
    "closing_step_given_up": Transition(
        _FINAL, means="a day of errors that nobody foresaw: the closing goes on without this step"
    ),
    "finished": Transition(
        _FINAL, (), (Step.NONE,), "no work is left; the job leaves Redis after `retention.jobs_days`"
    ),
    "search_slowly": Transition(
        _FAILED, (), (Step.CONFIRM,), "closed for now, but its record may still appear: search for a day"
    ),
    "slow_search_ended": Transition(
        _FAILED, (), (Step.NOTIFY,), "the day is over; the failure is final and the name is free"
    ),
    # --- a person's ---
    "cancel": Transition(
        _BEFORE_THE_RECORD,
        (Stage.CANCELLED,),
        (Step.NOTIFY,),
        "a person stopped it; `stored` only before it is registered",
    ),
    "retry": Transition(
        (Stage.FAILED, Stage.CANCELLED),
        (Stage.RECEIVED,),
        (Step.PRESIGN, Step.POST, Step.REGISTER),
        "a person starts it again",
    ),
    "retry_reconciling": Transition(
        _FAILED,
        (Stage.RECEIVED, Stage.PRESIGNED),
        (Step.CONFIRM,),
        "a person continues it: search first, send only after that",
    ),
    "dismissed": Transition(
        (Stage.FAILED, Stage.CANCELLED), means="a person has dealt with the failure: it needs no attention any more"
    ),
    "resolve_delivered": Transition(_FAILED, (Stage.DELIVERED,), (Step.NOTIFY,), "a person found it in the chart"),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a Celery caller's AsyncResult shows, as Celery stores it."""

    # The key of the result, which is the channel too on which callers hear of it.
    key: str
    text: str
    # How long it is kept.
    seconds: int


@dataclass(frozen=True, slots=True)
class ShownOutcome:
    """The outcome of a job, for its own caller and for every other call that asked for the same.

    The call of an id finds it under `key_head` and that id. Its text is `text_head`, the id and `text_tail`.
    """

    key_head: str
    text_head: str
    text_tail: str
    seconds: int
    # The job itself came by a Celery call, so that its id is a caller's.
    called: bool = False

    def of(self, call: str) -> Shown:
        return Shown(self.key_head + call, self.text_head + call + self.text_tail, self.seconds)


@dataclass(frozen=True, slots=True)
class Move:
    """One change of one job. What is None or empty stays as it is."""

    # The key of its transition, which says in which stages it is allowed.
    name: str
    # Fewer stages than its transition allows.
    only_in: tuple[Stage, ...] = ()
    # Only before the commit point.
    only_uncommitted: bool = False
    # The record that this job must own alone within its scope (patient or account), else nothing changes.
    owns: Record | None = None

    # --- the stage, and what follows ---
    stage: Stage | None = None
    # A stage that was passed on the way.
    passed: Stage | None = None
    step: Step | None = None
    lane: str | None = None
    # Seconds until it is due again.
    due_in: float | None = None
    # A message that runs its next step goes with this move: due after a lease, and its slot stays taken.
    message_sent: bool = False
    # The holder goes on with the job: the lease is neither released nor renewed.
    keeps_lease: bool = False
    # The row leaves after the retention time, without a due entry.
    no_work_left: bool = False

    # --- the row ---
    # Sealed by the ledger; as `sealed_facts` they are sealed already.
    document: Document | None = None
    facts: Facts | None = None
    sealed_facts: str = ""
    failure: Failure | None = None
    dismissal: Statement | None = None
    # Field -> value; fields that go; field -> how much more. `codec.ROW_FIELDS` lists them.
    fields: Mapping[str, str | int] = field(default_factory=dict)
    clears: tuple[str, ...] = ()
    adds: Mapping[str, int] = field(default_factory=dict)
    # The outcome is unknown from now on, unless it was before.
    unknown_from_now: bool = False
    # This is a commit, which gets the next number.
    is_commit: bool = False
    # Only while Redis is in the run with this mark (`folders.forgotten_commits`). Empty: in any.
    in_run: str = ""

    # --- the account, the name, and who is told ---
    # The provider has answered as it should.
    provider_answered: bool = False
    # How long the provider took for the document, to be kept with the account if that was usable all the while.
    validation: Validation | None = None
    # The name is free again, and the job that waits for it goes on.
    frees_name: bool = False
    # The digest under which the delivered document is found again.
    delivered_sha256: str = ""
    # An entry of the events stream: written with the move, so exactly once.
    event: Mapping[str, str] = field(default_factory=dict)
    # What the caller's AsyncResult shows from this move on.
    shows: Shown | None = None
    # The outcome that it shows, and that of every other call which asked for the same.
    shows_outcome: ShownOutcome | None = None

    @property
    def allowed(self) -> tuple[Stage, ...]:
        return self.only_in or TRANSITIONS[self.name].allowed


OUTCOME_FIELDS = ("code", "failure", "closed", "failing_since", "closing_error", "dismissed")
"""Of the row, what says how the job has ended."""
UNKNOWN_OUTCOME_FIELDS = (
    "committed",
    "unknown_since",
    "unknown_step",
    "long_look",
    "sent_before",
    "held",
    "looking_for",
)
"""Of the row, what tells that something may have been sent. A known outcome clears them all."""


# --- forward -------------------------------------------------------------------------------------------------------


def presigned(facts: Facts, redis_run: str, calls: int) -> Move:
    """There is a form. Not applied if the record that it leads to belongs to another job."""
    return Move(
        "presigned",
        stage=Stage.PRESIGNED,
        step=Step.POST,
        due_in=0,
        facts=facts,
        fields={"redis_run": redis_run, "failures": 0},
        clears=("committed", "unknown_since", "unknown_step", "failing_since"),
        adds={"calls": calls, "presigns": 1},
        provider_answered=True,
        owns=_alone(facts.record),
    )


def committed(facts: Facts | None = None, run_mark: str = "") -> Move:
    """The commit point: from here on the last block may leave. `run_mark`: only in that run of Redis."""
    return Move(
        "committed",
        facts=facts,
        fields={"committed": "1"},
        clears=("looked",),  # a new commit, so what an earlier search has found out no longer counts
        keeps_lease=True,
        is_commit=True,
        in_run=run_mark,
    )


def uncommitted() -> Move:
    """The last block certainly did not leave, or the answer was that nothing is stored."""
    return Move("uncommitted", clears=("committed",), keeps_lease=True)


def stored(facts: Facts, step: Step, due_in: float, calls: int) -> Move:
    """The bytes are in the storage. `step` is register, which follows at once, or confirm, in `due_in` seconds."""
    return Move(
        "stored",
        stage=Stage.STORED,
        step=step,
        due_in=0 if step is Step.REGISTER else due_in,
        facts=facts,
        fields={"sha256": facts.stored.sha256 if facts.stored else "", "failures": 0},
        clears=(*UNKNOWN_OUTCOME_FIELDS, "failing_since", "looks", "looked_at", "blocked_since"),
        adds={"calls": calls},
        provider_answered=True,
    )


def registered(facts: Facts, due_in: float, calls: int) -> Move:
    """The provider has a record, which it has not processed yet. Not applied if it already proves another job."""
    assert facts.record is not None  # noqa: S101, the caller has it
    return Move(
        "registered",
        stage=Stage.REGISTERED,
        step=Step.CONFIRM,
        due_in=due_in,
        facts=facts,
        fields={"failures": 0},
        clears=(*UNKNOWN_OUTCOME_FIELDS, "failing_since", "looks", "looked_at", "blocked_since"),
        adds={"calls": calls},
        provider_answered=True,
        owns=_alone(facts.record),
    )


def delivered(
    job: Job,
    record: Record,
    calls: int,
    sha256: str | None,
    *,
    facts: Facts | None = None,
    passed: Stage | None = None,
    validation: Validation | None = None,
) -> Move:
    """The record is known. Not applied if it already proves another job.

    `facts` are those of the job unless more became known. `passed` is a stage that was reached together with it.
    `validation` tells how long the provider took, where a search has found that out.
    """
    return _ended(
        "delivered",
        Stage.DELIVERED,
        passed=passed,
        # The snapshot has served its purpose, and may be of thousands of ids.
        facts=replace(facts or job.facts, record=record, snapshot=None),
        fields={"failures": 0, **({"sha256": sha256} if sha256 else {})},
        clears=("code", "failure", "dismissed", *UNKNOWN_OUTCOME_FIELDS, "failing_since", "closed"),
        adds={"calls": calls},
        frees_name=True,
        provider_answered=True,
        validation=validation,
        delivered_sha256=sha256 or "",
        # One record may be relabelled any number of times, so no relabeling owns it.
        owns=None if job.document.relabeling else _alone(record),
    )


def duplicate(job: Job, earlier: Job, calls: int) -> Move:
    """The same bytes with the same name are in the chart already: delivered, by the earlier job."""
    return _ended(
        "duplicate",
        Stage.DELIVERED,
        facts=replace(job.facts, record=earlier.facts.record),
        fields={
            "duplicate_of": earlier.id,
            "sha256": earlier.sha256 or "",
            "code": Code.DUPLICATE,
            # By a job's id anybody who may read results reads its receipt.
            "twin_hidden": "" if same_producer(job.document, earlier.document) else "1",
        },
        adds={"calls": calls},
        frees_name=True,
    )


def failed(failure: Failure, calls: int, *, keep_name: bool = False) -> Move:
    """The job has failed. `keep_name`: it may still arrive, so no other job may use its name and patient."""
    return _ended(
        "failed",
        Stage.FAILED,
        failure=failure,
        fields={"code": failure.code},
        # Without `keep_name` the question is answered (`Job.outcome_open`). With it the time is set again: the day of
        # the slow search begins with the failure.
        clears=("closed", "unknown_since", "held"),
        adds={"calls": calls},
        unknown_from_now=keep_name,
        frees_name=not keep_name,
    )


def hold_for_person(failure: Failure, calls: int, sha256: str | None = None) -> Move:
    """Only a person can find out whether it arrived. It has failed, and keeps its name until a person decides."""
    return _ended(
        "hold_for_person",
        Stage.FAILED,
        failure=failure,
        # By the digest the same document is recognised when it comes again.
        fields={"code": failure.code, "held": "1", **({"sha256": sha256} if sha256 else {})},
        clears=("closed",),
        adds={"calls": calls},
        unknown_from_now=True,
    )


# --- waiting and turning back --------------------------------------------------------------------------------------


def deferred(
    lease: Lease,
    due_in: float,
    calls: int,
    *,
    failed: bool = False,
    found_nothing: bool = False,
    search_for: datetime | None = None,
) -> Move:
    """The same step again in `due_in` seconds. `failed` adds to the back-off. `found_nothing`: by a search.

    `search_for`: from now on the search is for another commit, of which job.json was told then.
    """
    fields: dict[str, str | int] = {}
    clears: tuple[str, ...] = ()
    if failed and lease.job.since.failing is None:
        fields["failing_since"] = to_ms(lease.now)
    if not failed:
        clears = ("failing_since", "blocked_since") if found_nothing else ("failing_since",)
    if found_nothing:
        fields["looked_at"] = to_ms(lease.now)
    if search_for:
        fields |= {"unknown_since": to_ms(lease.now), "looking_for": search_for.isoformat()}
    return Move(
        "deferred",
        due_in=due_in,
        fields=fields,
        clears=clears,
        adds={"calls": calls, "failures": int(failed), "looks": int(found_nothing)},
        provider_answered=found_nothing and not failed,
    )


def put_back(job: Job, due_in: float) -> Move:
    """Its step was not begun, since its worker keeps the slot for others: the same step again. Nothing counts."""
    # `start.lua` has counted a try.
    adds = {} if job.step in (Step.CONFIRM, Step.NOTIFY) else {f"tried_{job.step}": -1}
    return Move("put_back", due_in=due_in, adds=adds)


def blocked(lease: Lease, due_in: float, calls: int) -> Move:
    """It has parked its account. It waits untouched, and is tried again when the account works."""
    fields = {} if lease.job.since.blocked else {"blocked_since": to_ms(lease.now)}
    return Move("blocked", due_in=due_in, fields=fields, adds={"calls": calls})


def presign_again(due_in: float, calls: int) -> Move:
    """The form can no longer be used, and nothing was created with it."""
    return Move(
        "presign_again",
        stage=Stage.RECEIVED,
        step=Step.PRESIGN,
        due_in=due_in,
        clears=("committed", "unknown_since", "unknown_step"),
        adds={"calls": calls},
    )


def outcome_unknown(job: Job, due_in: float, calls: int) -> Move:
    """We did not see the outcome: search for the record before sending again."""
    return Move(
        "outcome_unknown",
        step=Step.CONFIRM,
        due_in=due_in,
        fields={"committed": "1", "unknown_step": job.step, "was_unknown": "1"},
        # `failing_since` stays: nothing has succeeded yet. The first search that is answered clears it (`deferred`).
        clears=("looks",),
        adds={"calls": calls},
        unknown_from_now=True,
    )


def repeated(lease: Lease, due_in: float, calls: int) -> Move:
    """We did not see the outcome, and the provider recognises the document by its ids: the same step again."""
    failing = {"failing_since": to_ms(lease.now)} if lease.job.since.failing is None else {}
    return Move(
        "repeated",
        due_in=due_in,
        fields={"sent_before": "1", **failing},
        clears=("committed",),
        adds={"calls": calls, "failures": 1},
    )


def send_again(
    job: Job,
    calls: int,
    route: Route = _USUAL_ROUTE,
    *,
    redis_run: str = "",
    reconciled_commit_at: datetime | None = None,
) -> Move:
    """The search has found nothing until its deadline: the step whose outcome is unknown again.

    `reconciled_commit_at` is when job.json was told of the commit that was searched for. `redis_run` is today's run id,
    of a job that was presigned under one.
    """
    step = job.uncertainty.unknown_step or Step.POST
    # What was searched for is noted, so that the step does not search for the same commit again. A later commit in
    # job.json, or another Redis by then, means that something else may have been sent since.
    fields = {"looked": reconciled_commit_at.isoformat() if reconciled_commit_at else ""}
    if redis_run:
        fields["redis_run"] = redis_run
    if route.on_unknown_outcome is OnUnknownOutcome.RESEND:
        fields["sent_before"] = "1"
    return Move(
        "send_again",
        stage=route.stage_before(step),
        step=step,
        due_in=0,
        fields=fields,
        clears=("committed", "unknown_since", "unknown_step", "looks", "long_look"),
        adds={"calls": calls},
    )


def record_found(facts: Facts, calls: int) -> Move:
    """The provider has made a record, still empty: go on with it. Not applied if it belongs to another job."""
    assert facts.record is not None  # noqa: S101, the caller has it
    return Move(
        "record_found",
        stage=Stage.RECEIVED,
        step=Step.PRESIGN,
        due_in=0,
        facts=facts,
        clears=(*UNKNOWN_OUTCOME_FIELDS, "looks"),
        adds={"calls": calls},
        owns=_alone(facts.record),
    )


def commit_remembered(job: Job, step: Step, sealed_facts: str, route: Route) -> Move:
    """Redis had forgotten this commit: that step may have sent the document."""
    resends = route.on_unknown_outcome is OnUnknownOutcome.RESEND
    return Move(
        "commit_remembered",
        # At the step that may have sent it: that step finds the commit, and the outcome is unknown.
        stage=job.stage if resends else route.stage_before(step),
        step=job.step if resends else step,
        due_in=0,
        sealed_facts=sealed_facts,
        fields={"sent_before": "1"} if resends else {"committed": "1"},
        only_uncommitted=True,
    )


# --- closing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClosingDone:
    """What a run of the closing has done, to be recorded with the move that ends the run."""

    # The names of the closing steps that are done.
    steps: frozenset[str] = frozenset()
    # To be published with that move, unless an earlier run has done so.
    event: Mapping[str, str] = field(default_factory=dict)
    # Those of the job, if the closing has changed them.
    facts: Facts | None = None
    # The outcome, as callers see it from that move on. None: nobody waits for it, or an earlier run has shown it.
    shows: ShownOutcome | None = None

    @property
    def fields(self) -> dict[str, str]:
        return {"closed": ",".join(sorted(self.steps))}


def closed(done: ClosingDone) -> Move:
    """These closing steps are done. The lease stays."""
    return Move(
        "closed", fields=done.fields, facts=done.facts, event=done.event, shows_outcome=done.shows, keeps_lease=True
    )


def callback_is_left(done: ClosingDone) -> Move:
    """All but the callback is done, which needs no file: any machine's worker makes it, in its own lane."""
    return Move(
        "callback_is_left",
        lane=CALLBACK_LANE,
        due_in=0,
        fields=done.fields,
        facts=done.facts,
        event=done.event,
        shows_outcome=done.shows,
        clears=("home",),
    )


def closing_deferred(due_in: float, error: str, done: ClosingDone) -> Move:
    """What is left of the closing again in `due_in` seconds. `error`: the step that failed, and how; no more."""
    return Move(
        "closing_deferred",
        due_in=due_in,
        fields={**done.fields, "closing_error": error},
        facts=done.facts,
        event=done.event,
        shows_outcome=done.shows,
        adds={"failures": 1},
    )


def closing_step_given_up(error: str) -> Move:
    """The closing goes on without this step. The lease stays. `error` ends with GIVEN_UP."""
    return Move("closing_step_given_up", fields={"closing_error": error}, keeps_lease=True)


def finished(job: Job, done: ClosingDone) -> Move:
    """Closed, and no work is left. The row expires after the retention time."""
    # A step that was given up stays named. One that has been done after all does not.
    clears = () if job.closing_error.endswith(GIVEN_UP) else ("closing_error",)
    # `callback_is_left` has taken the home away.
    return Move(
        "finished",
        step=Step.NONE,
        no_work_left=True,
        fields={**_home(job.document), **done.fields},
        facts=done.facts,
        event=done.event,
        shows_outcome=done.shows,
        clears=clears,
    )


def search_slowly(job: Job, due_in: float, done: ClosingDone) -> Move:
    """Closed for now, but its record may still appear: back to its account's lane for a slow search."""
    return Move(
        "search_slowly",
        step=Step.CONFIRM,
        lane=job.account,
        due_in=due_in,
        fields={**_home(job.document), **done.fields},
        facts=done.facts,
        event=done.event,
        shows_outcome=done.shows,
    )


def slow_search_ended(failure: Failure, calls: int) -> Move:
    """The slow search has found nothing in its day. The failure is final, and the name is free again."""
    return _ended(
        "slow_search_ended",
        None,
        failure=failure,
        clears=("closed", "unknown_since"),
        adds={"calls": calls},
        frees_name=True,
    )


# --- a person's ----------------------------------------------------------------------------------------------------


def cancel(job: Job) -> Move:
    """Stop a job that is not committed."""
    hint = "Move the file back to the inbox to send it after all."
    failure = Failure(Code.CANCELLED, "The job was cancelled.", hint)
    # A document that is stored and must still be registered is not in the chart yet.
    stages = (Stage.RECEIVED, Stage.PRESIGNED, *((Stage.STORED,) if job.step is Step.REGISTER else ()))
    return _ended(
        "cancel",
        Stage.CANCELLED,
        only_in=stages,
        only_uncommitted=True,
        failure=failure,
        fields={"code": failure.code},
        frees_name=True,
    )


def retry(job: Job, document: Document | None = None, *, first: Step = Step.PRESIGN) -> Move:
    """From the start again, with a document whose file may have moved."""
    document = document or job.document
    return Move(
        "retry",
        stage=Stage.RECEIVED,
        step=first,
        lane=job.account,
        due_in=0,
        document=document,
        # A record that the provider has made for it stays: a second one would be a second document.
        facts=Facts(record=job.facts.record),
        fields={**_home(document), "failures": 0},
        clears=(*OUTCOME_FIELDS, *UNKNOWN_OUTCOME_FIELDS, "was_unknown", "presigns", "looks", *_no_home(document)),
    )


def retry_reconciling(job: Job, document: Document | None = None, *, first: Step = Step.PRESIGN) -> Move:
    """Continue a job of unknown outcome: search for a day, then send it again from the start."""
    document = document or job.document
    return Move(
        "retry_reconciling",
        stage=Stage.PRESIGNED if first is Step.PRESIGN else Stage.RECEIVED,  # only such a route has that stage
        step=Step.CONFIRM,
        lane=job.account,
        due_in=0,
        document=document,
        fields={
            **_home(document),
            **{"committed": "1", "failures": 0, "long_look": "1", "unknown_step": first, "was_unknown": "1"},
        },
        clears=(*OUTCOME_FIELDS, "looks", "held", *_no_home(document)),
        unknown_from_now=True,
    )


def dismissed(dismissal: Statement) -> Move:
    """A person has dealt with the failure. What is left to be done goes on; the document stays where it is."""
    return Move("dismissed", dismissal=dismissal, keeps_lease=True)


def resolve_delivered(job: Job, record: Record | None, resolution: Statement | None = None) -> Move:
    """A person has found the document in the chart, and perhaps its record. It counts as delivered from now on."""
    return _ended(
        "resolve_delivered",
        Stage.DELIVERED,
        facts=replace(job.facts, record=record or job.facts.record, resolution=resolution),
        fields={"human": "1"},
        clears=(*OUTCOME_FIELDS, *UNKNOWN_OUTCOME_FIELDS),
        frees_name=True,
        delivered_sha256=job.sha256 or "",
        owns=_alone(record),
    )


# --- inside --------------------------------------------------------------------------------------------------------


def _ended(name: str, stage: Stage | None, **change: Any) -> Move:
    """A move to a final stage: closing work follows.

    Its message is sent at once, unless `Ledger.go_on` keeps the job.
    """
    return Move(name, stage=stage, step=Step.NOTIFY, lane=CLOSING_LANE, message_sent=True, **change)


def _home(document: Document) -> dict[str, str]:
    """The field of the row for a document whose files lie on one machine. It may be another one than before."""
    return {"home": document.bound_to} if document.bound_to else {}


def _no_home(document: Document) -> tuple[str, ...]:
    return () if document.bound_to else ("home",)


def _alone(record: Record | None) -> Record | None:
    """The record that its job must own. A shared record may prove many jobs."""
    return record if record and not record.shared else None
