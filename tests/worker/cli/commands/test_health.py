"""`health` answers containers."""

from __future__ import annotations

from tasks.dispatch.workers import Workers
from tasks.runtime import Runtime
from tests.worker.cli.conftest import CommandLine


def test_health_needs_a_worker_that_consumes(chartpost: CommandLine, runtime: Runtime) -> None:
    alone = chartpost("health")
    assert alone.exit_code == 1
    assert "no worker" in alone.stderr
    Workers(runtime.redis, "w", 4, lambda: True).beat()
    assert chartpost("health").exit_code == 0
