"""The command line against a running worker: sent, waited for, interrupted, retried, resolved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.harness.installation import Installation, impatient
from tests.harness.sandbox import ROOT
from tests.harness.waiting import wait_until


@pytest.fixture
def working(north: Installation) -> Iterator[Installation]:
    """A clinic with a worker."""
    north.start_worker()
    yield north
    north.world.world(reset=True)


def written(clinic: Installation, name: str) -> Path:
    path = clinic.folder / name
    path.write_bytes(os.urandom(3000))
    return path


def patient() -> str:
    """Somebody with an empty chart."""
    return f"p{uuid4().hex[:12]}"


@contextmanager
def waiting_at_stored(clinic: Installation, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A command that waits, once it has said that its document, with "held" in its name, is stored."""
    clinic.world.world(hold_validation="held")
    with subprocess.Popen(
        [sys.executable, "-m", "worker", *command, "--wait"],
        cwd=ROOT,
        env={**os.environ, "CHARTPOST_CONFIG": str(clinic.config)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As at a terminal: what runs in the background of a script has it ignored, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as waiting:
        assert waiting.stderr
        assert any(line.startswith("stored") for line in waiting.stderr)
        yield waiting


def test_send_and_wait_ends_with_the_receipt_and_the_file_in_delivered(working: Installation) -> None:
    scan, who = written(working, "held scan.pdf"), patient()
    command = ("send", str(scan), "--account", "north_clinic", "--patient", who, "--json")
    with waiting_at_stored(working, *command) as waiting:
        working.world.world(hold_validation=None)
        told, said = waiting.communicate()
    assert waiting.returncode == 0, said
    (receipt,) = [json.loads(line) for line in told.splitlines()]
    (record,) = working.chart(patient_id=who)
    assert receipt["record"]["id"] == record["record_id"]
    assert receipt["sha256"] == record["sha256"]
    assert (working.data / "delivered" / "north_clinic" / who / "held scan.pdf").exists()


def test_send_and_wait_ends_with_the_error_of_what_fails(north: Installation) -> None:
    north.start_worker(**impatient("north_clinic"))
    scan, who = written(north, "INVALID scan.pdf"), patient()
    ran = north.command("send", str(scan), "--account", "north_clinic", "--patient", who, "--wait")
    assert ran.returncode == 1
    assert "not_confirmed" in ran.stderr
    assert ran.stdout == ""
    (error,) = north.errors()
    found = north.command("resolve", error["job_id"], "--delivered")
    assert found.returncode == 0, found.stderr
    receipt = wait_until(north.receipts, "the receipt is written")[0]
    assert (receipt["job_id"], receipt["resolved_by"]) == (error["job_id"], "human")
    wait_until(lambda: not north.errors(), "its error file is gone")


def test_ctrl_c_while_waiting_leaves_the_job_on_its_way(working: Installation) -> None:
    scan, who = written(working, "held scan.pdf"), patient()
    with waiting_at_stored(working, "send", str(scan), "--account", "north_clinic", "--patient", who) as waiting:
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate()
    assert waiting.returncode == 1
    assert "chartpost show" in said
    assert "Traceback" not in said
    working.world.world(hold_validation=None)
    wait_until(lambda: working.chart(patient_id=who), "the document arrives")
    wait_until(working.receipts, "the receipt is written")


def test_a_cancelled_document_lies_in_failed_and_can_be_retried_after_a_wipe(working: Installation) -> None:
    scan, who = written(working, "scan.pdf"), patient()
    working.world.world(storage_down="503")
    sent = working.command("send", str(scan), "--account", "north_clinic", "--patient", who)
    job_id = sent.stdout.strip()
    assert working.command("cancel", job_id).returncode == 0
    error = wait_until(working.errors, "the error file is written")[0]
    assert (error["code"], error["job_id"]) == ("cancelled", job_id)
    wait_until(lambda: not list(working.data.glob("processing/*")), "the file has left our care")
    working.redis.flushall()
    working.world.world(storage_down=None)
    wait_until(lambda: working.process.workers.alive(), "the worker consumes")
    retried = working.command("retry", job_id)
    assert retried.returncode == 0, retried.stdout + retried.stderr
    wait_until(lambda: working.chart(patient_id=who), "the document arrives")
    receipt = wait_until(working.receipts, "the receipt is written")[0]
    assert receipt["job_id"] == job_id
    wait_until(lambda: not working.errors(), "its error file is gone")
    assert len(working.chart(patient_id=who)) == 1


def test_a_stream_message_and_its_outcome_are_found_by_the_entrys_id(working: Installation) -> None:
    working.start("worker", "intake")
    good = {"account": "north_clinic", "patient_id": patient(), "source": working.write("scan.pdf", b"a scan")}
    bad = {**good, "source": working.write("empty.pdf", b"")}
    entries = [str(working.redis.xadd("chartpost:intake", {"job": json.dumps(one)})) for one in (good, bad)]

    def events() -> list[dict[str, str]]:
        found: Any = working.redis.xrange("chartpost:events")
        return [fields for _, fields in found]

    wait_until(lambda: len(events()) == 2, "both have ended")
    assert {event["stream_id"]: event["state"] for event in events()} == dict(
        zip(entries, ["delivered", "failed"], strict=True)
    )
    shown = [json.loads(working.command("show", entry, "--json").stdout) for entry in entries]
    assert shown[0]["receipt"]["record"]["id"]
    assert shown[1]["error"]["code"] == "file_empty"
    assert working.command("health").returncode == 0
