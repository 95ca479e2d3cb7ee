"""Errors that an operator can correct are sentences."""

from __future__ import annotations

import pytest

from tests.worker.cli.conftest import CommandLine
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


def test_a_job_sealed_under_another_key_is_a_sentence(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.received()
    chartpost.config.write_text(chartpost.config.read_text().replace("a secret for tests", "another secret"))
    result = chartpost("jobs")
    assert result.exit_code == 2
    assert "secret_key" in result.stderr
