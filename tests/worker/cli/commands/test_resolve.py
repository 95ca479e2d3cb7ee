"""`resolve` ends a job of unknown outcome by what a person has receipt_now."""

from __future__ import annotations

import getpass
from typing import Any

import pytest

from tasks.closing.receipts import public_receipt, receipt
from tasks.model.job import Job
from tasks.model.route import Stage
from tests.worker.cli.conftest import CommandLine
from tests.worker.cli.jobs import Jobs


def test_the_receipt_says_that_a_person_decided(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.not_confirmed(jobs.received())
    assert chartpost("resolve", job.id, "--delivered", "--record", "78").exit_code == 0
    receipt_now = receipt_of(jobs, job)
    assert (receipt_now["record"]["id"], receipt_now["resolved_by"]) == ("78", "human")


def test_the_receipt_says_who_decided_and_why(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.not_confirmed(jobs.received())
    assert chartpost("resolve", job.id, "--delivered", "--by", "Anna", "--note", "seen in the\nchart").exit_code == 0
    told = receipt_of(jobs, job)["resolution"]
    assert (told["by"], told["note"]) == ("Anna", "seen in the chart")
    assert told["at"].startswith("20")
    assert "resolution" not in public_receipt(jobs.get(job.id))
    row = jobs.ledger.redis.hgetall(f"chartpost:job:{job.id}")
    assert "Anna" not in str(row)


def test_without_a_name_the_receipt_has_that_of_the_systems_user(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.not_confirmed(jobs.received())
    assert chartpost("resolve", job.id, "--delivered").exit_code == 0
    assert receipt_of(jobs, job)["resolution"]["by"] == getpass.getuser()


def test_without_a_record_none_is_claimed(chartpost: CommandLine, jobs: Jobs) -> None:
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


def test_delivered_must_be_said(chartpost: CommandLine, jobs: Jobs) -> None:
    assert chartpost("resolve", jobs.not_confirmed(jobs.received()).id).exit_code == 2


def receipt_of(jobs: Jobs, job: Job) -> dict[str, Any]:
    resolved = jobs.get(job.id)
    assert resolved.stage is Stage.DELIVERED
    return receipt(resolved)
