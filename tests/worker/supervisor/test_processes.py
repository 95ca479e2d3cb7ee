"""`worker.processes`: one `run` has several workers, and all that counts, names or ends workers knows each of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from celery import Celery

from tests.benchmarks import cpu
from tests.harness.installation import Child, Installation
from tests.harness.ports import free_port
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until
from tests.worker.celery.test_metrics import scrape
from worker.supervisor.valkey import is_free

COUNT = 3


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Installation]:
    with SandboxProcess() as world:
        made = Installation(tmp_path, world, redis_url="", end=f"[metrics]\nport = {ports_in_a_row()}\n")
        text = made.config.read_text()
        made.config.write_text(text.replace("[worker]\n", f"[worker]\nprocesses = {COUNT}\n"))
        yield made
        made.children[0].stop()


@pytest.fixture
def run(clinic: Installation) -> Child:
    child = clinic.start("worker", "run")
    wait_until(lambda: '"event": "ready"' in child.log, "it is ready")
    wait_until(lambda: len(clinic.process.workers.alive()) == COUNT, "all consume")
    return child


def workers(run: Child) -> dict[str, int]:
    """Their process ids, by the names that their commands give them for Celery."""
    found = {}
    for pid in cpu.children(run.pid):
        with suppress(OSError):  # it ends at the moment
            arguments = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
            if arguments[1:4] == ["-m", "worker", "worker"]:
                found[arguments[5] if arguments[4:] else "celery@%h"] = pid
    return found


def ports_in_a_row() -> int:
    """The first of as many free ports as there are workers."""
    while True:
        first = free_port()
        if all(map(is_free, range(first, first + COUNT))):
            return first


def has_ended(pid: int) -> bool:
    """True for one whose exit code has not been read either."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_each_worker_has_a_feeder_a_name_for_celery_and_a_port_of_its_own(clinic: Installation, run: Child) -> None:
    assert {int(name.partition(":")[2]) for name in clinic.process.workers.alive()} == {*workers(run).values()}
    assert clinic.process.workers.slots() == COUNT * clinic.process.settings.worker.concurrency
    celery = Celery(broker=clinic.process.redis_url, set_as_current=False)
    names = {"celery", "celery2", "celery3"}
    wait_until(
        lambda: {name.partition("@")[0] for pong in celery.control.ping() or () for name in pong} == names,
        "all have names",
    )
    assert "DuplicateNodenameWarning" not in run.log
    first = clinic.process.settings.metrics.port
    assert [scrape(port)[("workers",)] for port in range(first, first + COUNT)] == [COUNT] * COUNT
    health = clinic.command("health")
    assert health.stdout.startswith(f"ok: {COUNT} workers"), health.stderr
    for number in range(6):
        clinic.drop(f"p{number}", f"{number}.pdf", b"a scan")
    wait_until(lambda: len(clinic.receipts()) == 6, "documents go")


def test_a_worker_that_is_killed_comes_back_under_its_name_and_to_its_port(clinic: Installation, run: Child) -> None:
    before = workers(run)
    os.kill(before["celery2@%h"], signal.SIGKILL)
    wait_until(lambda: '"part": "worker 2"' in run.log, "its end is noticed")
    wait_until(lambda: workers(run).get("celery2@%h", before["celery2@%h"]) != before["celery2@%h"], "it is back")
    first = clinic.process.settings.metrics.port
    wait_until(lambda: run.log.count('"event": "metrics_served"') == COUNT + 1, "it serves its metrics")
    assert "metrics_port_taken" not in run.log
    assert all(scrape(port) for port in range(first, first + COUNT))


def test_all_workers_are_told_to_end_at_the_same_time(run: Child) -> None:
    first, *others = workers(run).values()
    os.kill(first, signal.SIGSTOP)
    run.send(signal.SIGTERM)
    wait_until(lambda: all(map(has_ended, others)), "the others do not wait for the first")
    assert not has_ended(first)
    os.kill(first, signal.SIGCONT)
    assert run.process.wait(120) == 0
    assert "part_killed" not in run.log
