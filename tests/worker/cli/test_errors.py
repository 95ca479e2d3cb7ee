"""Errors that an operator can correct are sentences."""

from __future__ import annotations

import pytest

from tasks.runtime import Runtime
from tests.worker.cli.conftest import CommandLine, lines
from tests.worker.cli.jobs import Jobs


@pytest.mark.parametrize("command", ["health", "jobs", "accounts"])
def test_redis_being_away_is_a_sentence_without_the_password(
    chartpost: CommandLine, valkey_url: str, command: str
) -> None:
    chartpost.config.write_text(chartpost.config.read_text().replace(valkey_url, "redis://:hidden@127.0.0.1:1/0"))
    result = chartpost(command)
    assert result.exit_code == 1
    assert "Redis does not answer" in result.stderr
    assert "hidden" not in result.output


def test_taking_in_without_redis_says_what_to_do(chartpost: CommandLine, runtime: Runtime, valkey_url: str) -> None:
    folder = runtime.folders.inbox / "north_clinic" / "4711"
    folder.mkdir(parents=True)
    (folder / "scan.pdf").write_bytes(b"a scan")
    settings = chartpost.config.read_text().replace(valkey_url, "redis://:hidden@127.0.0.1:1/0")
    chartpost.config.write_text(settings)
    result = chartpost("watch", "--once")
    assert result.exit_code == 1
    assert "start `chartpost run`" in result.stderr
    assert "hidden" not in result.output
    assert "scan.pdf" not in result.output


def test_a_job_sealed_under_another_key_is_a_sentence(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.received()
    chartpost.config.write_text(chartpost.config.read_text().replace("a secret for tests", "another secret"))
    result = chartpost("jobs")
    assert result.exit_code == 2
    assert "secret_key" in result.stderr


def test_check_says_of_another_key_what_is_true(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.received()
    folder = jobs.runtime.folders.inbox
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "loose.pdf").write_bytes(b"a scan")
    chartpost.config.write_text(chartpost.config.read_text().replace("a secret for tests", "another secret"))
    by_check: dict[str, list[str]] = {}
    for row in lines(chartpost("check", "--json")):
        by_check.setdefault(row["check"], []).append(row["message"])
    assert any("another secret_key" in message for message in by_check["redis"])
    # Redis does answer.
    assert set(by_check["account"]) == {"Not asked, since Redis cannot be used."}
    # The watcher, which has the right key, logs other marks.
    (left,) = by_check["inbox"]
    assert "in the log as" not in left
