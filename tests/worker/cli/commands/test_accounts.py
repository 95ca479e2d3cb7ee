"""`accounts` lists each account's status, and resumes a parked one."""

from __future__ import annotations

import time
from contextlib import nullcontext
from datetime import datetime

import pytest

from tasks.model.errors import RetryLater
from tasks.model.route import Step
from tests.worker.cli.conftest import CommandLine
from tests.worker.cli.jobs import Jobs


def test_every_account_is_listed_with_what_waits(chartpost: CommandLine, jobs: Jobs) -> None:
    oldest = jobs.received("one.pdf")
    jobs.received("two.pdf")
    jobs.delivered(jobs.received("three.pdf"))
    north, south = chartpost.rows("accounts")
    assert north == {
        "name": "north_clinic",
        "provider": "pracsuite",
        "status": "ok",
        "reason": None,
        "waiting": 2,
        "in_flight": 0,
        "oldest_at": north["oldest_at"],
        "resumes_at": None,
    }
    assert abs((datetime.fromisoformat(north["oldest_at"]) - oldest.created_at).total_seconds()) < 0.01
    assert (south["name"], south["waiting"], south["oldest_at"]) == ("south_clinic", 0, None)


def test_a_document_with_a_slot_is_in_flight(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.lease(jobs.received(), Step.PRESIGN)
    assert [(row["waiting"], row["in_flight"]) for row in chartpost.rows("accounts")] == [(0, 1), (0, 0)]


def test_a_document_whose_worker_has_gone_waits_again(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.presigned(jobs.received())
    jobs.ledger.redis.zadd("chartpost:flying:north_clinic", {job.id: 1})
    north = chartpost.rows("accounts")[0]
    assert (north["waiting"], north["in_flight"]) == (1, 0)


def test_a_parked_account_says_why_and_until_when(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.runtime.breaker.park("north_clinic", "The key was refused.")
    north = chartpost.rows("accounts")[0]
    assert (north["status"], north["reason"]) == ("parked", "The key was refused.")
    assert north["resumes_at"].endswith("Z")


def test_accounts_that_share_a_limit_are_throttled_together(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.runtime.rate_limit.throttle(jobs.runtime.accounts["north_clinic"].provider.limit_group, 30)
    rows = chartpost.rows("accounts")
    assert [row["status"] for row in rows] == ["throttled", "throttled"]
    assert all(row["resumes_at"] for row in rows)


def test_an_account_that_has_left_the_settings_is_listed_while_it_has_documents(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    jobs.received(account="east_clinic")
    east = chartpost.rows("accounts")[0]
    assert (east["name"], east["provider"], east["status"], east["waiting"]) == ("east_clinic", None, "parked", 1)


def test_a_parked_account_is_resumed(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.runtime.breaker.park("north_clinic", "The key was refused.")
    result = chartpost("accounts", "resume", "north_clinic")
    said = "north_clinic: resumed: it was parked, and is tried with one document now\n"
    assert (result.exit_code, result.stdout) == (0, said)
    assert chartpost.rows("accounts")[0]["status"] == "ok"


def test_a_limit_group_that_waits_goes_on_with_all_its_accounts_and_what_they_had_put_off(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    """A provider that asks to wait for an hour puts off the document whose answer it was as well."""
    limits, group = jobs.runtime.rate_limit, jobs.runtime.accounts["north_clinic"].provider.limit_group
    put_off = jobs.received(account="south_clinic")
    jobs.ledger.redis.zincrby("chartpost:due:south_clinic", 3_600_000, put_off.id)
    limits.throttle(group, 3600)
    waits = chartpost.rows("accounts")[0]["resumes_at"]
    result = chartpost("accounts", "resume", "north_clinic")
    named = "its limit group (north_clinic, south_clinic) was waiting until"
    assert result.stdout.startswith(f"north_clinic: {named} {waits[:16]}")
    assert result.stdout.endswith("; it goes on now\n")
    assert [row["status"] for row in chartpost.rows("accounts")] == ["ok", "ok"]
    assert float(jobs.ledger.redis.zscore("chartpost:due:south_clinic", put_off.id) or 0) <= time.time() * 1000


def test_the_calls_of_the_last_minute_are_forgotten_only_if_asked(chartpost: CommandLine, jobs: Jobs) -> None:
    limits, group = jobs.runtime.rate_limit, jobs.runtime.accounts["north_clinic"].provider.limit_group
    limits.take_call(group, 1)
    for arguments, throttled in (((), True), (("--forget-calls",), False)):
        assert chartpost("accounts", "resume", "north_clinic", *arguments).exit_code == 0
        with pytest.raises(RetryLater) if throttled else nullcontext():
            limits.take_call(group, 1)


def test_an_account_that_nothing_holds_back_is_left_alone(chartpost: CommandLine) -> None:
    result = chartpost("accounts", "resume", "north_clinic")
    said = "north_clinic: was neither parked nor down, nor was its limit group waiting\n"
    assert (result.exit_code, result.stdout) == (0, said)


def test_resuming_an_unknown_account_is_wrong_usage(chartpost: CommandLine) -> None:
    result = chartpost("accounts", "resume", "nobody")
    assert result.exit_code == 2
    assert "north_clinic" in result.stderr
