"""Two machines on one Redis: the watcher stages inbox files to S3, a worker that has none of its folders sends them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.harness.installation import Child, Installation, impatient, installed
from tests.harness.sandbox import ROOT, SandboxProcess
from tests.harness.waiting import wait_until


@pytest.fixture
def machines(tmp_path: Path, world: SandboxProcess) -> Iterator[tuple[Installation, Installation]]:
    """The machine with the folders, and another with the worker."""
    with (
        installed(tmp_path / "folders", world) as here,
        installed(tmp_path / "elsewhere", world, here.redis_url) as there,
    ):
        for machine in (here, there):
            settings = machine.config.read_text()
            machine.config.write_text(settings.replace("[s3]", '[s3]\nstage_inbox = "s3://sources/staged"', 1))
        yield here, there


def staged(machine: Installation) -> list[str]:
    listed = machine.world.objects().list_objects_v2(Bucket="sources", Prefix="staged/")
    return [entry["Key"] for entry in listed.get("Contents", [])]


def test_staged_files_are_delivered_by_a_worker_elsewhere_and_closed_where_their_folders_are(
    machines: tuple[Installation, Installation],
) -> None:
    here, there = machines
    patient = f"s{uuid4()}"
    here.start("worker", "watch", **here.world.aws_environment)
    there.start_worker(**there.world.aws_environment, **impatient("south_clinic"))
    here.drop(patient, "INVALID.pdf", b"never confirmed", "south_clinic")
    for name in ("plain.pdf", "LOST.pdf", "SLOW-1.pdf"):
        here.drop(patient, name, name.encode())
    receipts = wait_until(lambda: len(here.receipts()) == 3 and here.receipts(), "three receipts")
    assert {receipt["file_name"] for receipt in receipts} == {"plain.pdf", "LOST.pdf", "SLOW-1.pdf"}
    [error] = wait_until(here.errors, "the error file")
    assert error["code"] == "not_confirmed"
    assert sorted(record["file_name"] for record in here.chart(patient_id=patient)) == sorted(
        receipt["file_name"] for receipt in receipts
    )
    wait_until(lambda: not list((here.data / "processing").iterdir()), "all are where they belong")
    assert not (there.data / "delivered").exists() or not list((there.data / "delivered").rglob("*.json"))
    delivered = [receipt["job_id"] for receipt in receipts]
    wait_until(
        lambda: not [key for key in staged(here) if any(job in key for job in delivered)],
        "what was delivered is staged no more",
    )
    assert patient not in json.dumps(staged(here))


def test_a_wiped_redis_does_not_make_a_staged_document_go_twice(machines: tuple[Installation, Installation]) -> None:
    here, there = machines
    patient = f"s{uuid4()}"
    here.start("worker", "watch", **here.world.aws_environment)
    worker = there.start_worker(**there.world.aws_environment)
    here.drop(patient, "STALL-3.pdf", b"its answer takes its time")
    wait_until(lambda: here.chart(patient_id=patient), "it is in the chart before its answer has come")
    here.redis.flushall()
    worker.kill()
    there.start_worker(**there.world.aws_environment)
    wait_until(here.receipts, "the receipt")
    assert len(here.chart(patient_id=patient)) == 1


def test_a_refused_document_is_closed_where_its_folders_are(machines: tuple[Installation, Installation]) -> None:
    here, there = machines
    here.start("worker", "watch", **here.world.aws_environment)
    there.start_worker(**there.world.aws_environment)
    here.drop(f"s{uuid4()}", "empty.pdf", b"")
    [error] = wait_until(here.errors, "the error file")
    assert error["code"] == "file_empty"
    assert not (there.data / "failed").exists() or not list((there.data / "failed").rglob("*.json"))


# --- a bucket that cannot be used ----------------------------------------------------------------------------------


def stage_at(machine: Installation, bucket: str) -> None:
    settings = machine.config.read_text()
    machine.config.write_text(settings.replace("s3://sources/staged", f"s3://{bucket}/staged", 1))


def checked_staging(machine: Installation, **environ: str) -> dict[str, Any]:
    """The line of `check` about staging."""
    environ = {**os.environ, "CHARTPOST_CONFIG": str(machine.config), **environ}
    command = [sys.executable, "-m", "worker", "check", "--json"]
    run = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    [line] = [line for line in map(json.loads, run.stdout.splitlines()) if line["check"] == "staging"]
    assert run.returncode == 1 or line["ok"]
    return dict(line)


def paused_for(watcher: Child) -> list[str]:
    lines = [json.loads(line) for line in watcher.log.splitlines() if line.startswith("{")]
    return [line["reason"] for line in lines if line["event"] == "inbox_paused"]


def drop_five(machine: Installation, patient: str) -> None:
    for number in range(5):
        machine.drop(patient, f"{number}.pdf", f"{patient} {number}".encode())


def test_a_missing_bucket_pauses_the_inbox_by_its_name_until_it_is_there(
    machines: tuple[Installation, Installation],
) -> None:
    here, there = machines
    patient, bucket = f"s{uuid4()}", f"clinic-{uuid4()}"
    for machine in machines:
        stage_at(machine, bucket)
    keys = here.world.aws_environment
    assert "the bucket is not there" in checked_staging(here, **keys)["message"]
    watcher = here.start("worker", "watch", **keys)
    there.start_worker(**keys)
    drop_five(here, patient)
    wait_until(lambda: paused_for(watcher), "the inbox is paused")
    assert paused_for(watcher) == ["staging: the bucket is not there"]
    assert here.errors() == []

    here.world.objects().create_bucket(Bucket=bucket)
    wait_until(lambda: len(here.receipts()) == 5, "all five are delivered")
    assert "inbox_resumed" in watcher.log
    assert here.errors() == []
    assert checked_staging(here, **keys)["ok"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "the secret key is wrong"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "the access key is not known"),
    ],
    ids=["secret", "key"],
)
def test_wrong_keys_pause_the_inbox_by_their_name_and_fail_no_document(
    machines: tuple[Installation, Installation], wrong: dict[str, str], why: str
) -> None:
    here, there = machines
    keys = here.world.aws_environment
    assert why in checked_staging(here, **{**keys, **wrong})["message"]
    watcher = here.start("worker", "watch", **{**keys, **wrong})
    there.start_worker(**keys)
    drop_five(here, f"s{uuid4()}")
    wait_until(lambda: paused_for(watcher), "the inbox is paused")
    assert paused_for(watcher) == [f"staging: {why}"]
    watcher.stop()
    here.start("worker", "watch", **keys)
    wait_until(lambda: len(here.receipts()) == 5, "all five are delivered")
    assert here.errors() == []


def test_a_worker_that_may_not_read_the_bucket_fails_no_document(machines: tuple[Installation, Installation]) -> None:
    here, there = machines
    keys = here.world.aws_environment
    here.start("worker", "watch", **keys)
    worker = there.start_worker(**{**keys, "AWS_SECRET_ACCESS_KEY": "wrong"})
    here.drop(f"s{uuid4()}", "scan.pdf", b"a scan")
    wait_until(lambda: "SignatureDoesNotMatch: check the worker's S3 credentials" in worker.log, "the reason is logged")
    worker.stop()
    there.start_worker(**keys)
    wait_until(here.receipts, "the receipt")
    assert here.errors() == []
