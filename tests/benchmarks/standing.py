"""What an installation costs that has nothing to do, and what its commands cost to start."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from tests.benchmarks import cpu, rig
from tests.benchmarks.cpu import Cpu
from tests.benchmarks.options import Options
from tests.benchmarks.progress import say
from tests.benchmarks.rig import Installation
from tests.benchmarks.table import Row
from tests.harness.sandbox import SandboxProcess

_SETTLED_SECONDS = 5.0
_IDLE_SECONDS = 30.0


def idle(options: Options, folder: Path) -> list[Row]:
    """`chartpost run` with its own Valkey, after its first seconds."""
    with SandboxProcess("--providers", "pracsuite") as world:
        installation = Installation(folder / "idle", world)
        with rig.started(installation, "run") as part:
            rig.wait_until_ready(part)
            time.sleep(_SETTLED_SECONDS)
            say(f"idle: {_IDLE_SECONDS:.0f} s")
            before, began = cpu.of_tree(part.pid), time.monotonic()
            time.sleep(_IDLE_SECONDS)
            spent, seconds = cpu.of_tree(part.pid) - before, time.monotonic() - began
    detail = f"with its Valkey; user time {spent.user / seconds * 100:.2f} %"
    return [Row("an idle installation, of one core", spent.total / seconds * 100, "%", at_most=0.5, detail=detail)]


def start(options: Options, folder: Path) -> list[Row]:
    """Until `run` is ready: the supervisor, its Valkey, the watcher, the intake and the worker."""
    until_ready, helped, listed = list[Cpu](), list[Cpu](), list[Cpu]()
    with SandboxProcess("--providers", "pracsuite") as world:
        for number in range(options.rounds):
            say(f"start: round {number + 1} of {options.rounds}")
            installation = Installation(folder / f"start-{number}", world)
            with rig.started(installation, "run") as part:
                rig.wait_until_ready(part)
                until_ready.append(cpu.of_tree(part.pid))
                time.sleep(1)  # the parts have written their last lines
                helped.append(installation.command("--help"))
                listed.append(installation.command("jobs"))
    rows = (("--help", helped, 0.3), ("jobs", listed, 0.8), ("run, until it is ready", until_ready, 4.0))
    return [
        Row(
            f"chartpost {what}",
            median(each.total for each in taken),
            "s CPU",
            at_most=target,
            detail=f"user time {median(each.user for each in taken):.2f} s",
        )
        for what, taken, target in rows
    ]
