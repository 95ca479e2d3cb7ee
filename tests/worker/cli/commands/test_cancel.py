"""`cancel` stops what has not been sent."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tasks.model.route import Stage, Step
from tests.worker.cli.conftest import CommandLine
from tests.worker.cli.jobs import Jobs


def test_a_job_that_was_not_sent_is_cancelled_and_closed(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.presigned(jobs.received())
    assert chartpost("cancel", job.id).exit_code == 0
    cancelled = jobs.get(job.id)
    assert (cancelled.stage, cancelled.code, cancelled.step) == (Stage.CANCELLED, "cancelled", Step.NOTIFY)


def test_a_job_may_be_cancelled_twice(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.received()
    assert [chartpost("cancel", job.id).exit_code for _ in range(2)] == [0, 0]


def test_once_the_upload_is_committed_it_is_too_late(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.presigned(jobs.received())
    jobs.ledger.commit(jobs.lease(job, Step.POST))
    result = chartpost("cancel", job.id)
    assert result.exit_code == 1
    assert "too late" in result.stderr
    assert jobs.get(job.id).stage is Stage.PRESIGNED


@pytest.mark.parametrize("end", ["stored", "delivered", "failed"])
def test_a_job_that_is_sent_or_has_ended_cannot_be_cancelled(chartpost: CommandLine, jobs: Jobs, end: str) -> None:
    moves = {"stored": jobs.stored, "delivered": jobs.delivered, "failed": jobs.failed}
    job = moves[end](jobs.received())
    result = chartpost("cancel", job.id)
    assert result.exit_code == 1
    assert "too late" in result.stderr
    assert jobs.get(job.id).stage is Stage(end)


def test_a_job_that_cannot_be_cancelled_does_not_keep_the_others_from_it(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.received()
    result = chartpost("cancel", str(uuid4()), job.id)
    assert result.exit_code == 1
    assert jobs.get(job.id).stage is Stage.CANCELLED
