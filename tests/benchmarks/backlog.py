"""A full ledger: what a feeder's round and two commands cost with many waiting jobs and with a thousand."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from uuid import uuid4

import redis

from tasks.dispatch.feeder import Feeder
from tasks.dispatch.housekeeping import Housekeeping
from tasks.dispatch.workers import Workers
from tasks.model.document import Document
from tasks.runtime import Runtime
from tests.benchmarks import rig
from tests.benchmarks.options import Options
from tests.benchmarks.progress import say
from tests.benchmarks.rig import ACCOUNT, Installation
from tests.benchmarks.table import Row, shown
from tests.harness.sandbox import SandboxProcess

_FEW = 1000
_SLOTS = 16
_ROUNDS = 200
_COMMANDS = {"accounts": ("accounts",), "jobs --state failed": ("jobs", "--state", "failed")}
_SAID_EVERY = 20_000


def measure(options: Options, folder: Path) -> list[Row]:
    with SandboxProcess("--providers", "pracsuite") as world, rig.fresh_valkey(folder / "redis") as url:
        installation = Installation(folder / "backlog", world, url)
        runtime, server = installation.runtime(), redis.Redis.from_url(url)
        fill(runtime, 0, _FEW)
        few = costs(options, installation, runtime, server)
        say(f"backlog: with {_FEW} jobs, ms: {spoken(few)}")
        fill(runtime, _FEW, options.jobs)
        many = costs(options, installation, runtime, server)
        say(f"backlog: with {options.jobs} jobs, ms: {spoken(many)}")
    return [
        Row(
            f"{name}, {options.jobs:,} waiting jobs to {_FEW:,}",
            many[name] / few[name],
            "×",
            at_most=1.2,
            detail=f"{shown(many[name])} to {shown(few[name])} ms, with Redis's part",
        )
        for name in few
    ]


def spoken(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {shown(ms)}" for name, ms in found.items())


def fill(runtime: Runtime, first: int, until: int) -> None:
    """Open jobs as admission does. Their files are never asked for."""
    provider = runtime.accounts[ACCOUNT].provider
    for number in range(first, until):
        document = Document(ACCOUNT, f"p{number}", f"file:///srv/out/{number}.pdf", f"{number}.pdf", 20_000)
        runtime.ledger.open(str(uuid4()), document, provider.kind, route=provider.route(document))
        if number % _SAID_EVERY == 0:
            say(f"backlog: {number} of {until} jobs")


def costs(options: Options, installation: Installation, runtime: Runtime, server: redis.Redis) -> dict[str, float]:
    """Milliseconds of CPU: of this process or the command, and of Redis."""
    found = {"a feeder's round": of_a_round(runtime, server)}
    for name, command in _COMMANDS.items():
        taken = [with_redis(server, lambda: installation.command(*command).total) for _ in range(options.rounds)]  # noqa: B023
        found[name] = median(taken) * 1000
    return found


def of_a_round(runtime: Runtime, server: redis.Redis) -> float:
    """Rounds that find the window full, as most do while many documents wait."""
    feeder = Feeder(
        client=runtime.redis,
        breaker=runtime.breaker,
        accounts=runtime.accounts,
        workers=(workers := Workers(runtime.redis, "bench", _SLOTS, lambda: True)),
        lease_seconds=3600,
        housekeeping=Housekeeping(runtime.redis, lanes=(), jobs_days=30, longest_wait_seconds=3600),
    )
    workers.beat()
    while feeder.tick():
        pass

    def rounds() -> float:
        began = time.thread_time()
        for _ in range(_ROUNDS):
            feeder.tick()
        return time.thread_time() - began

    spent = with_redis(server, rounds) * 1000 / _ROUNDS
    workers.leave()
    return spent


def with_redis(server: redis.Redis, work: Callable[[], float]) -> float:
    """The CPU seconds of some work, and those that Redis's main thread spent meanwhile."""
    before = of_redis(server)
    return work() + of_redis(server) - before


def of_redis(server: redis.Redis) -> float:
    said = server.info("cpu")
    return float(said["used_cpu_user_main_thread"]) + float(said["used_cpu_sys_main_thread"])
