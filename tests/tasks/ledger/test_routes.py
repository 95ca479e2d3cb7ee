"""The moves of documents on other routes than presign, post, confirm: registered, repeated, found, left to a person."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
import redis

from tasks.ledger import moves
from tasks.ledger.keys import CLOSING_LANE, PREFIX
from tasks.ledger.lease import NotStarted
from tasks.ledger.ledger import Ledger, MaybeSent
from tasks.ledger.seal import Seal
from tasks.model.document import Label, Relabeling
from tasks.model.errors import Code
from tasks.model.job import Facts, Failure, Form, Job, Record
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tests.tasks.ledger.test_ledger import PRESIGNED, STORED, document, due_entries, start

THREE = Route(stages=(Stage.PRESIGNED, Stage.STORED, Stage.REGISTERED))
ONE = Route(stages=(Stage.REGISTERED,), first=Step.REGISTER, together=False, on_unknown_outcome=OnUnknownOutcome.RESEND)
NEEDS_PERSON = replace(ONE, on_unknown_outcome=OnUnknownOutcome.HOLD)
PLACED = Route(together=False, account_wide=True)
UNKNOWN = Failure(Code.OUTCOME_UNKNOWN, "The answer was not seen.")


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    return Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)


def opened(ledger: Ledger, route: Route, patient_id: str | None = "4711", name: str = "") -> str:
    job = str(uuid4())
    asked = document(patient_id=patient_id, file_name=name or f"{job}.pdf")
    assert ledger.open(job, asked, "any", route=route).kind == "opened"
    return job


def now(ledger: Ledger, job_id: str) -> Job:
    job = ledger.get(job_id)
    assert job is not None
    return job


def to_registering(ledger: Ledger, job: str) -> None:
    ledger.apply(start(ledger, job, Step.PRESIGN), moves.presigned(PRESIGNED, "run", calls=1))
    ledger.apply(start(ledger, job, Step.POST), moves.stored(Facts(stored=STORED), Step.REGISTER, 2.0, calls=1))


# --- registering -----------------------------------------------------------------------------------------------------


def test_what_was_stored_is_registered_next_and_then_polled(ledger: Ledger) -> None:
    job = opened(ledger, THREE)
    to_registering(ledger, job)
    lease = start(ledger, job, Step.REGISTER)
    ledger.commit(lease)
    assert ledger.apply(lease, moves.registered(Facts(record=Record("9")), 2.0, calls=1))
    after = now(ledger, job)
    assert (after.stage, after.step, after.uncertainty.committed) == (Stage.REGISTERED, Step.CONFIRM, False)
    assert due_entries(ledger, job) == ["north"]
    assert ledger.record_owners(after) == {"9": job}


def test_a_record_that_proves_another_job_is_not_registered_twice(ledger: Ledger) -> None:
    first, second = opened(ledger, THREE), opened(ledger, THREE)
    for job, taken in ((first, True), (second, False)):
        to_registering(ledger, job)
        assert (
            ledger.apply(start(ledger, job, Step.REGISTER), moves.registered(Facts(record=Record("9")), 2.0, 1))
            is taken
        )


def test_what_is_stored_and_not_registered_can_be_cancelled_until_that_is_committed(ledger: Ledger) -> None:
    first, second, third = (opened(ledger, THREE) for _ in range(3))
    for job in (first, second, third):
        to_registering(ledger, job)
    ledger.commit(start(ledger, second, Step.REGISTER))
    current = now(ledger, first)
    assert ledger.take_over(current, moves.cancel(current)) == "ok"
    current = now(ledger, second)
    assert ledger.take_over(current, moves.cancel(current)) == "committed"
    before = now(ledger, third)
    assert ledger.apply(start(ledger, third, Step.REGISTER), moves.registered(Facts(record=Record("9")), 2.0, calls=1))
    assert ledger.take_over(before, moves.cancel(before)) == "moved"


def test_an_unknown_registering_is_searched_for_and_repeated_from_where_it_was(ledger: Ledger) -> None:
    job = opened(ledger, THREE)
    to_registering(ledger, job)
    lease = start(ledger, job, Step.REGISTER)
    ledger.commit(lease)
    ledger.apply(lease, moves.outcome_unknown(lease.job, 0, calls=1))
    unknown = now(ledger, job)
    assert (unknown.stage, unknown.step, unknown.uncertainty.unknown_step) == (
        Stage.STORED,
        Step.CONFIRM,
        Step.REGISTER,
    )
    lease = start(ledger, job, Step.CONFIRM)
    ledger.apply(lease, moves.send_again(lease.job, 0, THREE))
    again = now(ledger, job)
    assert (again.stage, again.step, again.uncertainty.committed, again.uncertainty.reconciled) == (
        Stage.STORED,
        Step.REGISTER,
        False,
        True,
    )
    assert again.uncertainty.unknown_since is None


def test_a_registering_that_was_found_goes_on_being_polled(ledger: Ledger) -> None:
    job = opened(ledger, THREE)
    to_registering(ledger, job)
    lease = start(ledger, job, Step.REGISTER)
    ledger.apply(lease, moves.outcome_unknown(lease.job, 0, calls=1))
    assert ledger.apply(start(ledger, job, Step.CONFIRM), moves.registered(Facts(record=Record("9")), 2.0, calls=1))
    found = now(ledger, job)
    assert (
        found.stage,
        found.uncertainty.unknown_step,
        found.uncertainty.unknown_since,
        found.uncertainty.committed,
    ) == (
        Stage.REGISTERED,
        Step.NONE,
        None,
        False,
    )


def test_what_is_delivered_by_the_registering_itself_has_passed_it(ledger: Ledger) -> None:
    job = opened(ledger, ONE)
    lease = start(ledger, job, Step.REGISTER)
    ledger.commit(lease)
    facts = Facts(stored=STORED, remarks=("A remark.",))
    assert ledger.apply(
        lease, moves.delivered(lease.job, Record("9"), 1, STORED.sha256, facts=facts, passed=Stage.REGISTERED)
    )
    delivered = now(ledger, job)
    assert delivered.stage is Stage.DELIVERED
    assert delivered.times[Stage.REGISTERED] == delivered.times[Stage.DELIVERED]
    assert (delivered.facts.remarks, delivered.facts.record, delivered.sha256) == (
        ("A remark.",),
        Record("9"),
        STORED.sha256,
    )
    assert due_entries(ledger, job) == [CLOSING_LANE]


@pytest.mark.parametrize("route", [ONE, THREE, Route(stages=(Stage.STORED, Stage.REGISTERED), first=Step.POST)])
def test_a_job_that_waits_for_a_name_goes_on_when_it_is_free_whatever_its_first_step(
    ledger: Ledger, route: Route
) -> None:
    first, second = (opened(ledger, route, name="same.pdf") for _ in range(2))
    assert [ledger.reserve_name(now(ledger, job)).holder for job in (first, second)] == [first, first]
    lease = start(ledger, second, route.first)
    ledger.apply(lease, moves.deferred(lease, 30, calls=0))
    ledger.apply(start(ledger, first, route.first), moves.failed(UNKNOWN, calls=0))
    due_at = ledger.redis.zscore(f"{PREFIX}due:north", second)
    assert due_at is not None
    assert due_at <= ledger.redis.time()[0] * 1000 + 1000


@pytest.mark.parametrize(("route", "stage"), [(THREE, Stage.PRESIGNED), (NEEDS_PERSON, Stage.RECEIVED)])
def test_a_continued_job_has_no_stage_that_its_route_lacks(ledger: Ledger, route: Route, stage: Stage) -> None:
    job = opened(ledger, route)
    ledger.apply(start(ledger, job, route.first), moves.hold_for_person(UNKNOWN, 1))
    current = now(ledger, job)
    ledger.take_over(current, moves.retry_reconciling(current, first=route.first))
    assert (now(ledger, job).stage, now(ledger, job).uncertainty.unknown_step) == (stage, route.first)


def test_a_document_that_needs_a_person_is_recognised_by_its_digest(ledger: Ledger) -> None:
    job = opened(ledger, NEEDS_PERSON)
    ledger.apply(start(ledger, job, Step.REGISTER), moves.hold_for_person(UNKNOWN, 1, "5" * 64))
    assert now(ledger, job).sha256 == "5" * 64


def test_what_is_stored_can_be_cancelled_until_it_is_registered(ledger: Ledger) -> None:
    first, second, third = (opened(ledger, THREE) for _ in range(3))
    for job in (first, second, third):
        to_registering(ledger, job)
    ledger.commit(start(ledger, second, Step.REGISTER))
    seen = now(ledger, third)
    assert ledger.apply(start(ledger, third, Step.REGISTER), moves.registered(Facts(record=Record("9")), 2.0, calls=1))
    assert [ledger.take_over(job, moves.cancel(job)) for job in (now(ledger, first), now(ledger, second), seen)] == [
        "ok",
        "committed",
        "moved",
    ]


# --- documents one by one --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("route", "together"), [(THREE, True), (PLACED, False)])
def test_one_search_serves_a_patients_documents_only_where_the_route_says_so(
    ledger: Ledger, route: Route, together: bool
) -> None:
    jobs = [opened(ledger, route) for _ in range(3)]
    for job in jobs:
        ledger.apply(start(ledger, job, Step.PRESIGN), moves.presigned(PRESIGNED, "run", calls=1))
        ledger.apply(start(ledger, job, Step.POST), moves.stored(Facts(stored=STORED), Step.CONFIRM, 0, calls=1))
    started = ledger.start(jobs[0], Step.CONFIRM)
    assert not isinstance(started, NotStarted)
    assert {lease.job.id for lease in started} == (set(jobs) if together else {jobs[0]})


# --- records that are made before the upload -------------------------------------------------------------------------


def test_a_record_made_with_the_form_belongs_to_one_job_of_the_account_whatever_the_patient(ledger: Ledger) -> None:
    first, second = opened(ledger, PLACED, "1"), opened(ledger, PLACED, None)
    facts = replace(PRESIGNED, record=Record("doc-1"))
    assert ledger.apply(start(ledger, first, Step.PRESIGN), moves.presigned(facts, "run", calls=1))
    assert not ledger.apply(start(ledger, second, Step.PRESIGN), moves.presigned(facts, "run", calls=1))
    assert now(ledger, second).stage is Stage.RECEIVED
    assert ledger.record_owners(now(ledger, second)) == {"doc-1": first}


def test_an_unknown_presign_is_searched_for_and_its_record_found(ledger: Ledger) -> None:
    job = opened(ledger, PLACED)
    lease = start(ledger, job, Step.PRESIGN)
    ledger.commit(lease, Facts(provider={"since": "then"}))
    ledger.apply(lease, moves.outcome_unknown(lease.job, 0, calls=1))
    unknown = now(ledger, job)
    assert (unknown.stage, unknown.step, unknown.uncertainty.unknown_step) == (
        Stage.RECEIVED,
        Step.CONFIRM,
        Step.PRESIGN,
    )
    assert unknown.facts.provider == {"since": "then"}
    assert ledger.apply(start(ledger, job, Step.CONFIRM), moves.record_found(Facts(record=Record("doc-1")), calls=1))
    found = now(ledger, job)
    assert (found.stage, found.step, found.uncertainty.committed, found.facts.record) == (
        Stage.RECEIVED,
        Step.PRESIGN,
        False,
        Record("doc-1"),
    )
    assert due_entries(ledger, job) == ["north"]


def test_a_retry_keeps_the_record_that_was_made_for_the_document(ledger: Ledger) -> None:
    job = opened(ledger, PLACED)
    ledger.apply(
        start(ledger, job, Step.PRESIGN), moves.presigned(replace(PRESIGNED, record=Record("doc-1")), "run", calls=1)
    )
    ledger.apply(start(ledger, job, Step.POST), moves.failed(Failure(Code.GAVE_UP, "Too long."), calls=0))
    current = now(ledger, job)
    assert ledger.take_over(current, moves.retry(current)) == "ok"
    assert now(ledger, job).facts == Facts(record=Record("doc-1"))


# --- only a person can find out --------------------------------------------------------------------------------------


def test_a_document_that_needs_a_person_keeps_its_name_and_is_not_searched_for(ledger: Ledger) -> None:
    job = opened(ledger, NEEDS_PERSON, name="scan.pdf")
    assert ledger.reserve_name(now(ledger, job)).holder == job
    ledger.apply(start(ledger, job, Step.REGISTER), moves.hold_for_person(UNKNOWN, calls=1))
    failed = now(ledger, job)
    assert (failed.stage, failed.code, failed.uncertainty.needs_person) == (Stage.FAILED, Code.OUTCOME_UNKNOWN, True)
    assert failed.outcome_open
    assert not failed.still_reconciling
    assert ledger.reserve_name(now(ledger, opened(ledger, NEEDS_PERSON, name="scan.pdf"))).holder == job


def test_a_document_that_a_person_finds_in_the_chart_gives_its_name_back(ledger: Ledger) -> None:
    job = opened(ledger, NEEDS_PERSON, name="scan.pdf")
    ledger.reserve_name(now(ledger, job))
    ledger.apply(start(ledger, job, Step.REGISTER), moves.hold_for_person(UNKNOWN, calls=1))
    current = now(ledger, job)
    assert ledger.take_over(current, moves.resolve_delivered(current, Record("9"))) == "ok"
    after = now(ledger, job)
    assert (after.stage, after.uncertainty.needs_person, after.uncertainty.unknown_since) == (
        Stage.DELIVERED,
        False,
        None,
    )
    other = opened(ledger, NEEDS_PERSON, name="scan.pdf")
    assert ledger.reserve_name(now(ledger, other)).holder == other


def test_a_document_that_is_sent_again_needs_no_person_any_more(ledger: Ledger) -> None:
    job = opened(ledger, NEEDS_PERSON)
    ledger.apply(start(ledger, job, Step.REGISTER), moves.hold_for_person(UNKNOWN, calls=1))
    current = now(ledger, job)
    assert ledger.take_over(current, moves.retry(current, first=Step.REGISTER)) == "ok"
    again = now(ledger, job)
    assert (again.stage, again.step, again.uncertainty.needs_person, again.uncertainty.committed) == (
        Stage.RECEIVED,
        Step.REGISTER,
        False,
        False,
    )


def test_what_is_repeated_remembers_that_it_may_have_been_sent_and_cannot_be_cancelled(ledger: Ledger) -> None:
    job = opened(ledger, ONE)
    lease = start(ledger, job, Step.REGISTER)
    ledger.commit(lease)
    ledger.apply(lease, moves.repeated(lease, 0, calls=1))
    again = now(ledger, job)
    assert (
        again.step,
        again.uncertainty.committed,
        again.uncertainty.earlier_sending_unknown,
        again.counts.failures,
    ) == (
        Step.REGISTER,
        False,
        True,
        1,
    )
    assert ledger.take_over(again, moves.cancel(again)) == "committed"
    assert due_entries(ledger, job) == ["north"]


# --- after a wipe ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "step", "stage"),
    [
        (Route(), Step.POST, Stage.PRESIGNED),
        (THREE, Step.REGISTER, Stage.STORED),
        (PLACED, Step.PRESIGN, Stage.RECEIVED),
        (NEEDS_PERSON, Step.REGISTER, Stage.RECEIVED),
    ],
)
def test_what_may_have_been_sent_before_a_wipe_comes_back_where_its_outcome_is_found_unknown(
    ledger: Ledger, route: Route, step: Step, stage: Stage
) -> None:
    job, maybe = str(uuid4()), MaybeSent(Facts(record=Record("9")), step)
    ledger.open(job, document(), "any", maybe_sent=maybe, route=route)
    back = now(ledger, job)
    assert (back.stage, back.step, back.uncertainty.committed, back.facts.record) == (stage, step, True, Record("9"))


def test_what_is_sent_under_the_same_ids_begins_again_after_a_wipe(ledger: Ledger) -> None:
    job = str(uuid4())
    ledger.open(job, document(), "any", maybe_sent=MaybeSent(Facts(), Step.REGISTER), route=ONE)
    back = now(ledger, job)
    assert (back.stage, back.step, back.uncertainty.committed, back.uncertainty.earlier_sending_unknown) == (
        Stage.RECEIVED,
        Step.REGISTER,
        False,
        True,
    )


# --- relabelings -----------------------------------------------------------------------------------------------------


def test_relabelings_of_one_document_wait_for_each_other_and_do_not_claim_its_record(ledger: Ledger) -> None:
    labels = (Label("urn:oid:2.16.840.1.113883.5.25", "N"),)
    first, second = str(uuid4()), str(uuid4())
    for job in (first, second):
        asked = document(patient_id=None, file_name="", relabeling=Relabeling("doc-1", labels))
        ledger.open(job, asked, "nhn", route=ONE)
    assert ledger.reserve_name(now(ledger, first)).holder == first
    assert ledger.reserve_name(now(ledger, second)).holder == first
    for job in (first, second):
        assert ledger.reserve_name(now(ledger, job)).holder == job
        lease = start(ledger, job, Step.REGISTER)
        assert ledger.apply(lease, moves.delivered(lease.job, Record("doc-1"), 1, None))
    assert ledger.record_owners(now(ledger, first)) == {}


@pytest.mark.parametrize("first", [Step.PRESIGN, Step.POST, Step.REGISTER])
def test_a_job_that_waits_for_a_name_is_woken_whatever_step_it_begins_with(ledger: Ledger, first: Step) -> None:
    route = replace(ONE, first=first)
    holder, waiting = opened(ledger, route, name="scan.pdf"), opened(ledger, route, name="scan.pdf")
    for job in (holder, waiting):
        assert ledger.reserve_name(now(ledger, job)).holder == holder
    lease = start(ledger, waiting, first)
    ledger.apply(lease, moves.deferred(lease, 600, calls=0))
    lease = start(ledger, holder, first)
    assert ledger.apply(lease, moves.delivered(lease.job, Record("9"), 1, None))
    due = ledger.redis.zscore(f"{PREFIX}due:north", waiting)
    assert due is not None
    assert due <= int(ledger.redis.time()[0]) * 1000 + 1000


def test_a_form_may_name_its_record() -> None:
    assert Form("https://s3.example/", {}, Record("doc-1")).record == Record("doc-1")


def test_rows_of_an_earlier_version_are_read_as_before(ledger: Ledger) -> None:
    job = opened(ledger, Route())
    ledger.redis.hdel(f"{PREFIX}job:{job}", "together", "scope")
    assert now(ledger, job).scope == ledger.redis.hget(f"{PREFIX}job:{job}", "patient")
    assert not isinstance(ledger.start(job, Step.PRESIGN), NotStarted)


def test_what_a_person_has_found_keeps_the_record_that_was_known_and_is_recognised_itself(ledger: Ledger) -> None:
    job = opened(ledger, THREE)
    to_registering(ledger, job)
    assert ledger.apply(
        start(ledger, job, Step.REGISTER), moves.registered(Facts(record=Record("9"), stored=STORED), 2.0, calls=1)
    )
    ledger.apply(start(ledger, job, Step.CONFIRM), moves.failed(UNKNOWN, calls=1, keep_name=True))
    current = now(ledger, job)
    assert ledger.take_over(current, moves.resolve_delivered(current, None)) == "ok"
    after = now(ledger, job)
    assert after.facts.record == Record("9")
    assert ledger.reserve_name(after).deliveries == {STORED.sha256: job}
