"""`retry` sends failed documents again; one that may have arrived is searched for first."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tasks.model.errors import Code
from tasks.model.job import Job
from tasks.model.route import Stage, Step
from tests.worker.cli.conftest import CommandLine, lines
from tests.worker.cli.jobs import Jobs
from worker.cli.commands.retry.command import retries_of
from worker.cli.commands.retry.failed_documents import NotRetried
from worker.cli.commands.retry.targets import Target


def test_a_failed_document_begins_again_under_its_id(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.received())
    (row,) = chartpost.rows("retry", job.id)
    assert (row["id"], row["code"], row["outcome"]) == (job.id, "refused_by_provider", "is sent again")
    again = jobs.get(job.id)
    assert (again.stage, again.step, again.failure) == (Stage.RECEIVED, Step.PRESIGN, None)


def test_a_senders_file_is_taken_as_it_is_now(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.received())
    (jobs.runtime.settings.file_roots[0] / "scan.pdf").write_bytes(b"corrected since")
    chartpost.rows("retry", job.id)
    document = jobs.get(job.id).document
    assert document.size_bytes == 15
    with jobs.runtime.sources.open(document.source, document.identity) as source:
        assert source.read(100) == b"corrected since"


def test_a_senders_file_that_has_gone_is_not_sent(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.received())
    (jobs.runtime.settings.file_roots[0] / "scan.pdf").unlink()
    result = chartpost("retry", job.id)
    assert result.exit_code == 1
    assert "The file is not there." in result.stdout
    assert jobs.get(job.id).stage is Stage.FAILED


def test_an_inbox_document_comes_back_from_failed(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.in_care())
    chartpost.rows("retry", job.id)
    document = jobs.get(job.id).document
    document_path = jobs.runtime.folders.document(job.id)
    assert document_path is not None
    assert document_path.as_uri() == document.source
    jobs.runtime.sources.open(document.source, document.identity).__exit__()
    assert not list(jobs.runtime.folders.failed.glob("**/*.pdf*"))


def test_a_document_that_was_taken_out_of_failed_is_not_sent(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.in_care())
    next(jobs.runtime.folders.failed.glob("**/*.pdf")).unlink()
    for options in ([], ["--dry-run"]):
        result = chartpost("retry", job.id, *options)
        assert result.exit_code == 1
        assert "put it into the inbox" in result.stdout
    assert jobs.get(job.id).stage is Stage.FAILED


@pytest.mark.parametrize("in_care", [True, False])
def test_a_document_that_may_have_arrived_is_searched_for_first(
    chartpost: CommandLine, jobs: Jobs, in_care: bool
) -> None:
    job = jobs.not_confirmed(jobs.in_care() if in_care else jobs.received())
    (row,) = chartpost.rows("retry", job.id)
    assert row["outcome"] == "is searched for first"
    again = jobs.get(job.id)
    assert (again.stage, again.step, again.committed) == (Stage.PRESIGNED, Step.CONFIRM, True)
    assert again.facts.snapshot == ("1",)


@pytest.mark.parametrize("in_care", [True, False])
def test_a_document_that_may_have_arrived_is_sent_at_once_with_send_again(
    chartpost: CommandLine, jobs: Jobs, in_care: bool
) -> None:
    job = jobs.not_confirmed(jobs.in_care() if in_care else jobs.received())
    chartpost.rows("retry", job.id, "--send-again")
    again = jobs.get(job.id)
    assert (again.stage, again.step, again.committed) == (Stage.RECEIVED, Step.PRESIGN, False)
    assert not jobs.runtime.commit_log.committed_on_disk(again)


def test_a_job_that_has_left_redis_begins_again_from_its_error_file(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.in_care())
    jobs.leave_redis(job)
    (row,) = chartpost.rows("retry", job.id)
    assert (row["account"], row["outcome"]) == ("north_clinic", "is sent again")
    again = jobs.get(job.id)
    assert (again.stage, again.document.patient_id, again.document.file_name) == (Stage.RECEIVED, "4711", "scan.pdf")
    assert jobs.runtime.folders.document(job.id)


def test_a_job_that_has_left_redis_and_may_have_arrived_is_searched_for_first(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    job = jobs.not_confirmed(jobs.in_care())
    jobs.leave_redis(job)
    (row,) = chartpost.rows("retry", job.id)
    again = jobs.get(job.id)
    assert row["outcome"] == "is searched for first"
    assert (again.committed, again.facts.snapshot) == (True, ("1",))


def test_a_job_that_has_left_redis_and_may_have_arrived_is_sent_at_once_with_send_again(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    job = jobs.not_confirmed(jobs.in_care())
    jobs.leave_redis(job)
    chartpost.rows("retry", job.id, "--send-again")
    again = jobs.get(job.id)
    assert (again.stage, again.committed) == (Stage.RECEIVED, False)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"refused.pdf", "empty.pdf", "theirs.pdf", "left.pdf"}),
        (["--code", "file_empty"], {"empty.pdf"}),
        (["--account", "south_clinic"], {"theirs.pdf"}),
        (["--code", "cancelled"], {"cancelled.pdf"}),
        (["--code", "gave_up"], set()),
    ],
)
def test_all_of_a_kind_are_retried(chartpost: CommandLine, jobs: Jobs, options: list[str], expected: set[str]) -> None:
    jobs.leave_redis(jobs.failed(jobs.in_care("left.pdf")))
    names = failed_ones(jobs) | {only_error_file(jobs): "left.pdf"}
    dry = chartpost.rows("retry", "--all", "--dry-run", *options)
    assert {names[row["id"]] for row in dry} == expected
    assert all(jobs.ledger.get(job_id) is None or jobs.get(job_id).stage.final for job_id in names)
    done = chartpost.rows("retry", "--all", *options)
    assert {names[row["id"]] for row in done} == expected
    assert all(not jobs.get(row["id"]).stage.final for row in done)


def failed_ones(jobs: Jobs) -> dict[str, str]:
    """One document for each way to fail; their names by job id."""
    jobs.received("on-its-way.pdf")
    cancelled = jobs.received("cancelled.pdf")
    jobs.ledger.cancel(cancelled)
    made = [
        jobs.failed(jobs.received("refused.pdf")),
        jobs.failed(jobs.received("empty.pdf"), Code.FILE_EMPTY),
        jobs.failed(jobs.received("theirs.pdf", account="south_clinic")),
        cancelled,
    ]
    return {job.id: job.document.file_name for job in made}


def only_error_file(jobs: Jobs) -> str:
    ((_, content),) = jobs.runtime.outcomes.error_files()
    return str(content["job_id"])


def test_a_job_that_redis_knows_and_that_has_an_error_file_is_retried_once(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.in_care())
    assert [row["id"] for row in chartpost.rows("retry", "--all")] == [job.id]


@pytest.mark.parametrize("state", ["received", "stored", "delivered", "unknown"])
def test_what_has_not_failed_is_not_sent(chartpost: CommandLine, jobs: Jobs, state: str) -> None:
    moves = {"received": lambda job: job, "stored": jobs.stored, "delivered": jobs.delivered}
    job_id = moves[state](jobs.received()).id if state in moves else str(uuid4())
    good = jobs.failed(jobs.received("good.pdf"))
    result = chartpost("retry", job_id, good.id, "--json")
    assert result.exit_code == 1
    first, second = lines(result)
    assert first["outcome"].startswith("not sent again: ")
    assert second["outcome"] == "is sent again"


def test_a_job_that_is_still_being_closed_is_not_retried_beside_its_closing(jobs: Jobs) -> None:
    job: Job = jobs.in_care()
    jobs.ledger.cancel(job)
    retries = retries_of(jobs.runtime, closing_seconds=0.1)
    plan = retries.plan(Target(job.id, jobs.get(job.id)), send_again=False)
    with pytest.raises(NotRetried, match="try again in a moment"):
        retries.carry_out(plan)
    assert jobs.get(job.id).stage is Stage.CANCELLED


@pytest.mark.parametrize("wrong", [[], ["x", "--all"], ["x", "--code", "gave_up"], ["x", "--account", "a"]])
def test_wrong_usage_is_exit_code_2(chartpost: CommandLine, wrong: list[str]) -> None:
    assert chartpost("retry", *wrong).exit_code == 2


def test_nothing_to_retry_is_exit_code_0(chartpost: CommandLine) -> None:
    result = chartpost("retry", "--all")
    assert (result.exit_code, result.stdout) == (0, "")
