"""Why a job waits is decided in one place, which asks for each account once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import redis

from config.load import load
from tasks.ledger.clock import LedgerClock
from tasks.runtime import Runtime
from tasks.wording.waiting import WaitingReason
from tests.tasks.reporting.ended import TODAY
from tests.worker.cli.jobs import Jobs

SETTINGS = """
data_dir = "{folder}/data"
secret_key = "a secret for tests"
file_roots = ["{folder}/documents"]
[redis]
url = "{url}"
[accounts.north_clinic]
provider = "pracsuite"
vendor_api_key = "v"
api_key = "a"
"""


@pytest.fixture
def runtime(tmp_path: Path, valkey: redis.Redis, valkey_url: str) -> Runtime:
    (tmp_path / "documents").mkdir()
    config = tmp_path / "chartpost.toml"
    config.write_text(SETTINGS.format(folder=tmp_path, url=valkey_url))
    return Runtime(load(config, {}))


def test_what_holds_the_account_up_comes_first_then_the_machine_then_the_job(runtime: Runtime) -> None:
    jobs = Jobs(runtime)
    job = jobs.received("scan.pdf")
    unknown = replace(job, uncertainty=replace(job.uncertainty, unknown_since=TODAY))
    failing = replace(job, since=replace(job.since, failing=TODAY))
    holder = jobs.received("twin.pdf")
    jobs.ledger.reserve_name(holder)
    twin, sent = jobs.received("twin.pdf"), jobs.stored(jobs.received("sent.pdf"))

    why = runtime.waiting_reasons().why
    assert why(job).reason is WaitingReason.IN_TURN
    assert why(job, machine_is_idle=True).reason is WaitingReason.ANOTHER_MACHINE
    assert why(replace(job, document=replace(job.document, account="gone"))).reason is WaitingReason.NOT_IN_SETTINGS
    assert (why(failing).reason, why(failing).since) == (WaitingReason.TROUBLE, TODAY)
    assert (why(unknown).reason, why(unknown).since) == (WaitingReason.UNKNOWN_OUTCOME, TODAY)
    assert (why(twin).reason, why(twin).holder) == (WaitingReason.SAME_NAME, holder.id)
    assert why(sent).reason is WaitingReason.VALIDATION

    runtime.breaker.park("north_clinic", "The keys were refused.")
    wait = runtime.waiting_reasons().why(unknown, machine_is_idle=True)
    assert wait.reason is WaitingReason.ACCOUNT_PARKED
    assert wait.health
    assert wait.health.reason == "The keys were refused."
    facts = runtime.waiting_reasons().facts(unknown, LedgerClock(runtime.redis).read())
    assert (facts.reason, facts.provider, facts.until) == (WaitingReason.ACCOUNT_PARKED, "pracsuite", None)


def test_an_account_is_asked_for_once_however_many_of_its_jobs_wait(runtime: Runtime, valkey: redis.Redis) -> None:
    jobs = [Jobs(runtime).received(f"{number}.pdf") for number in range(3)]
    failing = [replace(job, since=replace(job.since, failing=TODAY)) for job in jobs]
    reasons = runtime.waiting_reasons()
    reasons.why(failing[0])

    def commands() -> int:
        return int(valkey.info("stats")["total_commands_processed"])

    before = commands()
    for job in failing:
        reasons.why(job)
    assert commands() - before == 1, "only the question itself"
