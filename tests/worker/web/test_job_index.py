"""What the pages search, on a real Valkey: it follows what happens to jobs, and forgets what Redis has forgotten."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
import redis

from tasks.ledger import keys, moves
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.document import Document, Door
from tasks.model.errors import Code
from tasks.model.job import Facts, Failure, Record, Statement
from tasks.model.route import Step
from tasks.model.times import from_ms
from worker.web.job_index import Counted, JobIndex, Search

NORTH = Search(["north"])


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    return Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)


@pytest.fixture
def index(ledger: Ledger) -> JobIndex:
    ticks = iter(range(0, 1_000_000, 10))  # each question is asked when the last answer is old
    return JobIndex(ledger.redis, ledger.codec, clock=lambda: float(next(ticks)))


def opened(ledger: Ledger, patient: str = "4711", name: str = "letter.pdf", account: str = "north") -> str:
    job = str(uuid4())
    time.sleep(0.002)  # those of one millisecond have no order
    ledger.open(job, Document(account, patient, source="", file_name=name, size_bytes=1, door=Door.INBOX), "pracsuite")
    return job


def fail(ledger: Ledger, job: str) -> None:
    [lease] = ledger.start(job, Step.PRESIGN)  # type: ignore[misc]
    ledger.apply(lease, moves.failed(Failure(Code.FILE_EMPTY, "Empty."), calls=0))


def deliver(ledger: Ledger, job: str, record: str = "r1") -> None:
    [lease] = ledger.start(job, Step.PRESIGN)  # type: ignore[misc]
    assert ledger.apply(lease, moves.delivered(lease.job, Record(record), 0, None, facts=Facts()))


def ids(index: JobIndex, search: Search) -> list[str]:
    return [entry.job_id for entry in index.find(search, 100)]


def test_it_follows_a_job_through_failure_dismissal_and_another_try(ledger: Ledger, index: JobIndex) -> None:
    job, other = opened(ledger), opened(ledger)
    assert ids(index, Search(["north"], state="open")) == [other, job]
    fail(ledger, job)
    attention = Search(["north"], state="attention")
    assert ids(index, attention) == [job]
    assert ids(index, Search(["north"], state="open")) == [other]
    failed = ledger.get(job)
    assert failed
    assert index.counted_since(0) == {"north": Counted(attention=1)}
    ledger.take_over(failed, moves.dismissed(Statement("anna", from_ms("1"))))
    assert index.counted_since(0) == {}
    assert ids(index, attention) == []
    assert ids(index, Search(["north"], state="failed", codes=[Code.FILE_EMPTY])) == [job]
    again = ledger.get(job)
    assert again
    ledger.take_over(again, moves.retry(again))
    assert ids(index, Search(["north"], state="open")) == [other, job]
    deliver(ledger, job)
    assert ids(index, Search(["north"], state="delivered")) == [job]
    assert index.counted_since(0) == {"north": Counted(delivered=1)}
    assert index.counted_since(10**15) == {}


def test_it_finds_by_patient_name_time_and_record_only_at_the_accounts_asked_for(
    ledger: Ledger, index: JobIndex
) -> None:
    first, second = opened(ledger, "1", "Überweisung.pdf"), opened(ledger, "2", "scan.pdf")
    elsewhere = opened(ledger, "1", "scan.pdf", "south")
    patients = {account: ledger.seal.lookup("patient", account, "1") for account in ("north", "south")}
    assert ids(index, Search(["north"], patients)) == [first]
    assert ids(index, Search(["north", "south"], patients)) == [elsewhere, first]
    assert ids(index, Search(["north"], file_name="überw")) == [first]
    came = int(ledger.redis.zscore(keys.JOBS, second) or 0)
    assert ids(index, Search(["north"], since=came, until=came + 1))[:1] == [second]
    assert index.find(NORTH, 1, skip=1)[0].job_id == first
    deliver(ledger, second, "r-2")
    found = index.with_record("r-2", ["north"], ledger)
    assert found
    assert found.id == second
    assert index.with_record("r-2", ["south"], ledger) is None
    assert index.with_beginning(first[:8], ["north"]) == [first]
    assert index.with_beginning(elsewhere[:8], ["north"]) == []


def test_it_holds_the_newest_and_forgets_what_redis_has_forgotten(ledger: Ledger) -> None:
    ticks = iter(range(0, 1_000_000, 10))
    index = JobIndex(ledger.redis, ledger.codec, most_jobs=3, clock=lambda: float(next(ticks)))
    jobs = [opened(ledger) for _ in range(5)]
    assert ids(index, NORTH) == jobs[:1:-1]
    ledger.redis.zrem(keys.JOBS, *jobs[:3])
    assert ids(index, NORTH) == [jobs[4], jobs[3]]
    ledger.redis.flushall()
    assert ids(index, NORTH) == []
    new = opened(ledger)
    assert ids(index, NORTH) == [new]


def test_a_name_sealed_under_another_key_costs_only_the_name(ledger: Ledger) -> None:
    job = opened(ledger)
    index = JobIndex(ledger.redis, Ledger(ledger.redis, Seal("another"), lease_seconds=1, jobs_days=1).codec)
    assert [entry.file_name for entry in index.find(NORTH, 9)] == [""]
    assert ids(index, NORTH) == [job]
