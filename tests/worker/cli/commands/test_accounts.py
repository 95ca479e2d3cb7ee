"""`accounts` lists each account's status, and resumes a parked one."""

from __future__ import annotations

from datetime import datetime

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
    jobs.presigned(jobs.received())
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
    assert (result.exit_code, result.stdout) == (0, "north_clinic: resumed\n")
    assert chartpost.rows("accounts")[0]["status"] == "ok"


def test_resuming_an_account_that_works_does_nothing(chartpost: CommandLine) -> None:
    assert chartpost("accounts", "resume", "north_clinic").exit_code == 0


def test_resuming_an_unknown_account_is_wrong_usage(chartpost: CommandLine) -> None:
    result = chartpost("accounts", "resume", "nobody")
    assert result.exit_code == 2
    assert "north_clinic" in result.stderr
