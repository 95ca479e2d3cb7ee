"""Closing: every step once, in its order, and the rest again after an error."""

from __future__ import annotations

from dataclasses import dataclass, field
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
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import PREFIX
from tasks.ledger.renewal import LeaseRenewer
from tasks.ledger.seal import Seal
from tasks.model.document import Door
from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.model.job import Failure, Job
from tasks.model.route import Step
from tasks.sources.sources import Sources
from tests.tasks.ledger.test_ledger import document, start, to_delivered, to_stored


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

    def remove(self, *_: str) -> bool:
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
        sources=cast(Sources, steps),
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
    ledger.failed(start(ledger, job_id, Step.PRESIGN), Failure(Code.FILE_EMPTY, "The file is empty."), calls=0)
    closing.run(job_id)
    assert steps.done == ["files", "staged", "result", "callback"]


def test_a_job_of_an_account_that_has_left_the_settings_waits_for_its_slow_search(
    ledger: Ledger, closing: Closing, steps: Recording
) -> None:
    job_id = opened(ledger)
    to_stored(ledger, job_id)
    failure = Failure(Code.NOT_CONFIRMED, "No record.")
    ledger.failed(start(ledger, job_id, Step.CONFIRM), failure, calls=0, keep_name=True)
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
    job_id = opened(ledger, home="the other machine", source="s3://staging/document")
    to_delivered(ledger, job_id)
    steps.raises = {"files": RetryLater("the folders are elsewhere")}
    closing.run(job_id)
    assert ledger.left_to("the other machine") == [job_id]
