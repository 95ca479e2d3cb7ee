"""A full stream: how many messages the intake opens in a second."""

from __future__ import annotations

import json
import time
from pathlib import Path

import redis

from tasks.ledger.keys import PREFIX
from tests.benchmarks import cpu, rig
from tests.benchmarks.documents import SMALL_BYTES, whole_pdf
from tests.benchmarks.options import Options
from tests.benchmarks.progress import say
from tests.benchmarks.rig import ACCOUNT, Installation
from tests.benchmarks.table import Row
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until

STREAM = PREFIX + "intake"
_BATCH = 1000


def measure(options: Options, folder: Path) -> list[Row]:
    with SandboxProcess("--providers", "pracsuite") as world, rig.fresh_valkey(folder / "redis") as url:
        installation, server = Installation(folder / "streamed", world, url), redis.Redis.from_url(url)
        add(server, installation, 0, options.messages)
        say(f"stream: {options.messages} messages wait")
        with rig.started(installation, "intake") as part:
            wait_until(lambda: opened(server), "the intake begins")
            before, began, spent = opened(server), time.monotonic(), cpu.of_tree(part.pid)
            wait_until_opened(server, options.messages)
            seconds, spent = time.monotonic() - began, cpu.of_tree(part.pid) - spent
    count = options.messages - before
    return [
        Row(
            f"messages a second opened by intake, {options.messages:,} in the stream",
            count / seconds,
            "a second",
            at_least=1000,
            detail=f"{spent.total * 1000 / count:.2f} ms CPU each",
        )
    ]


def add(server: redis.Redis, installation: Installation, first: int, count: int) -> None:
    """Messages that name the same file for patients of their own."""
    source = installation.documents / "streamed.pdf"
    if not source.exists():
        source.write_bytes(whole_pdf(SMALL_BYTES))
    message = {"account": ACCOUNT, "source": source.as_uri()}
    pipe = server.pipeline(transaction=False)
    for number in range(first, first + count):
        pipe.xadd(STREAM, {"job": json.dumps({**message, "patient_id": f"s{number}", "file_name": f"s{number}.pdf"})})
        if len(pipe) >= _BATCH:
            pipe.execute()
    pipe.execute()


def opened(server: redis.Redis) -> int:
    return int(server.zcard(PREFIX + "jobs"))


def wait_until_opened(server: redis.Redis, count: int) -> None:
    """Until they have jobs and have left the stream."""
    done = lambda: opened(server) >= count and not server.xlen(STREAM)  # noqa: E731
    wait_until(done, f"{count} messages are opened", LONG_PATIENCE_SECONDS)
