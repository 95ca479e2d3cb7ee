"""Closing: every step once, in its order, and the rest again after an error."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
import redis

from config.settings import Settings
from tasks.closing.callback import Callback
from tasks.closing.closing import Closing
from tasks.closing.files import DocumentFiles
from tasks.closing.results import Results
from tasks.ledger import keys, moves
from tasks.ledger.clock import LedgerClock
from tasks.ledger.failures import needing_attention
from tasks.ledger.keys import CALLBACK_LANE, PREFIX
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.ledger.renewal import LeaseRenewer
from tasks.ledger.seal import Seal, SealBroken
from tasks.model.document import Document, Door, Place
from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.model.job import Failure, Job, Statement
from tasks.model.route import Step
from tasks.sources.documents import Documents
from tests.tasks.ledger.test_ledger import document, expire_lease, start, to_delivered, to_stored


@dataclass
class Recording:
    """Stands for whatever a closing step acts on. `raises` are the errors of the steps of these names."""

    done: list[str] = field(default_factory=list)
    raises: dict[str, Exception] = field(default_factory=dict)

    def earlier_receipt(self, _: Job) -> None:
        return None

    def close(self, _: Job) -> None:
        self._step("files")

    def unstage(self, _: Job) -> None:
        self._step("staged")

    def remove_source(self, _: Document) -> bool:
        self._step("source")
        return True

    def final(self, _: Job) -> None:
        self._step("result")

    def post(self, _: Lease) -> None:
        self._step("callback")

    def _step(self, name: str) -> None:
        if name in self.raises:
            raise self.raises.pop(name)
        self.done.append(name)


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    return Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)


@pytest.fixture
def steps() -> Recording:
    return Recording()


@pytest.fixture
def closing(ledger: Ledger, steps: Recording, tmp_path: Path) -> Closing:
    return Closing(
        ledger=ledger,
        lease_renewer=LeaseRenewer(ledger),
        files=cast(DocumentFiles, steps),
        documents=cast(Documents, steps),
        results=cast(Results, steps),
        callback=cast(Callback, steps),
        settings=Settings(data_dir=tmp_path),
    )


def opened(ledger: Ledger, **change: object) -> str:
    job_id = str(uuid4())
    ledger.open(job_id, document(door=Door.STREAM, delete_source=True, **change), "pracsuite")
    return job_id


def now(ledger: Ledger, job_id: str) -> Job:
    job = ledger.get(job_id)
    assert job is not None
    return job


def events(ledger: Ledger, job_id: str) -> list[Any]:
    entries: Any = ledger.redis.xrange(f"{PREFIX}events")  # its types allow for answers that only other options give
    return [fields for _, fields in entries if fields["job"] == job_id]


def test_the_steps_are_done_in_their_order_and_no_work_is_left(
    ledger: Ledger, closing: Closing, steps: Recording
) -> None:
    job_id = opened(ledger)
    to_delivered(ledger, job_id)
    closing.run(job_id)
    assert steps.done == ["files", "staged", "source", "result", "callback"]
    assert now(ledger, job_id).closed == {"files", "staged", "source", "result", "event", "callback"}
    assert now(ledger, job_id).step is Step.NONE
    assert len(events(ledger, job_id)) == 1


def test_a_failure_is_listed_as_needing_attention_and_a_delivery_is_not(ledger: Ledger, closing: Closing) -> None:
    delivered, failed = opened(ledger), opened(ledger)
    to_delivered(ledger, delivered)
    job = now(ledger, failed)
    ledger.take_over(job, moves.failed(Failure(Code.FILE_EMPTY, "The file is empty."), 1))
    for job_id in (delivered, failed):
        closing.run(job_id)
    assert needing_attention(ledger.redis) == {"north": 1}
    assert ledger.redis.zrange(keys.FAILURES, 0, -1) == [failed]
    ledger.take_over(now(ledger, failed), moves.dismissed(Statement("Anna", datetime.now(UTC))))
    assert needing_attention(ledger.redis) == {}
    assert ledger.redis.zrange(keys.FAILURES, 0, -1) == []


@pytest.mark.parametrize("step", ["files", "staged", "source", "result", "callback"])
def test_after_an_error_only_the_rest_is_done_again(
    ledger: Ledger, closing: Closing, steps: Recording, step: str
) -> None:
    job_id = opened(ledger)
    to_delivered(ledger, job_id)
    steps.raises = {step: RetryLater("not now")}
    closing.run(job_id)
    before = list(steps.done)
    assert step not in before
    assert now(ledger, job_id).step is Step.NOTIFY
    closing.run(job_id)
    assert steps.done == ["files", "staged", "source", "result", "callback"]
    assert steps.done[: len(before)] == before
    assert len(events(ledger, job_id)) == 1


def test_the_source_of_a_document_that_failed_stays(ledger: Ledger, closing: Closing, steps: Recording) -> None:
    job_id = opened(ledger)
    ledger.apply(
        start(ledger, job_id, Step.PRESIGN), moves.failed(Failure(Code.FILE_EMPTY, "The file is empty."), calls=0)
    )
    closing.run(job_id)
    assert steps.done == ["files", "staged", "result", "callback"]


def test_a_job_of_an_account_that_has_left_the_settings_waits_for_its_slow_search(
    ledger: Ledger, closing: Closing, steps: Recording
) -> None:
    job_id = opened(ledger)
    to_stored(ledger, job_id)
    failure = Failure(Code.NOT_CONFIRMED, "No record.")
    ledger.apply(start(ledger, job_id, Step.CONFIRM), moves.failed(failure, calls=0, keep_name=True))
    closing.run(job_id)
    assert steps.done == ["files", "staged", "result", "callback"]
    assert now(ledger, job_id).step is Step.CONFIRM


def test_a_source_that_cannot_be_removed_holds_up_nothing(ledger: Ledger, closing: Closing, steps: Recording) -> None:
    job_id = opened(ledger)
    to_delivered(ledger, job_id)
    steps.raises = {"source": DocumentRefused(Code.SOURCE_NOT_ALLOWED, "It may not be read.")}
    closing.run(job_id)
    assert now(ledger, job_id).step is Step.NONE


def test_the_files_of_another_machine_are_left_to_it(ledger: Ledger, closing: Closing, steps: Recording) -> None:
    job_id = opened(ledger, home="the other machine", place=Place.STAGED, source="s3://staging/document")
    to_delivered(ledger, job_id)
    steps.raises = {"files": RetryLater("the folders are elsewhere")}
    closing.run(job_id)
    assert ledger.left_to("the other machine") == [job_id]


class Unforeseen(Exception):
    pass


def a_day_passes(ledger: Ledger, job_id: str) -> None:
    ledger.redis.hset(f"{PREFIX}job:{job_id}", "since_delivered", 1)


def due_in_seconds(ledger: Ledger, job_id: str) -> float:
    due_ms = ledger.redis.zscore(f"{PREFIX}due:{now(ledger, job_id).lane}", job_id)
    assert isinstance(due_ms, float)
    return due_ms / 1000 - LedgerClock(ledger.redis).read().now_ms / 1000


@pytest.mark.parametrize("step", ["files", "staged", "source", "result", "callback"])
def test_an_error_that_nobody_foresaw_is_tried_again_at_growing_intervals(
    ledger: Ledger, closing: Closing, steps: Recording, step: str
) -> None:
    job_id = opened(ledger)
    to_delivered(ledger, job_id)
    for _ in range(12):
        steps.raises = {step: Unforeseen("Anna Meier")}
        closing.run(job_id)
    job = now(ledger, job_id)
    assert (job.step, job.counts.failures, job.closing_error) == (Step.NOTIFY, 12, f"{step}: Unforeseen")
    ledger.redis.hset(f"{PREFIX}job:{job_id}", "failures", 8)
    waits = []
    for _ in range(20):
        steps.raises = {step: Unforeseen("Anna Meier")}
        closing.run(job_id)
        waits.append(due_in_seconds(ledger, job_id))
    assert max(waits) > 30, "the pause must grow"
    closing.run(job_id)
    assert now(ledger, job_id).step is Step.NONE
    assert now(ledger, job_id).closing_error == ""


@pytest.mark.parametrize("step", ["source", "result", "callback"])
def test_after_a_day_of_such_errors_the_closing_goes_on_without_the_step_and_says_so(
    ledger: Ledger, closing: Closing, steps: Recording, step: str
) -> None:
    job_id = opened(ledger)
    to_delivered(ledger, job_id)
    a_day_passes(ledger, job_id)
    steps.raises = {step: Unforeseen("Anna Meier")}
    closing.run(job_id)
    job = now(ledger, job_id)
    assert (job.step, job.closing_error) == (Step.NONE, f"{step}: Unforeseen (given up)")
    assert ledger.redis.zrange(keys.CLOSING_GIVEN_UP, 0, -1) == [job_id]
    assert {"files", "staged"} < set(steps.done)


def test_the_files_of_a_document_are_never_given_up(ledger: Ledger, closing: Closing, steps: Recording) -> None:
    job_id = opened(ledger)
    to_delivered(ledger, job_id)
    a_day_passes(ledger, job_id)
    steps.raises = {"files": Unforeseen("Anna Meier")}
    closing.run(job_id)
    assert now(ledger, job_id).step is Step.NOTIFY
    closing.run(job_id)
    assert now(ledger, job_id).closed == {"files", "staged", "source", "result", "event", "callback"}


def test_a_callback_waits_in_a_lane_of_its_own(ledger: Ledger, closing: Closing, steps: Recording) -> None:
    job_id, url = str(uuid4()), "https://clinic.example/done"
    ledger.open(job_id, document(door=Door.SEND, callback_url=url, home="here"), "pracsuite")
    to_delivered(ledger, job_id)
    closing.run(job_id)
    assert steps.done == ["files", "staged", "result"]
    assert now(ledger, job_id).lane == CALLBACK_LANE
    assert ledger.bound_to(job_id) is None, "it needs no file: any machine's worker may make it"
    closing.run(job_id)
    assert steps.done == ["files", "staged", "result", "callback"]
    assert ledger.redis.hget(f"{PREFIX}job:{job_id}", "home") == "here"
    assert now(ledger, job_id).step is Step.NONE


def test_a_row_that_cannot_be_read_is_not_tried_after_each_lease(ledger: Ledger, closing: Closing) -> None:
    job_id = opened(ledger)
    to_delivered(ledger, job_id)
    ledger.redis.set(f"{PREFIX}document:{job_id}", "rubbish")
    ledger.redis.hset(f"{PREFIX}job:{job_id}", "failures", 9)
    for _ in range(2):
        with pytest.raises(SealBroken):
            closing.run(job_id)
    due = ledger.redis.zscore(f"{PREFIX}due:~closing", job_id)
    assert isinstance(due, float)
    assert due - LedgerClock(ledger.redis).read().now_ms > 100 * ledger.lease_seconds * 1000


def test_a_closing_whose_lease_ran_out_before_it_began_touches_nothing(
    ledger: Ledger, closing: Closing, steps: Recording
) -> None:
    """Its worker was stopped meanwhile, or has closed other jobs: another may have this one by now."""
    job_id = opened(ledger)
    to_delivered(ledger, job_id)
    lease = start(ledger, job_id, Step.NOTIFY)
    closing.close(replace(lease, taken_at=lease.taken_at - 2 * ledger.lease_seconds))
    assert steps.done == []
    expire_lease(ledger, job_id)
    closing.run(job_id)
    assert now(ledger, job_id).step is Step.NONE


def test_a_step_that_fails_after_the_lease_is_lost_is_left_to_whoever_has_the_job(
    ledger: Ledger, closing: Closing, steps: Recording
) -> None:
    job_id = opened(ledger)
    to_delivered(ledger, job_id)
    lease = start(ledger, job_id, Step.NOTIFY)
    expire_lease(ledger, job_id)
    start(ledger, job_id, Step.NOTIFY)
    steps.raises = {"files": OSError(5, "Anna Meier")}
    closing.close(lease)
    assert now(ledger, job_id).counts.failures == 0


def test_an_event_that_cannot_be_written_leaves_the_job_as_it_was_and_is_written_once(
    ledger: Ledger, closing: Closing
) -> None:
    job_id = opened(ledger)
    to_delivered(ledger, job_id)
    ledger.redis.set(PREFIX + "events", "of another type")
    with pytest.raises(redis.ResponseError):
        closing.run(job_id)
    assert now(ledger, job_id).step is Step.NOTIFY
    ledger.redis.delete(PREFIX + "events")
    expire_lease(ledger, job_id)
    closing.run(job_id)
    assert ledger.redis.xlen(PREFIX + "events") == 1
    assert ledger.redis.ttl(f"{PREFIX}job:{job_id}") > 0
