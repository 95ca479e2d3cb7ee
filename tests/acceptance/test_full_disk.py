"""A disk that is full at the worst moments: nothing is lost, nothing goes twice, and all goes on once there is room."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.harness import formats
from tests.harness.installation import Installation, impatient, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.small_disk import NoSmallDisk, SmallDisk, small_disk
from tests.harness.waiting import PATIENCE_SECONDS, wait_until

MEGABYTES = 4
NO_SPACE = '"reason": "OSError 28"'
PDF = formats.pdf(filler_bytes=480_000)

Mounted = Callable[[str], AbstractContextManager[tuple[Installation, SmallDisk]]]


@pytest.fixture
def clinic_with(tmp_path: Path, world: SandboxProcess, valkey_url: str) -> Iterator[Mounted]:
    """A clinic whose folder of this name, below its data folder, is a small disk; "" is the data folder itself."""

    @contextmanager
    def mounted(name: str) -> Iterator[tuple[Installation, SmallDisk]]:
        with installed(tmp_path / "clinic", world, valkey_url) as started:
            folder = started.data / name
            folder.mkdir(parents=True)
            try:
                with small_disk(folder, MEGABYTES) as disk:
                    started.inside = disk.inside
                    started.data = started.data if name else disk.path
                    yield started, disk
                    started.stop()
            except NoSmallDisk as why:
                pytest.skip(f"a small disk needs `unshare` with user namespaces, or root, and neither does here: {why}")

    yield mounted
    world.world(reset=True)


def test_a_disk_that_is_full_while_a_file_is_copied_from_the_inbox_leaves_it_there_until_there_is_room(
    clinic_with: Mounted,
) -> None:
    patient = f"d{uuid4()}"
    with clinic_with("processing") as (north, disk):
        disk.fill(but_bytes=len(PDF) // 2)
        watcher = north.start("worker", "watch")
        north.start_worker()
        dropped = north.drop(patient, "scan.pdf", PDF)
        wait_until(lambda: "ENOSPC" in watcher.log, "the watcher says that the disk is full")
        wait_until(lambda: dropped.exists() and dropped.read_bytes() == PDF, "the file is back in the inbox, whole")
        assert "inbox_paused" in watcher.log
        disk.make_room()
        assert_delivered_once(north, patient, "scan.pdf")
        assert [path for path in disk.path.iterdir() if not path.name.startswith(".")] == []


def test_a_disk_that_is_full_at_the_commit_point_lets_nothing_leave_until_there_is_room(clinic_with: Mounted) -> None:
    patient = f"d{uuid4()}"
    with clinic_with("") as (north, disk):
        north.world.world(down={"pracsuite": "503"})
        north.start("worker", "watch")
        worker = north.start_worker()
        north.drop(patient, "scan.pdf", PDF)
        wait_until(lambda: list(disk.path.glob("processing/*/scan.pdf")), "the document is in our care")
        disk.fill()
        north.world.world(down={"pracsuite": None})
        wait_until(lambda: "job.json cannot be written" in worker.log, "the worker says that nothing was sent")
        assert north.chart(patient_id=patient) == []
        disk.make_room()
        assert "outcome_unknown" not in worker.log, "what certainly did not leave is not looked for"
        assert_delivered_once(north, patient, "scan.pdf")


@pytest.mark.parametrize(("name", "folder"), [("held.pdf", "delivered"), ("held INVALID.pdf", "failed")])
def test_a_disk_that_is_full_at_closing_keeps_the_document_until_there_is_room_for_its_companion(
    clinic_with: Mounted, name: str, folder: str
) -> None:
    patient = f"d{uuid4()}"
    with clinic_with("") as (north, disk):
        north.world.world(hold_validation="held")
        north.start("worker", "watch")
        worker = north.start_worker(**({} if folder == "delivered" else impatient("north_clinic")))
        north.drop(patient, name, PDF)
        wait_until(lambda: north.redis.zcard("chartpost:open:north_clinic"), "its job is opened")
        [job] = north.redis.zrange("chartpost:jobs", 0, -1)
        wait_until(lambda: north.stage(str(job)) == "stored", "it is stored")
        disk.fill()
        north.world.world(hold_validation=None)
        wait_until(lambda: NO_SPACE in worker.log, "the worker says that the disk is full")
        assert list(disk.path.glob(f"processing/*/{name}")), "the document is still in our care"
        assert list(disk.path.glob(f"{folder}/**/*.json")) == []
        disk.make_room()
        if folder == "delivered":
            assert_delivered_once(north, patient, name)
        else:
            wait_until(north.errors, "the error file is written")
            assert north.errors()[0]["code"] == "not_confirmed"
            wait_until(lambda: not list(disk.path.glob("processing/*")), "processing/ is empty")
            assert (disk.path / "failed" / "north_clinic" / patient / name).read_bytes() == PDF


def test_check_and_health_say_that_the_disk_is_full_until_there_is_room(clinic_with: Mounted) -> None:
    with clinic_with("") as (north, disk):
        north.start("worker", "watch")
        north.start_worker()
        wait_until((disk.path / "processing").exists, "the watcher has made its folders")
        assert ended(north, "health")[0] == 0
        disk.fill()
        exit_code, said = ended(north, "check", "--json")
        rows = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        faults = {row["check"]: row["message"] for row in rows if not row["ok"]}
        assert exit_code == 1
        assert "nothing can be written there (No space left on device): make room" in faults["folders"]
        assert len([row for row in rows if row["check"] == "folders" and not row["ok"]]) == 1
        assert "its disk has 0 MB free, and should have 2" in faults["disk"]
        assert not [row for row in rows if "can be written." in row["message"]]
        exit_code, said = ended(north, "health")
        assert (exit_code, "make room on its disk" in said) == (1, True)
        disk.make_room()
        assert ended(north, "health")[0] == 0
        assert not [path for path in disk.path.rglob("*") if "write-test" in path.name]


def test_a_full_disk_of_the_embedded_server_is_named_as_such(tmp_path: Path, world: SandboxProcess) -> None:
    clinic = Installation(tmp_path, world, redis_url="")
    clinic.data.mkdir()
    try:
        with small_disk(clinic.data, MEGABYTES) as disk:
            clinic.inside, clinic.data = disk.inside, disk.path
            run = clinic.start("worker", "run")
            try:
                wait_until(lambda: '"event": "ready"' in run.log, "it is ready")
                disk.fill()
                wait_until(lambda: "MISCONF" in ended(clinic, "check")[1], "its server takes no writes")
                said = ended(clinic, "check")[1]
                assert "cannot write to its own disk (MISCONF" in said
                assert "make room on that disk" in said
                assert "redis.url" not in said
                disk.make_room()
                wait_until(lambda: ended(clinic, "health")[0] == 0, "it goes on by itself")
            finally:
                run.stop()
    except NoSmallDisk as why:
        pytest.skip(f"a small disk needs `unshare` with user namespaces, or root, and neither does here: {why}")


def ended(clinic: Installation, *command: str) -> tuple[int, str]:
    """Run `chartpost` where the small disk is mounted: its exit code and what it printed."""
    child = clinic.start("worker", *command)
    return child.process.wait(PATIENCE_SECONDS), child.log


def assert_delivered_once(clinic: Installation, patient: str, name: str) -> None:
    wait_until(clinic.receipts, "the receipt is written")
    [record] = clinic.chart(patient_id=patient)
    [receipt] = clinic.receipts()
    assert (receipt["file_name"], receipt["record"]["id"]) == (name, record["record_id"])
    delivered = clinic.data / "delivered" / "north_clinic" / patient / name
    wait_until(delivered.exists, "the document lies beside its receipt")
    assert delivered.read_bytes() == PDF
