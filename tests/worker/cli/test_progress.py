"""Waiting for a job's end."""

from __future__ import annotations

import threading
import time

import pytest

from tests.worker.cli.jobs import Jobs
from worker.cli.output import JsonOutput
from worker.cli.progress import JobProgress, print_end


@pytest.fixture
def progress(jobs: Jobs) -> JobProgress:
    runtime = jobs.runtime
    return JobProgress(runtime.ledger, runtime.accounts, runtime.account_statuses, runtime.workers)


def test_what_holds_the_job_up_is_said_once_until_it_has_ended(
    progress: JobProgress, jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    job = jobs.received()

    def deliver() -> None:
        time.sleep(0.6)
        jobs.delivered(job)

    thread = threading.Thread(target=deliver)
    thread.start()
    assert progress.wait(job.id).stage == "delivered"
    thread.join()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "received: no worker runs: start `chartpost run` or `chartpost worker`"
    assert len(set(said)) == len(said)


def test_a_parked_account_is_named_as_what_holds_the_job_up(
    progress: JobProgress, jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    job = jobs.received()
    jobs.runtime.redis.set("chartpost:worker:w", 4)
    jobs.runtime.redis.sadd("chartpost:workers", "w")
    jobs.runtime.breaker.park("north_clinic", "The key was refused.")
    timer = threading.Timer(0.3, lambda: jobs.failed(job))
    timer.start()
    assert progress.wait(job.id).stage == "failed"
    timer.join()
    assert "received: the account is parked. The key was refused." in capsys.readouterr().err


def test_the_end_of_a_failed_job_is_exit_code_1(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    print_end(jobs.delivered(jobs.received("good.pdf")), JsonOutput())
    assert '"record": {"id": "77"' in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1"):
        print_end(jobs.failed(jobs.received("bad.pdf")), JsonOutput())
    assert '"code": "refused_by_provider"' in capsys.readouterr().out
