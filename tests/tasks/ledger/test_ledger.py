"""The ledger's moves: guarded by stage and token, one due entry for every job with work left."""

from __future__ import annotations

import threading
from dataclasses import replace
from uuid import uuid4

import pytest
import redis

from tasks.ledger import moves
from tasks.ledger.keys import CLOSING_LANE, PREFIX
from tasks.ledger.lease import Lease, NotStarted
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.document import Document
from tasks.model.errors import Code, LeaseLost
from tasks.model.job import Facts, Failure, Form, Record, Stored
from tasks.model.route import Route, Stage, Step
from tests.harness.valkey import everything_in

STORED = Stored("temp/scan.pdf", "e" * 32, True, "5" * 64, "e" * 32)
PRESIGNED = Facts(form=Form("https://s3.example/", {"key": "temp/scan.pdf"}), snapshot=("1",), key="temp/scan.pdf")


def document(**change: object) -> Document:
    fields = {
        "account": "north",
        "patient_id": "4711",
        "source": "file:///in/Meier%20scan.pdf",
        "file_name": "Meier scan.pdf",
        "size_bytes": 3,
    }
    return Document(**(fields | change))  # type: ignore[arg-type]


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    return Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)


@pytest.fixture
def job_id(ledger: Ledger) -> str:
    job = str(uuid4())
    assert ledger.open(job, document(), "pracsuite").kind == "opened"
    return job


def start(ledger: Ledger, job: str, step: Step) -> Lease:
    started = ledger.start(job, step)
    assert not isinstance(started, NotStarted), started
    return started[0]


def expire_lease(ledger: Ledger, job: str) -> None:
    ledger.redis.hset(f"{PREFIX}job:{job}", "lease_until", 1)


def due_entries(ledger: Ledger, job: str) -> list[str]:
    lanes = [key for key in ledger.redis.scan_iter(f"{PREFIX}due:*") if ledger.redis.zscore(key, job) is not None]
    return sorted(str(key).removeprefix(f"{PREFIX}due:") for key in lanes)


def to_stored(ledger: Ledger, job: str) -> None:
    ledger.apply(start(ledger, job, Step.PRESIGN), moves.presigned(PRESIGNED, "run", calls=2))
    lease = start(ledger, job, Step.POST)
    ledger.commit(lease)
    ledger.apply(lease, moves.stored(Facts(snapshot=("1",), stored=STORED), Step.CONFIRM, 2.0, calls=1))


def to_delivered(ledger: Ledger, job: str, record: str = "77") -> None:
    to_stored(ledger, job)
    lease = start(ledger, job, Step.CONFIRM)
    assert ledger.apply(lease, moves.delivered(lease.job, Record(record), 1, STORED.sha256))


def test_a_job_reads_back_as_it_was_opened(ledger: Ledger, job_id: str) -> None:
    job = ledger.get(job_id)
    assert job is not None
    assert (job.stage, job.step, job.document) == (Stage.RECEIVED, Step.PRESIGN, document())


def test_opening_the_same_id_twice_changes_nothing(ledger: Ledger, job_id: str) -> None:
    assert ledger.open(job_id, document(file_name="other.pdf"), "pracsuite").kind == "exists"
    job = ledger.get(job_id)
    assert job is not None
    assert job.document.file_name == "Meier scan.pdf"


def test_nothing_in_redis_names_the_patient_or_the_file(ledger: Ledger, job_id: str) -> None:
    to_delivered(ledger, job_id)
    ledger.open(str(uuid4()), document(idempotency_key="Meier-4711"), "pracsuite")
    seen = everything_in(ledger.redis)
    assert job_id in seen
    for private in ("Meier", "4711", "scan.pdf"):
        assert private not in seen, private


@pytest.mark.parametrize("stage", ["received", "presigned", "stored", "delivered", "failed"])
def test_every_job_with_work_left_has_exactly_one_due_entry(ledger: Ledger, job_id: str, stage: str) -> None:
    if stage == "presigned":
        ledger.apply(start(ledger, job_id, Step.PRESIGN), moves.presigned(PRESIGNED, "run", calls=0))
    elif stage == "stored":
        to_stored(ledger, job_id)
    elif stage == "delivered":
        to_delivered(ledger, job_id)
    elif stage == "failed":
        ledger.apply(
            start(ledger, job_id, Step.PRESIGN), moves.failed(Failure(Code.FILE_EMPTY, "It is empty."), calls=0)
        )
    assert due_entries(ledger, job_id) == ([CLOSING_LANE] if stage in ("delivered", "failed") else ["north"])


def test_attempts_count_tries_and_not_steps(ledger: Ledger, job_id: str) -> None:
    ledger.apply(start(ledger, job_id, Step.PRESIGN), moves.presigned(PRESIGNED, "run", calls=0))
    lease = start(ledger, job_id, Step.POST)
    ledger.apply(lease, moves.deferred(lease, 0, calls=0, failed=True))
    lease = start(ledger, job_id, Step.POST)
    ledger.apply(lease, moves.stored(Facts(snapshot=("1",), stored=STORED), Step.CONFIRM, 2.0, calls=1))
    start(ledger, job_id, Step.CONFIRM)
    job = ledger.get(job_id)
    assert job is not None
    assert job.counts.attempts == 2


def test_a_closed_job_has_no_due_entry_and_leaves_after_its_time(ledger: Ledger, job_id: str) -> None:
    to_delivered(ledger, job_id)
    lease = start(ledger, job_id, Step.NOTIFY)
    ledger.apply(lease, moves.finished(lease.job, moves.ClosingDone()))
    assert due_entries(ledger, job_id) == []
    assert 0 < int(ledger.redis.ttl(f"{PREFIX}job:{job_id}")) <= 30 * 86400


def test_a_step_that_is_running_is_not_started_again(ledger: Ledger, job_id: str) -> None:
    start(ledger, job_id, Step.PRESIGN)
    assert ledger.start(job_id, Step.PRESIGN) == NotStarted("leased")


def test_a_step_that_is_done_is_not_started_again(ledger: Ledger, job_id: str) -> None:
    to_stored(ledger, job_id)
    assert ledger.start(job_id, Step.PRESIGN) == NotStarted("moved")
    assert ledger.start(job_id, Step.POST) == NotStarted("moved")


def test_of_many_workers_that_start_a_step_one_gets_it(ledger: Ledger, job_id: str) -> None:
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(ledger.start(job_id, Step.PRESIGN))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([start for start in got if isinstance(start, list)]) == 1


def test_a_worker_that_lost_its_lease_moves_nothing(ledger: Ledger, job_id: str) -> None:
    zombie = start(ledger, job_id, Step.PRESIGN)
    expire_lease(ledger, job_id)
    successor = start(ledger, job_id, Step.PRESIGN)
    with pytest.raises(LeaseLost):
        ledger.apply(zombie, moves.presigned(PRESIGNED, "run", calls=0))
    ledger.apply(successor, moves.presigned(PRESIGNED, "run", calls=0))
    assert ledger.renew([(job_id, zombie.token)]) == [False]


def test_a_worker_that_lost_its_lease_does_not_pass_the_commit_point(ledger: Ledger, job_id: str) -> None:
    ledger.apply(start(ledger, job_id, Step.PRESIGN), moves.presigned(PRESIGNED, "run", calls=0))
    zombie = start(ledger, job_id, Step.POST)
    expire_lease(ledger, job_id)
    start(ledger, job_id, Step.POST)
    with pytest.raises(LeaseLost):
        ledger.commit(zombie)


def test_no_worker_passes_the_commit_point_of_a_wiped_ledger(ledger: Ledger, job_id: str) -> None:
    ledger.apply(start(ledger, job_id, Step.PRESIGN), moves.presigned(PRESIGNED, "run", calls=0))
    lease = start(ledger, job_id, Step.POST)
    ledger.redis.flushall()
    with pytest.raises(LeaseLost):
        ledger.commit(lease)


def test_a_lease_from_before_a_wipe_is_none_on_the_job_that_was_opened_again(ledger: Ledger, job_id: str) -> None:
    lease = start(ledger, job_id, Step.PRESIGN)
    ledger.redis.flushdb()
    ledger.open(job_id, document(), "pracsuite")
    start(ledger, job_id, Step.PRESIGN)
    assert ledger.renew([(job_id, lease.token)]) == [False]
    with pytest.raises(LeaseLost):
        ledger.commit(lease)


def test_a_lease_that_redis_has_lost_is_fenced_by_the_next_start(ledger: Ledger, job_id: str) -> None:
    kept = ledger.redis.dump(PREFIX + "job:" + job_id) or b""
    lease = start(ledger, job_id, Step.PRESIGN)
    ledger.redis.restore(PREFIX + "job:" + job_id, 0, kept, replace=True)
    start(ledger, job_id, Step.PRESIGN)
    assert ledger.renew([(job_id, lease.token)]) == [False]
    with pytest.raises(LeaseLost):
        ledger.commit(lease)


def test_a_record_proves_one_job_only(ledger: Ledger, job_id: str) -> None:
    other = str(uuid4())
    ledger.open(other, document(file_name="other.pdf"), "pracsuite")
    to_delivered(ledger, job_id, record="77")
    to_stored(ledger, other)
    lease = start(ledger, other, Step.CONFIRM)
    assert ledger.apply(lease, moves.delivered(lease.job, Record("77"), 1, None)) is False
    job = ledger.get(other)
    assert job is not None
    assert job.stage is Stage.STORED


def test_one_start_leases_all_of_a_patients_waiting_jobs(ledger: Ledger, job_id: str) -> None:
    others = [str(uuid4()) for _ in range(3)]
    for number, other in enumerate(others):
        ledger.open(other, document(file_name=f"{number}.pdf"), "pracsuite")
        to_stored(ledger, other)
    elsewhere = str(uuid4())
    ledger.open(elsewhere, document(patient_id="9"), "pracsuite")
    to_stored(ledger, elsewhere)
    to_stored(ledger, job_id)
    started = ledger.start(job_id, Step.CONFIRM)
    assert not isinstance(started, NotStarted)
    assert {lease.job.id for lease in started} == {job_id, *others}


def test_a_name_belongs_to_one_job_and_is_handed_on_when_it_ends(ledger: Ledger, job_id: str) -> None:
    second = str(uuid4())
    ledger.open(second, document(), "pracsuite")
    first_job, second_job = ledger.get(job_id), ledger.get(second)
    assert first_job is not None
    assert second_job is not None
    assert ledger.reserve_name(first_job).holder == job_id
    assert ledger.reserve_name(second_job).holder == job_id
    lease = start(ledger, second, Step.PRESIGN)
    ledger.apply(lease, moves.deferred(lease, 600, calls=0))
    to_delivered(ledger, job_id)
    due = ledger.redis.zscore(f"{PREFIX}due:north", second)
    assert due is not None
    assert due <= int(ledger.redis.time()[0]) * 1000 + 1000
    assert ledger.reserve_name(second_job).holder == second


def test_a_failed_job_keeps_its_name_while_it_may_still_arrive(ledger: Ledger, job_id: str) -> None:
    job = ledger.get(job_id)
    assert job is not None
    ledger.reserve_name(job)
    to_stored(ledger, job_id)
    failure = Failure(Code.NOT_CONFIRMED, "No record.")
    ledger.apply(start(ledger, job_id, Step.CONFIRM), moves.failed(failure, calls=0, keep_name=True))
    assert ledger.name_holder(document()) == job_id


def test_a_record_proves_one_job_and_one_that_is_shared_proves_all_that_are_put_into_it(ledger: Ledger) -> None:
    own, shared = Record("7"), Record("7", shared=True)
    for record, others_too in ((own, False), (shared, True)):
        first, second = (str(uuid4()) for _ in range(2))
        for job in (first, second):
            ledger.open(job, document(), "ovok")
        facts = Facts(form=PRESIGNED.form, record=record)
        assert ledger.apply(start(ledger, first, Step.PRESIGN), moves.presigned(facts, "run", calls=1))
        assert ledger.apply(start(ledger, second, Step.PRESIGN), moves.presigned(facts, "run", calls=1)) is others_too
        lease = start(ledger, first, Step.POST)
        assert ledger.apply(lease, moves.delivered(lease.job, record, 1, None))
        next_step = Step.POST if others_too else Step.PRESIGN
        expire_lease(ledger, second)
        lease = start(ledger, second, next_step)
        assert ledger.apply(lease, moves.delivered(lease.job, record, 1, None)) is others_too
        ledger.redis.flushall()


def test_documents_that_go_into_the_same_one_wait_for_one_another(ledger: Ledger) -> None:
    jobs = []
    for number, into in enumerate(("d-1", "d-1", "d-2")):
        jobs.append(str(uuid4()))
        asked = document(file_name=f"{number}.pdf", patient_id=None, options={"document_id": into})
        ledger.open(jobs[-1], asked, "ovok")
    first, second, elsewhere = (ledger.get(job) for job in jobs)
    assert first
    assert second
    assert elsewhere
    assert ledger.reserve_name(first).holder == first.id
    assert ledger.reserve_name(second).holder == first.id
    assert ledger.reserve_name(elsewhere).holder == elsewhere.id
    assert ledger.name_holder(document(file_name="x", options={"document_id": "d-1"})) == first.id


def test_what_replaces_the_same_thing_is_worked_on_in_the_order_in_which_it_was_opened(ledger: Ledger) -> None:
    jobs = [str(uuid4()) for _ in range(4)]
    asked = document(patient_id=None, options={"document_id": "d-1"})
    openings = [(job, asked, "ovok", Route()) for job in jobs]
    ledger.open(*openings[0][:3])
    ledger.open_together(openings[1:3])
    ledger.open(*openings[3][:3])
    first, second, third, last = (ledger.get(job) for job in jobs)
    assert first
    assert second
    assert third
    assert last
    assert [ledger.reserve_name(job).holder for job in (last, third, second)] == [first.id] * 3
    ledger.take_over(third, moves.cancel(third))
    ledger.take_over(first, moves.cancel(first))
    assert [ledger.reserve_name(job).holder for job in (last, second)] == [second.id] * 2
    ledger.take_over(second, moves.cancel(second))
    assert ledger.name_holder(asked) == last.id
    ledger.take_over(last, moves.cancel(last))
    assert ledger.name_holder(asked) is None


def test_owners_can_be_read_one_by_one_and_are_forgotten_after_a_month(ledger: Ledger, job_id: str) -> None:
    job = ledger.get(job_id)
    assert job
    owners, since = f"{PREFIX}claims:{job.scope}", f"{PREFIX}claimed-at:{job.scope}"
    ledger.redis.hset(owners, mapping={"old": "a", "young": "b"})
    now = int(ledger.redis.time()[0]) * 1000
    ledger.redis.zadd(since, {"old": now - 32 * 86_400_000, "young": now})
    for key in (owners, since):
        ledger.redis.expire(key, 31 * 86_400)
    known = ledger.record_owners(job)
    assert (known.get("old"), known.get("none")) == ("a", None)
    to_delivered(ledger, job_id, "77")
    assert ledger.record_owners(job) == dict(ledger.record_owners(job)) == {"young": "b", "77": job_id}
    assert ledger.redis.zrange(since, 0, -1) == ["young", "77"]


def test_a_commit_counts_only_in_the_run_of_redis_for_which_it_was_asked(ledger: Ledger, job_id: str) -> None:
    ledger.redis.hset(PREFIX + "run", "mark", "the second")
    lease = start(ledger, job_id, Step.PRESIGN)
    assert lease.run_mark == "the second"
    before = everything_in(ledger.redis)
    assert ledger.commit(lease, PRESIGNED, run_mark="the first") is None
    assert everything_in(ledger.redis) == before
    assert ledger.commit(lease, PRESIGNED, run_mark="the second") == 1


def test_one_idempotency_key_opens_one_job(ledger: Ledger) -> None:
    first, second, third = (str(uuid4()) for _ in range(3))
    assert ledger.open(first, document(idempotency_key="k"), "pracsuite").kind == "opened"
    again = ledger.open(second, document(idempotency_key="k"), "pracsuite")
    assert (again.kind, again.job_id) == ("same", first)
    assert ledger.aliases(first) == [second]
    assert ledger.open(third, document(idempotency_key="k", file_name="x.pdf"), "pracsuite").kind == "conflict"


def test_what_a_key_was_used_for_does_not_depend_on_the_order_of_its_options(ledger: Ledger) -> None:
    first, again = {"a": {"x": 1, "y": 2}, "b": 3}, {"b": 3, "a": {"y": 2, "x": 1}}
    assert ledger.open(str(uuid4()), document(idempotency_key="o", options=first), "pracsuite").kind == "opened"
    assert ledger.open(str(uuid4()), document(idempotency_key="o", options=again), "pracsuite").kind == "same"


def test_a_committed_job_is_too_late_to_cancel(ledger: Ledger, job_id: str) -> None:
    ledger.apply(start(ledger, job_id, Step.PRESIGN), moves.presigned(PRESIGNED, "run", calls=0))
    ledger.commit(start(ledger, job_id, Step.POST))
    job = ledger.get(job_id)
    assert job is not None
    assert ledger.take_over(job, moves.cancel(job)) == "committed"


def test_cancelling_takes_the_job_from_the_worker_that_has_its_lease(ledger: Ledger, job_id: str) -> None:
    ledger.apply(start(ledger, job_id, Step.PRESIGN), moves.presigned(PRESIGNED, "run", calls=0))
    lease = start(ledger, job_id, Step.POST)
    assert ledger.take_over(lease.job, moves.cancel(lease.job)) == "ok"
    with pytest.raises(LeaseLost):
        ledger.commit(lease)
    job = ledger.get(job_id)
    assert job is not None
    assert (job.stage, job.code) == (Stage.CANCELLED, Code.CANCELLED)


def test_a_retried_job_begins_again_and_keeps_its_id(ledger: Ledger, job_id: str) -> None:
    ledger.apply(start(ledger, job_id, Step.PRESIGN), moves.failed(Failure(Code.FILE_MISSING, "Gone."), calls=0))
    failed = ledger.get(job_id)
    assert failed is not None
    assert ledger.take_over(failed, moves.retry(failed)) == "ok"
    job = ledger.get(job_id)
    assert job is not None
    assert (job.stage, job.step, job.failure) == (Stage.RECEIVED, Step.PRESIGN, None)
    assert due_entries(ledger, job_id) == ["north"]


def test_a_retry_after_an_unknown_outcome_searches_first(ledger: Ledger, job_id: str) -> None:
    to_stored(ledger, job_id)
    failure = Failure(Code.NOT_CONFIRMED, "No record.")
    ledger.apply(start(ledger, job_id, Step.CONFIRM), moves.failed(failure, calls=0, keep_name=True))
    failed = ledger.get(job_id)
    assert failed is not None
    assert ledger.take_over(failed, moves.retry_reconciling(failed)) == "ok"
    job = ledger.get(job_id)
    assert job is not None
    assert (job.stage, job.step, job.uncertainty.committed) == (Stage.PRESIGNED, Step.CONFIRM, True)
    assert job.facts.snapshot == ("1",)


def test_what_a_caller_sees_changes_with_the_move_and_not_with_one_that_is_refused(ledger: Ledger, job_id: str) -> None:
    heard = ledger.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]  # as redis-py has it
    heard.subscribe("celery-task-meta-x")
    heard.get_message(timeout=5)
    lost = start(ledger, job_id, Step.PRESIGN)
    expire_lease(ledger, job_id)
    lease = start(ledger, job_id, Step.PRESIGN)
    shown = moves.Shown("celery-task-meta-x", "PRESIGNED", 60)
    move = replace(moves.presigned(Facts(), "run", 1), shows=shown)
    with pytest.raises(LeaseLost):
        ledger.apply(lost, move)
    assert ledger.redis.get(shown.key) is None
    assert ledger.apply(lease, move)
    assert ledger.redis.get(shown.key) == "PRESIGNED"
    assert 0 < ledger.redis.ttl(shown.key) <= 60
    message = heard.get_message(timeout=5)
    assert message is not None
    assert message["data"] == "PRESIGNED"
