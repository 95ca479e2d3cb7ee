"""`chartpost run` and its own server: killed, and not to be started for a while, it comes back and is found again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.installation import Installation
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Installation]:
    """A clinic without a Redis of its own: `run` brings one."""
    with SandboxProcess() as world:
        clinic = Installation(tmp_path, world, redis_url="")
        yield clinic
        clinic.children[0].stop()  # in order, so that what it has started ends too


def test_run_starts_its_server_again_as_soon_as_that_can_be_started(embedded: Installation) -> None:
    run = embedded.start("worker", "run")
    wait_until(lambda: '"event": "ready"' in run.log, "it is ready")
    embedded.drop("r1", "before.pdf", b"before")
    wait_until(lambda: embedded.chart(patient_id="r1"), "it is delivered")

    run.send(signal.SIGSTOP)
    os.kill(embedded.redis.info("server")["process_id"], signal.SIGKILL)
    (written,) = (embedded.data / "valkey").glob("appendonlydir/*.incr.aof")
    size = written.stat().st_size
    with written.open("ab") as file:
        file.write(b"what no server can read\r\n")
    run.send(signal.SIGCONT)
    wait_until(lambda: "valkey_not_started" in run.log, "the server does not start")
    embedded.drop("r2", "meanwhile.pdf", b"meanwhile")
    os.truncate(written, size)

    wait_until(lambda: embedded.chart(patient_id="r2"), "it is delivered")
    assert run.log.count("valkey_not_started") == 1
    assert "part_ended" not in run.log
    assert len(embedded.chart(patient_id="r1")) == len(embedded.chart(patient_id="r2")) == 1
