"""`dismiss` takes a failure off every list of what needs attention, and leaves the document where it is."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from tasks.ledger import keys
from tasks.ledger.failures import needing_attention
from tasks.model.errors import Code
from tasks.model.job import Job
from tasks.model.route import Stage
from tests.tasks.folders.documents import said
from tests.worker.cli.conftest import CommandLine
from tests.worker.cli.jobs import CONTENT, Jobs


def failed(jobs: Jobs) -> Job:
    """A document in failed/, with its notes, as a worker closes it."""
    return jobs.failed(jobs.in_care())


def error_file(jobs: Jobs) -> Path:
    (path,) = jobs.runtime.folders.failed.rglob("*.error.json")
    return path


def test_a_dismissed_failure_says_who_when_and_why(chartpost: CommandLine, jobs: Jobs) -> None:
    job = failed(jobs)
    result = chartpost("dismiss", job.id, "--by", "Anna", "--note", "sent by fax")
    assert (result.exit_code, result.stdout) == (0, f"{job.id}: dismissed\n")
    now = jobs.get(job.id)
    assert now.dismissal
    assert (now.stage, now.dismissal.by, now.dismissal.note) == (Stage.FAILED, "Anna", "sent by fax")
    told = said(error_file(jobs))["dismissed"]
    assert (told["by"], told["note"]) == ("Anna", "sent by fax")
    (note,) = jobs.runtime.folders.failed.rglob("*.txt")
    assert "Dealt with by Anna" in note.read_text()
    (document,) = jobs.runtime.folders.failed.rglob("scan.pdf")
    assert document.read_bytes() == CONTENT
    assert "Anna" not in str(jobs.ledger.redis.hgetall(keys.job(job.id)))
    (shown,) = chartpost.rows("show", job.id)
    assert shown["error"]["dismissed"]["by"] == "Anna"


def test_it_leaves_the_list_of_failures_and_the_count_of_those_that_need_attention(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    job, other = failed(jobs), failed(jobs)
    assert needing_attention(jobs.ledger.redis) == {"north_clinic": 2}
    chartpost("dismiss", job.id)
    assert needing_attention(jobs.ledger.redis) == {"north_clinic": 1}
    assert [row["id"] for row in chartpost.rows("jobs", "--state", "failed")] == [other.id]
    assert [row["id"] for row in chartpost.rows("jobs", "--dismissed")] == [job.id]
    assert {row["id"] for row in chartpost.rows("jobs")} == {job.id, other.id}
    chartpost.rows("retry", other.id)
    assert needing_attention(jobs.ledger.redis) == {}


def test_it_can_still_be_sent_again_and_needs_attention_when_it_fails_again(chartpost: CommandLine, jobs: Jobs) -> None:
    job = failed(jobs)
    chartpost("dismiss", job.id)
    (row,) = chartpost.rows("retry", job.id)
    assert row["outcome"] == "is sent again"
    assert jobs.get(job.id).dismissal is None
    jobs.failed(jobs.get(job.id))
    assert "dismissed" not in said(error_file(jobs))


def test_a_second_dismissal_leaves_the_first(chartpost: CommandLine, jobs: Jobs) -> None:
    job = failed(jobs)
    chartpost("dismiss", job.id)
    result = chartpost("dismiss", job.id, "--by", "Bert")
    assert result.exit_code == 0
    assert getpass.getuser() in result.stderr
    dismissal = jobs.get(job.id).dismissal
    assert dismissal
    assert dismissal.by == getpass.getuser()


def test_a_job_that_has_left_redis_is_dismissed_in_its_error_file(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.leave_redis(job := failed(jobs))
    assert chartpost("dismiss", job.id, "--by", "Anna").exit_code == 0
    assert said(error_file(jobs))["dismissed"]["by"] == "Anna"
    assert list(jobs.runtime.folders.failed.rglob("* - NOT SENT.*")) == []
    assert chartpost.rows("retry", "--all") == []
    assert "dismissed them: 1" in chartpost("retry", "--all").stderr
    (row,) = chartpost.rows("retry", job.id)
    assert row["outcome"] == "is sent again"


def test_a_failure_that_is_still_searched_for_can_be_dismissed_and_is_delivered_all_the_same(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    job = jobs.not_confirmed(jobs.received())
    assert chartpost("dismiss", job.id).exit_code == 0
    assert chartpost("resolve", job.id, "--delivered").exit_code == 0
    now = jobs.get(job.id)
    assert (now.stage, now.dismissal) == (Stage.DELIVERED, None)


@pytest.mark.parametrize("state", ["received", "delivered", "unknown"])
def test_only_failures_can_be_dismissed_and_the_others_are_all_the_same(
    chartpost: CommandLine, jobs: Jobs, state: str
) -> None:
    made = {
        "received": lambda: jobs.received("a.pdf").id,
        "delivered": lambda: jobs.delivered(jobs.received("b.pdf")).id,
    }
    job_id = made.get(state, lambda: "11111111-2222-4333-8444-555555555555")()
    good = jobs.failed(jobs.received("good.pdf"), Code.GAVE_UP)
    result = chartpost("dismiss", job_id, good.id)
    assert (result.exit_code, result.stdout) == (1, f"{good.id}: dismissed\n")
    assert job_id in result.stderr


def test_a_note_of_two_lines_or_of_a_file_is_one_line(chartpost: CommandLine, jobs: Jobs, tmp_path: Path) -> None:
    job = failed(jobs)
    (tmp_path / "note").write_text("sent by fax\nto the ward\n")
    assert chartpost("dismiss", job.id, "--note", f"@{tmp_path / 'note'}").exit_code == 0
    dismissal = jobs.get(job.id).dismissal
    assert dismissal
    assert dismissal.note == "sent by fax to the ward"
    assert chartpost("dismiss", job.id, "--by", "x" * 101).exit_code == 2


def test_the_list_of_failures_does_not_outlive_the_rows(jobs: Jobs) -> None:
    jobs.ledger.redis.zadd(keys.FAILURES, {"long ago": 1})
    failed(jobs)
    assert jobs.ledger.redis.zcard(keys.FAILURES) == 1
