"""The parts of `chartpost run` are forked from it, and processes of their own. A later one is a new interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.benchmarks import cpu
from tests.harness.installation import Child, Installation
from tests.harness.sandbox import ROOT, SandboxProcess
from tests.harness.waiting import wait_until

PARTS = {"watch", "intake", "worker"}
# A shell that hands a file of its own to what it runs. With it, `run` is a new interpreter and none that was forked.
WITH_AN_OPEN_FILE = ("sh", "-c", 'exec 7</etc/hostname && exec "$@"', "sh")


@pytest.fixture(scope="module")
def world() -> Iterator[SandboxProcess]:
    with SandboxProcess() as sandbox:
        yield sandbox


@pytest.fixture
def embedded(tmp_path: Path, world: SandboxProcess) -> Iterator[Installation]:
    """A clinic without a Redis of its own: `run` brings one."""
    clinic = Installation(tmp_path, world, redis_url="")
    clinic.inside = WITH_AN_OPEN_FILE
    yield clinic
    for child in clinic.children:
        child.stop()  # in order, so that what it has started ends too


def started(clinic: Installation) -> Child:
    run = clinic.start("worker", "run")
    wait_until(lambda: '"event": "ready"' in run.log, "it is ready")
    return run


def parts(run: Child) -> dict[str, int]:
    """By their commands in the process list, their ids."""
    found = {}
    for pid in cpu.children(run.pid):
        with suppress(OSError, IndexError):  # it ends at the moment
            arguments = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
            if arguments[1:3] == ["-m", "worker"] and len(arguments) == 4:
                found[arguments[3]] = pid
    return {name: pid for name, pid in found.items() if name in PARTS}


def heap(pid: int) -> str:
    """Where its heap begins: at random for each program, and in a fork where it is in its parent."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return next(line for line in lines if line.endswith("[heap]")).partition("-")[0]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_parts_are_forked_and_are_processes_of_their_own(embedded: Installation) -> None:
    run = started(embedded)
    of_run = parts(run)
    assert of_run.keys() == PARTS
    assert (Path(f"/proc/{run.pid}/fd") / "7").exists()
    for pid in of_run.values():
        assert heap(pid) == heap(run.pid), "it shares what was imported"
        assert os.getsid(pid) == pid
        files = {file.name: str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
        assert files["0"] == os.devnull
        assert "/etc/hostname" not in files.values(), "it has no file of its parent's"
    embedded.drop("4711", "scan.pdf", b"a scan")
    wait_until(embedded.receipts, "documents go")
    assert run.stop() == 0
    assert not any(map(alive, of_run.values()))


def test_a_part_that_ended_starts_as_a_new_interpreter_with_the_settings_of_then(embedded: Installation) -> None:
    run = started(embedded)
    before = parts(run)
    accounts = f'"accounts": {len(embedded.process.settings.accounts) + 1}'
    with embedded.config.open("a") as settings:
        settings.write('[accounts.later]\nprovider = "pracsuite"\nvendor_api_key = "v"\napi_key = "a"\n')
    os.kill(before["watch"], signal.SIGKILL)
    wait_until(lambda: parts(run).get("watch", before["watch"]) != before["watch"], "it is started again")
    assert '"event": "part_ended"' in run.log
    assert f'"exit": {-signal.SIGKILL}' in run.log
    wait_until(lambda: run.log.count(accounts) == 1, "it reads the settings again")
    after = parts(run)
    assert heap(after["watch"]) != heap(run.pid)
    assert {after[name] for name in PARTS - {"watch"}} == {before[name] for name in PARTS - {"watch"}}
    embedded.drop("4711", "scan.pdf", b"a scan")
    wait_until(embedded.receipts, "documents go")


def test_parts_end_with_a_run_that_is_killed(embedded: Installation) -> None:
    run = started(embedded)
    started_by_it = cpu.children(run.pid)
    assert len(started_by_it) == len(PARTS) + 1, "the parts and Valkey"
    os.kill(run.pid, signal.SIGKILL)
    embedded.children.clear()
    try:
        wait_until(lambda: not any(map(alive, started_by_it)), "they end")
    finally:
        for pid in filter(alive, started_by_it):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("there", [1, 2, 3, 4])
def test_a_run_that_is_told_to_end_while_its_parts_start_ends_with_all_of_them(
    embedded: Installation, there: int
) -> None:
    """Valkey is the first that it starts."""
    run = embedded.start("worker", "run")
    seen: set[int] = set()

    def begun() -> bool:
        seen.update(cpu.children(run.pid))
        return len(seen) >= there

    wait_until(begun, f"{there} have started")
    run.send(signal.SIGTERM)
    assert run.stop() == 0
    assert not any(map(alive, seen))
    assert "part_killed" not in run.log, "none has missed its signal"


def test_a_start_costs_less_than_twice_the_imports_of_its_parts(embedded: Installation) -> None:
    """Of a part for itself, the imports are nine tenths of its start. There are three, and the supervisor."""
    program = (
        "from config.load import load; from worker.cli.commands import serve\n"
        "from worker.supervisor.run import import_for_parts; import_for_parts(load())"
    )
    before = cpu.of_ended_children()
    environ = {**os.environ, "CHARTPOST_CONFIG": str(embedded.config)}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environ, check=True)
    imports = cpu.of_ended_children() - before
    run = started(embedded)
    assert cpu.of_tree(run.pid).total < 2 * imports.total


def test_a_process_with_a_second_thread_does_not_fork() -> None:
    program = (
        "import threading; from worker.supervisor.fork import may_fork\n"
        "assert may_fork(); end = threading.Event(); threading.Thread(target=end.wait, daemon=True).start()\n"
        "assert not may_fork(); end.set()"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
