"""Rows as earlier versions have written them are read, and go on, under this one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
import redis

from tasks.ledger import moves
from tasks.ledger.codec import ROW_FIELDS
from tasks.ledger.consistency import Consistency
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.keys import PREFIX
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.ledger.moves import Move
from tasks.ledger.seal import Seal
from tasks.model.errors import Code
from tasks.model.job import Counts, Job, Record, Uncertainty
from tasks.model.route import Stage, Step
from tests.harness.earlier import SECRET, VERSIONS, Sample, sample

STORED_AT = "temp/4711/{}.pdf"


@pytest.fixture(params=VERSIONS)
def earlier(request: pytest.FixtureRequest, valkey: redis.Redis) -> Sample:
    written = sample(request.param)
    written.restore_redis(valkey)
    return written


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    return Ledger(valkey, Seal(SECRET), lease_seconds=30, jobs_days=30)


def read(ledger: Ledger, earlier: Sample, name: str) -> Job:
    job = ledger.get(earlier.jobs[name])
    assert job is not None
    return job


@pytest.mark.parametrize(
    ("name", "stage", "step", "code"),
    [
        ("received", Stage.RECEIVED, Step.PRESIGN, None),
        ("committed", Stage.PRESIGNED, Step.POST, None),
        ("unknown", Stage.PRESIGNED, Step.CONFIRM, None),
        ("sent_again", Stage.PRESIGNED, Step.POST, None),
        ("stored", Stage.STORED, Step.CONFIRM, None),
        ("not_confirmed", Stage.FAILED, Step.CONFIRM, Code.NOT_CONFIRMED),
        ("held", Stage.FAILED, Step.NONE, Code.OUTCOME_UNKNOWN),
        ("delivered", Stage.DELIVERED, Step.NONE, None),
        ("called", Stage.RECEIVED, Step.PRESIGN, None),
        ("repeated", Stage.RECEIVED, Step.REGISTER, None),
        ("blocked", Stage.RECEIVED, Step.PRESIGN, None),
    ],
)
def test_a_row_reads_as_what_had_happened(
    ledger: Ledger, earlier: Sample, name: str, stage: Stage, step: Step, code: Code | None
) -> None:
    job = read(ledger, earlier, name)
    assert (job.stage, job.step, job.code, job.document.file_name) == (stage, step, code, f"{name}.pdf")
    assert (job.since.stage, Stage.RECEIVED in job.times) == (job.times[job.stage], True)


def test_what_is_unknown_of_a_sending_is_read(ledger: Ledger, earlier: Sample) -> None:
    at = {name: read(ledger, earlier, name).uncertainty for name in earlier.jobs}
    assert [name for name in at if at[name].perhaps_sent] == ["committed", "held", "repeated", "unknown"]
    assert [name for name in at if at[name].outcome_unknown] == ["unknown"]
    assert [name for name in at if at[name].unknown_since] == ["held", "not_confirmed", "unknown"]
    assert [name for name in at if at[name].needs_person] == ["held"]
    # The commit that was searched for until the deadline is named as job.json names it.
    told_at = datetime.fromisoformat(earlier.job_file("sent_again")["unknown_since"])
    assert at["sent_again"].has_reconciled(told_at)
    assert replace(at["received"], redis_run="") == Uncertainty()
    assert [name for name in at if read(ledger, earlier, name).outcome_open] == ["held", "not_confirmed"]
    assert [name for name in at if read(ledger, earlier, name).still_reconciling] == ["not_confirmed"]


def test_facts_counts_and_proofs_are_read(ledger: Ledger, earlier: Sample) -> None:
    committed, stored, delivered, called = (
        read(ledger, earlier, name) for name in ("committed", "stored", "delivered", "called")
    )
    assert committed.facts.form is not None
    assert (committed.facts.snapshot, committed.facts.key) == (("1", "2"), committed.facts.form.key)
    assert committed.counts == Counts(attempts=1, presigns=1, provider_calls=2)
    assert stored.facts.stored is not None
    assert (stored.sha256, stored.facts.stored.key) == ("5" * 64, STORED_AT.format("stored"))
    assert delivered.facts.record == Record("77", "https://chart.example/77")
    sent = ledger.redis.hgetall(f"{PREFIX}sent:{ledger.codec.sent_key(delivered.document)}")
    assert sent == {"5" * 64: delivered.id}, "the same document is recognised"
    assert (called.document.idempotency_key, called.document.options) == ("order 1", {"metadata": {"a": 1}})
    assert ledger.open("another", called.document, "pracsuite").kind == "same", "its key is known"
    assert read(ledger, earlier, "unknown").counts.searches == 1
    assert read(ledger, earlier, "blocked").since.blocked is not None
    assert read(ledger, earlier, "repeated").since.failing is not None


def started(ledger: Ledger, earlier: Sample, name: str) -> Lease:
    job = read(ledger, earlier, name)
    ledger.redis.hset(f"{PREFIX}job:{job.id}", "lease_until", 1)  # the worker of that version has ended
    leases = ledger.start(job.id, job.step)
    assert isinstance(leases, list), leases
    return next(lease for lease in leases if lease.job.id == job.id)


def test_every_job_with_work_left_goes_on_by_this_versions_moves(ledger: Ledger, earlier: Sample) -> None:
    lease = started(ledger, earlier, "committed")
    assert ledger.apply(lease, moves.outcome_unknown(lease.job, 0, 1))
    assert read(ledger, earlier, "committed").uncertainty.outcome_unknown

    lease = started(ledger, earlier, "unknown")
    assert ledger.apply(lease, moves.send_again(lease.job, 1))
    again = read(ledger, earlier, "unknown")
    assert (again.step, again.uncertainty.perhaps_sent, again.uncertainty.reconciled) == (Step.POST, False, True)

    for name in ("stored", "not_confirmed"):
        lease = started(ledger, earlier, name)
        record = Record(f"record of {name}")
        assert ledger.apply(lease, moves.delivered(lease.job, record, 1, lease.job.sha256))
        assert read(ledger, earlier, name).facts.record == record
    lease = started(ledger, earlier, "repeated")
    assert ledger.commit(lease)

    held = read(ledger, earlier, "held")
    assert ledger.take_over(held, moves.retry_reconciling(held)) == "ok"
    assert read(ledger, earlier, "held").uncertainty.day_of_searching


def test_the_whole_ledger_is_consistent(ledger: Ledger, earlier: Sample) -> None:
    assert list(Consistency(ledger.redis, ledger).inconsistencies(mend=False)) == []


def test_it_is_taken_over_by_a_process_with_its_key_and_by_no_other(ledger: Ledger, earlier: Sample) -> None:
    with pytest.raises(LedgerRefused):
        Ledger(ledger.redis, Seal("another"), lease_seconds=30, jobs_days=30).identity.confirm()
    ledger.identity.confirm()
    assert ledger.redis.exists(f"{PREFIX}schema", f"{PREFIX}seal-check") == 2


def test_no_field_of_a_row_has_been_forgotten(earlier: Sample) -> None:
    """A field that this version does not know would mean nothing to it: then the schema must be raised."""
    found = {
        name for key, row in earlier.keys.items() if key.startswith(f"{PREFIX}job:") for name in dict(row["value"])
    }
    assert {name for name in found - set(ROW_FIELDS) if not name.startswith(("at_", "since_"))} == set()


def test_a_move_of_this_version_leaves_no_row_that_it_cannot_read(ledger: Ledger, earlier: Sample) -> None:
    lease = started(ledger, earlier, "received")
    move: Move = moves.deferred(lease, 5, 1, failed=True)
    assert ledger.apply(lease, move)
    assert read(ledger, earlier, "received").counts.failures == 1
