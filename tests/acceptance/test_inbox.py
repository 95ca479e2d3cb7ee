"""The main job: files dropped into a folder end in `delivered/`, once in the chart, with a true receipt."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.harness.installation import Installation, impatient, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until

NAMES = (
    "referral.pdf",
    "with spaces in it.pdf",
    "Überweisung Größe.pdf",
    "naïve café ☕.pdf",
    "it's quoted.pdf",
    'say "ah".pdf',
    "archive.tar.gz",
    "scan.pdf.pdf",
    "UPPER.PDF",
    "no-suffix",
    "semi;colon.pdf",
    "100%25.pdf",
    "a+b&c=d.pdf",
    "日本語.pdf",
    "dots...pdf",
    "x" * 200 + ".pdf",
)


WAITING = "south_clinic"
"""The account whose documents wait in vain for their confirmation."""


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory, world: SandboxProcess) -> Iterator[Installation]:
    """A clinic with a worker and a watcher, for the tests that harm neither."""
    with installed(tmp_path_factory.mktemp("inbox") / "clinic", world) as started:
        started.start("worker", "watch")
        started.start_worker(**impatient(WAITING))
        yield started


@pytest.fixture(autouse=True)
def world_as_before(world: SandboxProcess) -> Iterator[None]:
    yield
    world.world(reset=True)


def test_forty_mixed_documents_are_each_exactly_once_in_the_chart(at_work: Installation) -> None:
    rng = random.Random(7)
    patients = [f"i{uuid4()}" for _ in range(4)]
    dropped = []
    for number in range(40):
        name, patient = NAMES[number % len(NAMES)], patients[number % 3 if number < 38 else 3]
        size = 1 if number == 0 else 5_000_000 if number in (1, 2) else rng.randint(2, 300_000)
        content = rng.randbytes(size)
        if number >= 38:  # the same name twice for one patient, with other bytes
            name = "twice.pdf"
            wait_until(lambda: not list((at_work.data / "inbox").rglob("twice.pdf")), "the first was claimed")
        at_work.drop(patient, name, content)
        dropped.append((patient, name, hashlib.sha256(content).hexdigest()))
    mine = wait_until(lambda: settled(at_work, patients, 40), "forty receipts")
    charts = [record for patient in patients for record in at_work.chart(patient_id=patient)]
    assert sorted((r["patient_id"], r["file_name"], r["sha256"]) for r in charts) == sorted(dropped)
    by_record = {record["record_id"]: record for record in charts}
    for receipt in mine:
        record = by_record[receipt["record"]["id"]]
        for field in ("patient_id", "file_name", "size_bytes", "sha256"):
            assert receipt[field] == record[field], field
        assert receipt["assurance"] == "confirmed"
    wait_until(lambda: not list((at_work.data / "processing").iterdir()), "all are where they belong")
    kept = [path for path in at_work.data.glob("delivered/**/*") if path.is_file() and not path.name.endswith(".json")]
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}
    assert {digest for _, _, digest in dropped} <= digests


def settled(clinic: Installation, patients: list[str], count: int) -> list[dict[str, object]]:
    mine = [receipt for receipt in clinic.receipts() if receipt["patient_id"] in patients]
    return mine if len(mine) == count else []


def test_each_kind_of_wrong_file_fails_or_stays_and_the_good_one_behind_is_delivered(at_work: Installation) -> None:
    patient = f"w{uuid4()}"
    inbox = at_work.data / "inbox"
    at_work.drop(patient, "empty.pdf", b"")
    large = at_work.drop(patient, ".large.pdf", b"")
    os.truncate(large, 100_000_001)
    large.rename(large.with_name("large.pdf"))
    at_work.drop("404" + patient, "nobody.pdf", b"unknown patient")
    at_work.drop(patient, "INVALID.pdf", b"dropped by validation", WAITING)
    at_work.drop(None, "no patient.pdf", b"lies beside the patients' folders")
    folder = inbox / "north_clinic" / patient
    (folder / "bad.pdf.meta.json").write_text("{not json")
    at_work.drop(patient, "bad.pdf", b"with a sidecar that cannot be read")
    (folder / "link.pdf").symlink_to(at_work.config)
    os.mkfifo(folder / "pipe.pdf")
    (folder / "half.pdf.part").write_bytes(b"half")
    at_work.drop(patient, "elsewhere.pdf", b"x", account="nobody_clinic")
    (folder / "good.pdf.meta.json").write_text('{"file_name": "Given name.pdf"}')
    at_work.drop(patient, "good.pdf", b"good")
    wait_until(lambda: settled(at_work, [patient], 1), "the good one is delivered")
    patients = (patient, "404" + patient, None)

    def failures() -> list[dict[str, object]]:
        return [error for error in at_work.errors() if error["patient_id"] in patients]

    errors = wait_until(lambda: len(failures()) >= 6 and failures(), "six error files")
    assert {error["file_name"]: error["code"] for error in errors} == {
        "empty.pdf": "file_empty",
        "large.pdf": "file_too_large",
        "nobody.pdf": "refused_by_provider",
        "INVALID.pdf": "not_confirmed",
        "no patient.pdf": "patient_required",
        "bad.pdf": "invalid_request",
    }
    assert all(error["message"] and error["hint"] for error in errors)
    assert [record["file_name"] for record in at_work.chart(patient_id=patient)] == ["Given name.pdf"]
    for left in ("link.pdf", "pipe.pdf", "half.pdf.part"):
        assert os.path.lexists(folder / left)
    assert (inbox / "nobody_clinic" / patient / "elsewhere.pdf").exists()
    failed = at_work.data / "failed"
    lying = [failed / "north_clinic" / patient / name for name in ("empty.pdf", "large.pdf", "bad.pdf")]
    lying.append(failed / WAITING / patient / "INVALID.pdf")
    wait_until(lambda: all(path.exists() for path in lying), "the documents lie beside their error files")


def test_a_file_that_is_still_being_written_is_not_taken_before_it_holds_still(at_work: Installation) -> None:
    patient = f"h{uuid4()}"
    path = at_work.drop(patient, ".growing.pdf", b"begun")
    with path.open("ab", buffering=0) as file:
        path = path.rename(path.with_name("growing.pdf"))
        for _ in range(6):
            file.write(b" more" * 100)
            time.sleep(0.15)
        size = path.stat().st_size
    [receipt] = wait_until(lambda: settled(at_work, [patient], 1), "it is delivered")
    assert receipt["size_bytes"] == size


def test_the_same_document_again_is_skipped_as_a_duplicate(at_work: Installation) -> None:
    patient = f"d{uuid4()}"
    for _ in range(2):
        at_work.drop(patient, "same.pdf", b"the same bytes")
        wait_until(lambda: not list((at_work.data / "inbox").rglob("same.pdf")), "it was claimed")
    receipts = wait_until(lambda: settled(at_work, [patient], 2), "two receipts")
    assert sorted(receipt.get("code", "") for receipt in receipts) == ["", "duplicate"]
    assert len({receipt["record"]["id"] for receipt in receipts}) == 1
    assert len(at_work.chart(patient_id=patient)) == 1


def test_a_failed_file_moved_back_to_the_inbox_is_tried_again(at_work: Installation) -> None:
    patient = f"b{uuid4()}"
    at_work.drop(patient, "again.pdf", b"")
    failed = at_work.data / "failed" / "north_clinic" / patient / "again.pdf"
    wait_until(lambda: error_beside(failed), "it fails")
    failed.write_bytes(b"now it has content")
    failed.rename(at_work.data / "inbox" / "north_clinic" / patient / "again.pdf")
    wait_until(lambda: settled(at_work, [patient], 1), "it is delivered")
    assert len(at_work.chart(patient_id=patient)) == 1


def test_a_wiped_redis_loses_no_inbox_file_and_doubles_none(north: Installation) -> None:
    patient = f"r{uuid4()}"
    north.start("worker", "watch")
    worker = north.start_worker()
    names = [f"{'LOST' if n % 3 == 0 else 'SLOW-2' if n % 3 == 1 else 'plain'} {n}.pdf" for n in range(9)]
    for name in names:
        north.drop(patient, name, name.encode())
    wait_until(lambda: len(north.chart(patient_id=patient)) >= 2, "some are under way")
    north.redis.flushall()
    wait_until(lambda: len(settled(north, [patient], 9)) == 9, "all are delivered")
    assert worker.process.poll() is None
    assert sorted(record["file_name"] for record in north.chart(patient_id=patient)) == sorted(names)


def test_a_killed_watcher_is_followed_by_one_that_finishes_its_work(north: Installation) -> None:
    patient = f"x{uuid4()}"
    north.start_worker()
    for number in range(60):
        north.drop(patient, f"{number}.pdf", f"document {number}".encode())
    for _ in range(3):
        left = files_in_the_inbox(north)
        watcher = north.start("worker", "watch")
        wait_until(lambda: files_in_the_inbox(north) < left, "it claims")  # noqa: B023
        time.sleep(random.random() / 10)
        watcher.kill()
    north.start("worker", "watch")
    wait_until(lambda: settled(north, [patient], 60), "all are delivered")
    assert len(north.chart(patient_id=patient)) == 60


def files_in_the_inbox(clinic: Installation) -> int:
    return sum(len(files) for _, _, files in os.walk(clinic.data / "inbox"))


def test_a_record_that_comes_late_turns_the_failure_into_a_delivery(at_work: Installation) -> None:
    patient = f"l{uuid4()}"
    at_work.world.world(hold_validation="late.pdf")
    at_work.drop(patient, "late.pdf", b"later than its patience", WAITING)
    failed = at_work.data / "failed" / WAITING / patient / "late.pdf"
    error = wait_until(lambda: error_beside(failed), "it is not confirmed")
    assert (error["code"], error["final"]) == ("not_confirmed", False)
    at_work.world.world(hold_validation=None)
    [receipt] = wait_until(lambda: settled(at_work, [patient], 1), "its record appears after all")
    assert receipt["job_id"] == error["job_id"]
    # The receipt is written first: a kill after it must find it. What lies in failed/ leaves last.
    wait_until(lambda: not failed.exists() and not error_file_of(failed).exists(), "nothing is left in failed/")
    assert len(at_work.chart(patient_id=patient)) == 1


def test_a_file_moved_back_while_its_record_may_still_come_continues_the_same_job_and_is_not_sent(
    at_work: Installation,
) -> None:
    patient = f"m{uuid4()}"
    at_work.world.world(hold_validation="back.pdf")
    at_work.drop(patient, "back.pdf", b"moved back meanwhile", WAITING)
    failed = at_work.data / "failed" / WAITING / patient / "back.pdf"
    error = wait_until(lambda: error_beside(failed), "it is not confirmed")
    failed.rename(at_work.data / "inbox" / WAITING / patient / "back.pdf")
    wait_until(lambda: not error_file_of(failed).exists(), "its job goes on")
    at_work.world.world(hold_validation=None)
    [receipt] = wait_until(lambda: settled(at_work, [patient], 1), "it is delivered")
    assert receipt["job_id"] == error["job_id"]
    assert len(at_work.chart(patient_id=patient)) == 1


def error_beside(path: Path) -> dict[str, object] | None:
    """The error file of a document in failed/, once the document, which comes last, lies beside it."""
    companion = error_file_of(path)
    return json.loads(companion.read_text()) if path.exists() and companion.exists() else None


def error_file_of(path: Path) -> Path:
    return path.with_name(path.name + ".error.json")
