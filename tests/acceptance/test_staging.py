"""Two machines on one Redis: the watcher stages inbox files to S3, a worker that has none of its folders sends them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.harness.installation import Installation, impatient, installed
from tests.harness.sandbox import SandboxProcess
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
