"""`cancel` stops what has not been sent; `resolve` ends what nobody could see the end of."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tasks.closing.receipts import receipt
from tasks.model.job import Job
from tasks.model.route import Stage, Step
from tests.worker.cli.conftest import CommandLine
from tests.worker.cli.jobs import Jobs


def test_a_job_that_was_not_sent_is_cancelled_and_closed(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.presigned(jobs.received())
    assert chartpost("cancel", job.id).exit_code == 0
    cancelled = jobs.get(job.id)
    assert (cancelled.stage, cancelled.code, cancelled.step) == (Stage.CANCELLED, "cancelled", Step.NOTIFY)


def test_it_may_be_cancelled_twice(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.received()
    assert [chartpost("cancel", job.id).exit_code for _ in range(2)] == [0, 0]


def test_once_the_upload_is_committed_it_is_too_late(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.presigned(jobs.received())
    jobs.ledger.committed(jobs.lease(job, Step.POST))
    result = chartpost("cancel", job.id)
    assert result.exit_code == 1
    assert "too late" in result.stderr
    assert jobs.get(job.id).stage is Stage.PRESIGNED


@pytest.mark.parametrize("end", ["stored", "delivered", "failed"])
def test_what_is_sent_or_ended_is_too_late_too(chartpost: CommandLine, jobs: Jobs, end: str) -> None:
    moves = {"stored": jobs.stored, "delivered": jobs.delivered, "failed": jobs.failed}
    job = moves[end](jobs.received())
    result = chartpost("cancel", job.id)
    assert result.exit_code == 1
    assert "too late" in result.stderr
    assert jobs.get(job.id).stage is Stage(end)


def test_one_that_cannot_be_cancelled_does_not_spare_the_others(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.received()
    result = chartpost("cancel", str(uuid4()), job.id)
    assert result.exit_code == 1
    assert jobs.get(job.id).stage is Stage.CANCELLED


def test_a_human_finding_is_marked_in_the_receipt(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.not_confirmed(jobs.received())
    assert chartpost("resolve", job.id, "--delivered", "--record", "78").exit_code == 0
    found = receipt_of(jobs, job)
    assert (found["record"]["id"], found["resolved_by"]) == ("78", "human")


def test_a_finding_without_a_record_claims_none(chartpost: CommandLine, jobs: Jobs) -> None:
    for name in ("one.pdf", "two.pdf"):
        job = jobs.not_confirmed(jobs.received(name))
        assert chartpost("resolve", job.id, "--delivered").exit_code == 0
        assert receipt_of(jobs, job)["record"]["id"] is None


def test_a_record_that_proves_another_document_resolves_nothing(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.delivered(jobs.received("other.pdf"))
    job = jobs.not_confirmed(jobs.received())
    result = chartpost("resolve", job.id, "--delivered", "--record", "77")
    assert result.exit_code == 1
    assert "another document" in result.stderr
    assert jobs.get(job.id).stage is Stage.FAILED


@pytest.mark.parametrize("end", ["received", "delivered", "failed"])
def test_only_an_open_outcome_can_be_resolved(chartpost: CommandLine, jobs: Jobs, end: str) -> None:
    job = jobs.received()
    if end != "received":
        job = {"delivered": jobs.delivered, "failed": jobs.failed}[end](job)
    result = chartpost("resolve", job.id, "--delivered")
    assert result.exit_code == 1
    assert jobs.get(job.id).stage is Stage(end)


def test_what_was_found_must_be_said(chartpost: CommandLine, jobs: Jobs) -> None:
    assert chartpost("resolve", jobs.not_confirmed(jobs.received()).id).exit_code == 2


def receipt_of(jobs: Jobs, job: Job):  # type: ignore[no-untyped-def]
    resolved = jobs.get(job.id)
    assert resolved.stage is Stage.DELIVERED
    return receipt(resolved)
