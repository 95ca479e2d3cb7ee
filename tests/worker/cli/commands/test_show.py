"""`show` gives one job, its receipt or error, and what happens next."""

from __future__ import annotations

from dataclasses import replace
from uuid import NAMESPACE_OID, uuid4, uuid5

import pytest

from tasks.ledger import moves
from tasks.model.route import Step
from tasks.pipeline.final_failures import CANNOT_SEARCH
from tests.worker.cli.conftest import CommandLine
from tests.worker.cli.jobs import FIELDS, Jobs
from worker.stream.build import stream_reader


def test_show_gives_a_delivered_job_with_its_receipt(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.delivered(jobs.received())
    (shown,) = chartpost.rows("show", job.id.upper())
    assert shown.keys() >= FIELDS
    assert shown["receipt"]["record"] == {"id": "77", "url": None}
    assert shown["error"] is None


def test_the_job_of_a_call_whose_id_is_written_in_capitals_is_found(chartpost: CommandLine, jobs: Jobs) -> None:
    document, task_id = jobs.received().document, str(uuid4()).upper()
    jobs.ledger.open(task_id, replace(document, patient_id="8"), "pracsuite")
    assert [job["id"] for job in chartpost.rows("show", task_id)] == [task_id]


def test_show_gives_a_failed_job_with_its_error_and_what_to_do(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.received(), detail="Nobody of that name.")
    (shown,) = chartpost.rows("show", job.id)
    assert (shown["error"]["code"], shown["receipt"]) == ("refused_by_provider", None)
    assert "Nobody of that name." in shown["message"]
    assert f"chartpost retry {job.id}" in shown["next"]


def test_show_says_how_to_end_an_open_outcome(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.not_confirmed(jobs.received())
    (shown,) = chartpost.rows("show", job.id)
    assert f"chartpost resolve {job.id} --delivered" in shown["next"]
    assert "--send-again" in shown["next"]


def test_show_says_how_long_a_document_is_searched_for_after_a_lost_answer(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.presigned(jobs.received())
    lease = jobs.lease(job, Step.POST)
    jobs.ledger.commit(lease)
    jobs.ledger.apply(lease, moves.outcome_unknown(lease.job, due_in=60.0, calls=1))
    (shown,) = chartpost.rows("show", job.id)
    assert "for 1800 s (confirm.look_seconds)" in shown["next"]


def test_show_says_once_what_to_do_where_nothing_can_be_searched(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.received()
    jobs.ledger.apply(jobs.lease(job, Step.PRESIGN), moves.failed(CANNOT_SEARCH, calls=1))
    (shown,) = chartpost.rows("show", job.id)
    assert shown["next"].count(f"chartpost resolve {job.id} --delivered") == 1
    assert shown["next"].count(f"chartpost retry {job.id} --send-again") == 1
    assert "searches again" not in shown["next"]


def test_show_names_cancel_only_while_that_is_possible(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.received()
    assert f"chartpost cancel {job.id}" in chartpost.rows("show", job.id)[0]["next"]
    jobs.stored(job)
    assert "cancel" not in chartpost.rows("show", job.id)[0]["next"]


def test_show_says_that_a_job_waits_for_its_account(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.received()
    jobs.runtime.breaker.park("north_clinic", "The key was refused.")
    (shown,) = chartpost.rows("show", job.id)
    assert "The key was refused." in shown["next"]
    assert "chartpost accounts resume north_clinic" in shown["next"]


def test_show_names_the_job_of_the_same_name_that_another_waits_for(chartpost: CommandLine, jobs: Jobs) -> None:
    first, second = jobs.received(), jobs.received()
    jobs.ledger.reserve_name(first)
    shown = chartpost.rows("show", second.id)[0]
    assert first.id in shown["next"]
    assert "of the same name and patient" in shown["next"]


@pytest.mark.parametrize("opened_by", ["this version", "the version before"])
def test_show_takes_the_id_of_a_stream_entry(chartpost: CommandLine, jobs: Jobs, opened_by: str) -> None:
    entry = "1795258063188-1"
    document = replace(jobs.received().document, stream_id=entry)
    before = opened_by == "the version before"
    job_id = str(uuid5(NAMESPACE_OID, entry)) if before else jobs.ledger.seal.entry_job_id(entry)
    jobs.ledger.open(job_id, document, "pracsuite")
    (shown,) = chartpost.rows("show", entry)
    assert shown["id"] == job_id


def test_show_takes_the_id_of_another_call_for_the_same_document(chartpost: CommandLine, jobs: Jobs) -> None:
    job, other = jobs.received(), str(uuid4())
    jobs.ledger.alias(other, job.id)
    assert chartpost.rows("show", other)[0]["id"] == job.id


def test_show_gives_a_rejected_message(chartpost: CommandLine, jobs: Jobs) -> None:
    redis = jobs.runtime.redis
    entry = str(redis.xadd("chartpost:intake", {"job": '{"account": "nobody"}'}))
    reader = stream_reader(jobs.runtime, block_ms=10)
    reader.read_once()
    reader.read_once()
    (shown,) = chartpost.rows("show", entry)
    assert (shown["state"], shown["code"]) == ("failed", "invalid_request")
    assert shown["error"]["sent"] == '{"account": "nobody"}'


def test_show_reads_the_error_file_of_a_job_that_has_left_redis(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.in_care())
    jobs.leave_redis(job)
    (shown,) = chartpost.rows("show", job.id)
    assert shown.keys() >= FIELDS
    assert (shown["state"], shown["code"], shown["size_bytes"]) == ("failed", "refused_by_provider", 6)
    assert f"chartpost retry {job.id}" in shown["next"]


def test_show_reads_the_receipt_of_a_job_that_has_left_redis(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.delivered(jobs.in_care())
    jobs.leave_redis(job)
    (shown,) = chartpost.rows("show", job.id)
    assert (shown["state"], shown["record_id"], shown["assurance"]) == ("delivered", "77", "confirmed")
    assert shown["receipt"]["record"]["id"] == "77"


def test_an_unknown_job_is_exit_code_1(chartpost: CommandLine) -> None:
    result = chartpost("show", str(uuid4()))
    assert result.exit_code == 1
    assert "chartpost jobs" in result.stderr
