"""`jobs` lists what is in the ledger."""

from __future__ import annotations

import time
from datetime import datetime
from uuid import uuid4

import pytest
import redis

from tasks.ledger.keys import PREFIX
from tasks.ledger.queries import Wanted
from tasks.model.errors import Code
from tests.worker.cli.conftest import CommandLine, lines
from tests.worker.cli.jobs import FIELDS, STORED, Jobs


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
        time.sleep(0.002)  # Redis keeps times in milliseconds
    assert [row["id"] for row in chartpost.rows("jobs")] == ids


@pytest.mark.parametrize(
    ("options", "expected"),
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
    chartpost: CommandLine, jobs: Jobs, options: list[str], expected: set[str]
) -> None:
    jobs.received("new.pdf")
    jobs.received("theirs.pdf", account="south_clinic")
    jobs.failed(jobs.received("refused.pdf"))
    jobs.failed(jobs.received("empty.pdf"), Code.FILE_EMPTY)
    assert {row["file_name"] for row in chartpost.rows("jobs", *options)} == expected


def test_ended_jobs_are_listed_in_the_order_in_which_they_came(chartpost: CommandLine, jobs: Jobs) -> None:
    came = []
    for number in range(4):
        came.append(jobs.received(f"{number}.pdf"))
        time.sleep(0.002)  # Redis keeps times in milliseconds
    for job in reversed(came):
        jobs.failed(job)
        time.sleep(0.002)
    assert [row["id"] for row in chartpost.rows("jobs", "--state", "failed")] == [job.id for job in came]


def test_a_failed_job_that_is_searched_for_is_listed_and_one_that_was_retried_is_not(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    searched, retried = jobs.not_confirmed(jobs.received("a.pdf")), jobs.failed(jobs.received("b.pdf"))
    assert chartpost("retry", retried.id).exit_code == 0
    assert [row["id"] for row in chartpost.rows("jobs", "--state", "failed")] == [searched.id]


@pytest.mark.parametrize("state", ["failed", "delivered", "cancelled"])
def test_to_list_what_has_ended_no_waiting_job_is_read(jobs: Jobs, valkey: redis.Redis, state: str) -> None:
    jobs.failed(jobs.received("refused.pdf"))

    def commands() -> int:
        before = valkey.info("stats")["total_commands_processed"]
        list(jobs.runtime.queries.jobs(Wanted(state)))
        return int(valkey.info("stats")["total_commands_processed"] - before)

    commands()  # the first of a connection greets the server
    with_few = commands()
    waiting = {str(uuid4()): number for number in range(2000)}
    valkey.zadd(PREFIX + "jobs", waiting)
    valkey.zadd(PREFIX + "open:north_clinic", waiting)
    assert commands() == with_few


def test_an_unknown_state_or_code_is_wrong_usage(chartpost: CommandLine) -> None:
    assert chartpost("jobs", "--state", "lost").exit_code == 2
    assert chartpost("jobs", "--code", "lost").exit_code == 2


def test_nothing_that_would_move_the_cursor_is_printed(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.received(), detail="no\x1b[2Jthing\r\nof the kind")
    for command in (["jobs"], ["show", job.id]):
        printed = chartpost(*command).stdout
        assert "no�[2Jthing" in printed
        assert "\x1b" not in printed
        assert "\r" not in printed


def test_json_is_one_object_a_line(chartpost: CommandLine, jobs: Jobs) -> None:
    for number in range(3):
        jobs.received(f"{number}.pdf", description="two\nlines")
    assert len(lines(chartpost("jobs", "--json"))) == 3
