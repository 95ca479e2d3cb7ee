"""`jobs` and `show` tell what is where and why, for people and for programs."""

from __future__ import annotations

import time
from datetime import datetime
from uuid import NAMESPACE_OID, uuid4, uuid5

import pytest

from tasks.model.errors import Code
from tasks.model.route import Step
from tasks.pipeline.failures import CANNOT_SEARCH
from tests.worker.cli.conftest import CommandLine, lines
from tests.worker.cli.jobs import STORED, Jobs
from worker.stream.build import stream_reader

FIELDS = {
    *("id", "account", "provider", "state", "code", "message", "patient_id", "file_name", "size_bytes", "sha256"),
    *("attempts", "created_at", "updated_at", "next_at", "record_id", "assurance"),
}


def test_a_job_as_json_has_every_field_of_the_contract(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.received()
    (row,) = chartpost.rows("jobs")
    assert row.keys() >= FIELDS
    assert (row["id"], row["state"], row["patient_id"], row["size_bytes"]) == (job.id, "received", "4711", 6)
    assert (row["code"], row["sha256"], row["record_id"], row["assurance"]) == (None, None, None, None)
    assert datetime.fromisoformat(row["created_at"]) == job.created_at.replace(
        microsecond=job.created_at.microsecond // 1000 * 1000
    )
    assert row["created_at"].endswith("Z")


def test_a_delivered_job_names_its_record_and_its_assurance(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.delivered(jobs.received())
    (row,) = chartpost.rows("jobs")
    assert (row["state"], row["record_id"], row["assurance"], row["sha256"]) == (
        "delivered",
        "77",
        "confirmed",
        STORED.sha256,
    )


def test_jobs_are_listed_in_the_order_in_which_they_came(chartpost: CommandLine, jobs: Jobs) -> None:
    ids = []
    for number in range(5):
        ids.append(jobs.received(f"{number}.pdf").id)
        time.sleep(0.002)  # Redis's time is told in milliseconds
    assert [row["id"] for row in chartpost.rows("jobs")] == ids


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["--state", "failed"], {"refused.pdf", "empty.pdf"}),
        (["--state", "received"], {"new.pdf", "theirs.pdf"}),
        (["--account", "south_clinic"], {"theirs.pdf"}),
        (["--state", "received", "--account", "north_clinic"], {"new.pdf"}),
        (["--state", "delivered", "--account", "south_clinic"], set()),
        (["--code", "file_empty"], {"empty.pdf"}),
        (["--code", "file_empty", "--state", "received"], set()),
    ],
)
def test_jobs_are_listed_by_state_account_and_code(
    chartpost: CommandLine, jobs: Jobs, asked: list[str], found: set[str]
) -> None:
    jobs.received("new.pdf")
    jobs.received("theirs.pdf", account="south_clinic")
    jobs.failed(jobs.received("refused.pdf"))
    jobs.failed(jobs.received("empty.pdf"), Code.FILE_EMPTY)
    assert {row["file_name"] for row in chartpost.rows("jobs", *asked)} == found


def test_an_unknown_state_or_code_is_wrong_usage(chartpost: CommandLine) -> None:
    assert chartpost("jobs", "--state", "lost").exit_code == 2
    assert chartpost("jobs", "--code", "lost").exit_code == 2


def test_nothing_is_printed_that_would_move_a_terminals_cursor(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.received(), detail="no\x1b[2Jthing\r\nof the kind")
    for command in (["jobs"], ["show", job.id]):
        printed = chartpost(*command).stdout
        assert "no�[2Jthing" in printed
        assert "\x1b" not in printed
        assert "\r" not in printed


def test_show_gives_a_delivered_job_with_its_receipt(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.delivered(jobs.received())
    (shown,) = chartpost.rows("show", job.id.upper())
    assert shown.keys() >= FIELDS
    assert shown["receipt"]["record"] == {"id": "77", "url": None}
    assert shown["error"] is None


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


def test_show_says_for_how_long_an_answer_that_was_lost_is_looked_for(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.presigned(jobs.received())
    lease = jobs.lease(job, Step.POST)
    jobs.ledger.committed(lease)
    jobs.ledger.unknown(lease, due_in=60.0, calls=1)
    (shown,) = chartpost.rows("show", job.id)
    assert "for 1800 s (confirm.look_seconds)" in shown["next"]


def test_show_says_once_what_to_do_where_nothing_can_be_looked_up(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.received()
    jobs.ledger.failed(jobs.lease(job, Step.PRESIGN), CANNOT_SEARCH, calls=1)
    (shown,) = chartpost.rows("show", job.id)
    assert shown["next"].count(f"chartpost resolve {job.id} --delivered") == 1
    assert shown["next"].count(f"chartpost retry {job.id} --send-again") == 1
    assert "looks again" not in shown["next"]


def test_show_says_that_a_job_waits_for_its_account(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.received()
    jobs.runtime.breaker.park("north_clinic", "The key was refused.")
    (shown,) = chartpost.rows("show", job.id)
    assert "The key was refused." in shown["next"]
    assert "chartpost accounts resume north_clinic" in shown["next"]


def test_show_says_for_whose_outcome_a_job_of_the_same_name_waits(chartpost: CommandLine, jobs: Jobs) -> None:
    first, second = jobs.received(), jobs.received()
    jobs.ledger.reserve_name(first)
    shown = chartpost.rows("show", second.id)[0]
    assert first.id in shown["next"]
    assert "of the same name and patient" in shown["next"]


def test_show_takes_the_id_of_a_stream_entry(chartpost: CommandLine, jobs: Jobs) -> None:
    entry = "1795258063188-1"
    opened = jobs.received().document
    job_id = str(uuid5(NAMESPACE_OID, entry))
    jobs.ledger.open(job_id, opened, "pracsuite")
    (shown,) = chartpost.rows("show", entry)
    assert shown["id"] == job_id


def test_show_takes_the_id_of_another_call_for_the_same(chartpost: CommandLine, jobs: Jobs) -> None:
    job, other = jobs.received(), str(uuid4())
    jobs.ledger.alias(other, job.id)
    assert chartpost.rows("show", other)[0]["id"] == job.id


def test_show_tells_of_a_message_that_was_rejected(chartpost: CommandLine, jobs: Jobs) -> None:
    redis = jobs.runtime.redis
    entry = str(redis.xadd("chartpost:intake", {"job": '{"account": "nobody"}'}))
    reader = stream_reader(jobs.runtime, block_ms=10)
    reader.turn()
    reader.turn()
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


def test_show_says_when_nobody_knows_the_job(chartpost: CommandLine) -> None:
    result = chartpost("show", str(uuid4()))
    assert result.exit_code == 1
    assert "chartpost jobs" in result.stderr


def test_a_job_sealed_under_another_key_is_said_in_a_sentence(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.received()
    chartpost.config.write_text(chartpost.config.read_text().replace("a secret for tests", "another secret"))
    result = chartpost("jobs")
    assert result.exit_code == 1
    assert "secret_key" in result.stderr


def test_json_is_one_object_a_line(chartpost: CommandLine, jobs: Jobs) -> None:
    for number in range(3):
        jobs.received(f"{number}.pdf", description="two\nlines")
    assert len(lines(chartpost("jobs", "--json"))) == 3
