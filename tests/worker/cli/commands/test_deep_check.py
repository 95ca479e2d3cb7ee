"""`chartpost check --deep` finds orphans, mends them, and is well afterwards."""

from __future__ import annotations

from uuid import uuid4

from tasks.ledger.redis import PREFIX
from tasks.runtime import Runtime
from tests.worker.cli.conftest import CommandLine


def test_a_deep_check_mends_a_due_entry_without_its_job(chartpost: CommandLine, runtime: Runtime) -> None:
    gone = str(uuid4())
    runtime.redis.zadd(f"{PREFIX}due:north_clinic", {gone: 1})
    first = chartpost("check", "--deep")
    assert gone in first.output
    assert "mended" in first.output
    second = chartpost("check", "--deep")
    assert gone not in second.output
    assert runtime.redis.zcard(f"{PREFIX}due:north_clinic") == 0
