"""The moves of documents on other routes than presign, post, confirm: registered, repeated, found, left to a person."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
import redis

from tasks.ledger.lease import NotStarted
from tasks.ledger.ledger import Ledger, MaybeSent
from tasks.ledger.redis import CLOSING_LANE, PREFIX
from tasks.ledger.seal import Seal
from tasks.model.document import Label, Relabeling
from tasks.model.errors import Code
from tasks.model.job import Facts, Failure, Form, Job, Record, outcome_open, still_reconciling
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
    ledger.presigned(start(ledger, job, Step.PRESIGN), PRESIGNED, "run", calls=1)
    ledger.stored(start(ledger, job, Step.POST), Facts(stored=STORED), Step.REGISTER, 2.0, calls=1)


# --- registering -----------------------------------------------------------------------------------------------------


def test_what_was_stored_is_registered_next_and_then_polled(ledger: Ledger) -> None:
    job = opened(ledger, THREE)
    to_registering(ledger, job)
    lease = start(ledger, job, Step.REGISTER)
    ledger.committed(lease)
    assert ledger.registered(lease, Facts(record=Record("9")), 2.0, calls=1)
    after = now(ledger, job)
    assert (after.stage, after.step, after.committed) == (Stage.REGISTERED, Step.CONFIRM, False)
    assert due_entries(ledger, job) == ["north"]
    assert ledger.record_owners(after) == {"9": job}


def test_a_record_that_proves_another_job_is_not_registered_twice(ledger: Ledger) -> None:
    first, second = opened(ledger, THREE), opened(ledger, THREE)
    for job, taken in ((first, True), (second, False)):
        to_registering(ledger, job)
        assert ledger.registered(start(ledger, job, Step.REGISTER), Facts(record=Record("9")), 2.0, 1) is taken


def test_what_is_stored_and_not_registered_can_be_cancelled_until_that_is_committed(ledger: Ledger) -> None:
    first, second, third = (opened(ledger, THREE) for _ in range(3))
    for job in (first, second, third):
        to_registering(ledger, job)
    ledger.committed(start(ledger, second, Step.REGISTER))
    assert ledger.cancel(now(ledger, first)) == "ok"
    assert ledger.cancel(now(ledger, second)) == "committed"
    before = now(ledger, third)
    assert ledger.registered(start(ledger, third, Step.REGISTER), Facts(record=Record("9")), 2.0, calls=1)
    assert ledger.cancel(before) == "moved"


def test_an_unknown_registering_is_searched_for_and_repeated_from_where_it_was(ledger: Ledger) -> None:
    job = opened(ledger, THREE)
    to_registering(ledger, job)
    lease = start(ledger, job, Step.REGISTER)
    ledger.committed(lease)
    ledger.outcome_unknown(lease, 0, calls=1)
    unknown = now(ledger, job)
    assert (unknown.stage, unknown.step, unknown.unknown_step) == (Stage.STORED, Step.CONFIRM, Step.REGISTER)
    ledger.send_again(start(ledger, job, Step.CONFIRM), 0, THREE)
    again = now(ledger, job)
    assert (again.stage, again.step, again.committed, again.reconciled) == (Stage.STORED, Step.REGISTER, False, True)
    assert again.unknown_since is None


def test_a_registering_that_was_found_goes_on_being_polled(ledger: Ledger) -> None:
    job = opened(ledger, THREE)
    to_registering(ledger, job)
    ledger.outcome_unknown(start(ledger, job, Step.REGISTER), 0, calls=1)
    assert ledger.registered(start(ledger, job, Step.CONFIRM), Facts(record=Record("9")), 2.0, calls=1)
    found = now(ledger, job)
    assert (found.stage, found.unknown_step, found.unknown_since, found.committed) == (
        Stage.REGISTERED,
        Step.NONE,
        None,
        False,
    )


def test_what_is_delivered_by_the_registering_itself_has_passed_it(ledger: Ledger) -> None:
    job = opened(ledger, ONE)
    lease = start(ledger, job, Step.REGISTER)
    ledger.committed(lease)
    facts = Facts(stored=STORED, remarks=("A remark.",))
    assert ledger.delivered(lease, Record("9"), 1, STORED.sha256, facts=facts, passed=Stage.REGISTERED)
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
    assert [ledger.reserve_name(now(ledger, job)) for job in (first, second)] == [first, first]
    ledger.deferred(start(ledger, second, route.first), 30, calls=0)
    ledger.failed(start(ledger, first, route.first), UNKNOWN, calls=0)
    due_at = ledger.redis.zscore(f"{PREFIX}due:north", second)
    assert due_at is not None
    assert due_at <= ledger.redis.time()[0] * 1000 + 1000


@pytest.mark.parametrize(("route", "stage"), [(THREE, Stage.PRESIGNED), (NEEDS_PERSON, Stage.RECEIVED)])
def test_a_continued_job_has_no_stage_that_its_route_lacks(ledger: Ledger, route: Route, stage: Stage) -> None:
    job = opened(ledger, route)
    ledger.hold_for_person(start(ledger, job, route.first), UNKNOWN, 1)
    ledger.retry_reconciling(now(ledger, job), first=route.first)
    assert (now(ledger, job).stage, now(ledger, job).unknown_step) == (stage, route.first)


def test_a_document_that_needs_a_person_is_recognised_by_its_digest(ledger: Ledger) -> None:
    job = opened(ledger, NEEDS_PERSON)
    ledger.hold_for_person(start(ledger, job, Step.REGISTER), UNKNOWN, 1, "5" * 64)
    assert now(ledger, job).sha256 == "5" * 64


def test_what_is_stored_can_be_cancelled_until_it_is_registered(ledger: Ledger) -> None:
    first, second, third = (opened(ledger, THREE) for _ in range(3))
    for job in (first, second, third):
        to_registering(ledger, job)
    ledger.committed(start(ledger, second, Step.REGISTER))
    seen = now(ledger, third)
    assert ledger.registered(start(ledger, third, Step.REGISTER), Facts(record=Record("9")), 2.0, calls=1)
    assert [ledger.cancel(job) for job in (now(ledger, first), now(ledger, second), seen)] == [
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
        ledger.presigned(start(ledger, job, Step.PRESIGN), PRESIGNED, "run", calls=1)
        ledger.stored(start(ledger, job, Step.POST), Facts(stored=STORED), Step.CONFIRM, 0, calls=1)
    started = ledger.start(jobs[0], Step.CONFIRM)
    assert not isinstance(started, NotStarted)
    assert {lease.job.id for lease in started} == (set(jobs) if together else {jobs[0]})


# --- records that are made before the upload -------------------------------------------------------------------------


def test_a_record_made_with_the_form_belongs_to_one_job_of_the_account_whatever_the_patient(ledger: Ledger) -> None:
    first, second = opened(ledger, PLACED, "1"), opened(ledger, PLACED, None)
    facts = replace(PRESIGNED, record=Record("doc-1"))
    assert ledger.presigned(start(ledger, first, Step.PRESIGN), facts, "run", calls=1)
    assert not ledger.presigned(start(ledger, second, Step.PRESIGN), facts, "run", calls=1)
    assert now(ledger, second).stage is Stage.RECEIVED
    assert ledger.record_owners(now(ledger, second)) == {"doc-1": first}


def test_an_unknown_presign_is_searched_for_and_its_record_found(ledger: Ledger) -> None:
    job = opened(ledger, PLACED)
    lease = start(ledger, job, Step.PRESIGN)
    ledger.committed(lease, Facts(provider={"since": "then"}))
    ledger.outcome_unknown(lease, 0, calls=1)
    unknown = now(ledger, job)
    assert (unknown.stage, unknown.step, unknown.unknown_step) == (Stage.RECEIVED, Step.CONFIRM, Step.PRESIGN)
    assert unknown.facts.provider == {"since": "then"}
    assert ledger.record_found(start(ledger, job, Step.CONFIRM), Facts(record=Record("doc-1")), calls=1)
    found = now(ledger, job)
    assert (found.stage, found.step, found.committed, found.facts.record) == (
        Stage.RECEIVED,
        Step.PRESIGN,
        False,
        Record("doc-1"),
    )
    assert due_entries(ledger, job) == ["north"]


def test_a_retry_keeps_the_record_that_was_made_for_the_document(ledger: Ledger) -> None:
    job = opened(ledger, PLACED)
    ledger.presigned(start(ledger, job, Step.PRESIGN), replace(PRESIGNED, record=Record("doc-1")), "run", calls=1)
    ledger.failed(start(ledger, job, Step.POST), Failure(Code.GAVE_UP, "Too long."), calls=0)
    assert ledger.retry(now(ledger, job)) == "ok"
    assert now(ledger, job).facts == Facts(record=Record("doc-1"))


# --- only a person can find out --------------------------------------------------------------------------------------


def test_a_document_that_needs_a_person_keeps_its_name_and_is_not_searched_for(ledger: Ledger) -> None:
    job = opened(ledger, NEEDS_PERSON, name="scan.pdf")
    assert ledger.reserve_name(now(ledger, job)) == job
    ledger.hold_for_person(start(ledger, job, Step.REGISTER), UNKNOWN, calls=1)
    failed = now(ledger, job)
    assert (failed.stage, failed.code, failed.needs_person) == (Stage.FAILED, Code.OUTCOME_UNKNOWN, True)
    assert outcome_open(failed)
    assert not still_reconciling(failed)
    assert ledger.reserve_name(now(ledger, opened(ledger, NEEDS_PERSON, name="scan.pdf"))) == job


def test_a_document_that_a_person_finds_in_the_chart_gives_its_name_back(ledger: Ledger) -> None:
    job = opened(ledger, NEEDS_PERSON, name="scan.pdf")
    ledger.reserve_name(now(ledger, job))
    ledger.hold_for_person(start(ledger, job, Step.REGISTER), UNKNOWN, calls=1)
    assert ledger.resolve_delivered(now(ledger, job), Record("9")) == "ok"
    after = now(ledger, job)
    assert (after.stage, after.needs_person, after.unknown_since) == (Stage.DELIVERED, False, None)
    other = opened(ledger, NEEDS_PERSON, name="scan.pdf")
    assert ledger.reserve_name(now(ledger, other)) == other


def test_a_document_that_is_sent_again_needs_no_person_any_more(ledger: Ledger) -> None:
    job = opened(ledger, NEEDS_PERSON)
    ledger.hold_for_person(start(ledger, job, Step.REGISTER), UNKNOWN, calls=1)
    assert ledger.retry(now(ledger, job), first=Step.REGISTER) == "ok"
    again = now(ledger, job)
    assert (again.stage, again.step, again.needs_person, again.committed) == (
        Stage.RECEIVED,
        Step.REGISTER,
        False,
        False,
    )


def test_what_is_repeated_remembers_that_it_may_have_been_sent_and_cannot_be_cancelled(ledger: Ledger) -> None:
    job = opened(ledger, ONE)
    lease = start(ledger, job, Step.REGISTER)
    ledger.committed(lease)
    ledger.repeated(lease, 0, calls=1)
    again = now(ledger, job)
    assert (again.step, again.committed, again.earlier_sending_unknown, again.failures) == (
        Step.REGISTER,
        False,
        True,
        1,
    )
    assert ledger.cancel(again) == "committed"
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
    assert (back.stage, back.step, back.committed, back.facts.record) == (stage, step, True, Record("9"))


def test_what_is_sent_under_the_same_ids_begins_again_after_a_wipe(ledger: Ledger) -> None:
    job = str(uuid4())
    ledger.open(job, document(), "any", maybe_sent=MaybeSent(Facts(), Step.REGISTER), route=ONE)
    back = now(ledger, job)
    assert (back.stage, back.step, back.committed, back.earlier_sending_unknown) == (
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
    assert ledger.reserve_name(now(ledger, first)) == first
    assert ledger.reserve_name(now(ledger, second)) == first
    for job in (first, second):
        assert ledger.reserve_name(now(ledger, job)) == job
        assert ledger.delivered(start(ledger, job, Step.REGISTER), Record("doc-1"), 1, None)
    assert ledger.record_owners(now(ledger, first)) == {}


@pytest.mark.parametrize("first", [Step.PRESIGN, Step.POST, Step.REGISTER])
def test_a_job_that_waits_for_a_name_is_woken_whatever_step_it_begins_with(ledger: Ledger, first: Step) -> None:
    route = replace(ONE, first=first)
    holder, waiting = opened(ledger, route, name="scan.pdf"), opened(ledger, route, name="scan.pdf")
    for job in (holder, waiting):
        assert ledger.reserve_name(now(ledger, job)) == holder
    ledger.deferred(start(ledger, waiting, first), 600, calls=0)
    assert ledger.delivered(start(ledger, holder, first), Record("9"), 1, None)
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
    assert ledger.registered(start(ledger, job, Step.REGISTER), Facts(record=Record("9"), stored=STORED), 2.0, calls=1)
    ledger.failed(start(ledger, job, Step.CONFIRM), UNKNOWN, calls=1, keep_name=True)
    assert ledger.resolve_delivered(now(ledger, job), None) == "ok"
    after = now(ledger, job)
    assert after.facts.record == Record("9")
    assert ledger.earlier_deliveries(after.document) == {STORED.sha256: job}
