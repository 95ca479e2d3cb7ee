"""How much longer a healthy account's documents take while another account floods the installation.

The measure is the same documents without a flood, on this machine just before: seconds tell nothing by themselves.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.acceptance.test_accounts import send_many, status_of, throttled
from tests.benchmarks.options import Options
from tests.benchmarks.progress import say
from tests.benchmarks.table import Row
from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until

HEALTHY = 20
BACKLOG = 5_000
CALLS = 2_000


def measure(options: Options, folder: Path) -> list[Row]:
    with SandboxProcess(validation_seconds=0.2) as world:
        say(f"floods: a backlog of {BACKLOG:,}")
        behind_a_backlog = backlog(folder / "backlog", world)
        say(f"floods: {CALLS:,} calls")
        behind_calls = calls(folder / "calls", world)
    return [
        Row(f"{HEALTHY} documents beside {BACKLOG:,} of a throttled account", behind_a_backlog, "× time"),
        Row(f"{HEALTHY} documents called behind {CALLS:,} of another account", behind_calls, "× time"),
    ]


def backlog(folder: Path, world: SandboxProcess) -> float:
    """The flood is in the ledger, and its account is throttled."""
    with throttled(folder, world) as installation:
        calm = seconds_until_delivered(installation, send_many(installation, HEALTHY, "south_clinic"))
        send_many(installation, BACKLOG, "slow_clinic")
        wait_until(lambda: status_of(installation, "slow_clinic") == "throttled", "the backlog is throttled")
        return seconds_until_delivered(installation, send_many(installation, HEALTHY, "south_clinic")) / calm


def calls(folder: Path, world: SandboxProcess) -> float:
    """The flood is in Celery's queue, before the calls of the healthy account."""
    with installed(folder, world) as installation:
        healthy = send_many(installation, HEALTHY, "south_clinic")
        installation.start("worker", "intake")
        worker = installation.start_worker()
        calm = seconds_until_delivered(installation, healthy)
        worker.stop()
        send_many(installation, CALLS, "north_clinic")
        healthy = send_many(installation, HEALTHY, "south_clinic")
        installation.start_worker()
        return seconds_until_delivered(installation, healthy) / calm


def seconds_until_delivered(installation: Installation, jobs: list[str]) -> float:
    began = time.monotonic()
    everything = lambda: all(installation.stage(job) == "delivered" for job in jobs)  # noqa: E731
    wait_until(everything, "the healthy account's documents are delivered", LONG_PATIENCE_SECONDS)
    return time.monotonic() - began
