"""What is sealed of a job lies in keys of its own, which come and go with its row."""

from __future__ import annotations

from uuid import uuid4

import pytest
import redis

from tasks.ledger import moves
from tasks.ledger.keys import PREFIX
from tasks.ledger.lease import NotStarted
from tasks.ledger.ledger import Ledger
from tasks.ledger.moves import ClosingDone
from tasks.ledger.seal import Seal
from tasks.model.document import Document
from tasks.model.errors import Code
from tasks.model.job import Facts, Failure, Job
from tasks.model.route import Step

PARTS = ("document", "facts", "failure")
FAILURE = Failure(Code.GAVE_UP, "It did not work.")
FACTS = Facts(key="temp/scan.pdf")


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    return Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)


@pytest.fixture
def job_id(ledger: Ledger) -> str:
    job = str(uuid4())
    ledger.open(job, Document("north", "4711", "file:///scan.pdf", "scan.pdf", 3), "pracsuite")
    return job


def now(ledger: Ledger, job_id: str) -> Job:
    job = ledger.get(job_id)
    assert job is not None
    return job


def parts(ledger: Ledger, job_id: str) -> set[str]:
    assert not {*PARTS} & {str(field) for field in ledger.redis.hkeys(f"{PREFIX}job:{job_id}")}
    return {part for part in PARTS if ledger.redis.exists(f"{PREFIX}{part}:{job_id}")}


def failed_and_closed(ledger: Ledger, job_id: str) -> None:
    job = now(ledger, job_id)
    assert ledger.take_over(job, moves.failed(FAILURE, calls=0)) == "ok"
    lease = ledger.start(job_id, Step.NOTIFY)
    assert not isinstance(lease, NotStarted)
    assert ledger.apply(lease[0], moves.finished(lease[0].job, ClosingDone(facts=FACTS)))


def test_each_part_has_a_key_of_its_own_and_the_job_is_read_with_all(ledger: Ledger, job_id: str) -> None:
    assert parts(ledger, job_id) == {"document"}
    failed_and_closed(ledger, job_id)
    assert parts(ledger, job_id) == {*PARTS}
    job = now(ledger, job_id)
    assert (job.document.file_name, job.facts, job.failure) == ("scan.pdf", FACTS, FAILURE)


def test_they_leave_with_the_row_and_stay_with_one_that_goes_on(ledger: Ledger, job_id: str) -> None:
    keys = [f"{PREFIX}{name}:{job_id}" for name in ("job", *PARTS)]
    failed_and_closed(ledger, job_id)
    assert [ledger.redis.ttl(key) for key in keys] == [30 * 86_400] * 4
    assert ledger.take_over(now(ledger, job_id), moves.retry(now(ledger, job_id), first=Step.PRESIGN)) == "ok"
    assert {ledger.redis.ttl(key) for key in keys} <= {-1, -2}
    assert "failure" not in parts(ledger, job_id), "it has not failed any more"


def test_the_row_of_a_waiting_job_is_small(ledger: Ledger, job_id: str) -> None:
    assert ledger.redis.object("encoding", f"{PREFIX}job:{job_id}") == "listpack"


def test_the_row_of_an_earlier_version_is_read_and_written_on(ledger: Ledger, job_id: str) -> None:
    row = f"{PREFIX}job:{job_id}"
    ledger.redis.hset(row, "document", str(ledger.redis.getdel(f"{PREFIX}document:{job_id}")))
    assert now(ledger, job_id).document.file_name == "scan.pdf"
    lease = ledger.start(job_id, Step.PRESIGN)
    assert not isinstance(lease, NotStarted)
    assert lease[0].job.document.file_name == "scan.pdf"
    ledger.redis.hset(row, "facts", ledger.codec.seal_facts(job_id, Facts(key="earlier")))
    assert now(ledger, job_id).facts.key == "earlier"
    ledger.commit(lease[0], FACTS)
    assert now(ledger, job_id).facts == FACTS
    assert not ledger.redis.hexists(row, "facts")
