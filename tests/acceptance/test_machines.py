"""Two machines on one Redis without staging: each has its own folders, and does what its own documents need."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.harness.installation import LEASE_SECONDS, Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until


@pytest.fixture
def machines(tmp_path: Path, world: SandboxProcess) -> Iterator[tuple[Installation, Installation]]:
    """The machine with the inbox, and another with the same settings and folders of its own."""
    with (
        installed(tmp_path / "here", world) as here,
        installed(tmp_path / "there", world, here.redis_url) as there,
    ):
        yield here, there


def drop_many(machine: Installation, patient: str, count: int) -> set[str]:
    names = {f"document-{number}.pdf" for number in range(count)}
    for name in sorted(names):
        machine.drop(patient, name, f"{patient} {name}".encode())
    return names


def closed_files(machine: Installation) -> list[Path]:
    """Every receipt and error file of a machine."""
    return [*(machine.data / "delivered").rglob("*.json"), *(machine.data / "failed").rglob("*.json")]


def in_care(machine: Installation) -> list[Path]:
    return list((machine.data / "processing").iterdir()) if (machine.data / "processing").exists() else []


def test_a_worker_beside_the_inbox_does_it_all_and_one_elsewhere_takes_no_part(
    machines: tuple[Installation, Installation],
) -> None:
    here, there = machines
    patient = f"m{uuid4()}"
    watcher = here.start("worker", "watch")
    there.start_worker()
    here.start_worker()
    names = drop_many(here, patient, 30)

    wait_until(lambda: len(here.receipts()) == 30, "thirty receipts are here")
    wait_until(lambda: not in_care(here), "no document is left in our care")
    assert sorted(record["file_name"] for record in here.chart(patient_id=patient)) == sorted(names)
    assert here.errors() == []
    assert closed_files(there) == []
    assert "document_recovered" not in watcher.log


def test_documents_wait_for_a_worker_of_their_machine_and_cost_the_others_nothing(
    machines: tuple[Installation, Installation],
) -> None:
    here, there = machines
    patient = f"m{uuid4()}"
    here.start("worker", "watch")
    elsewhere = there.start_worker()
    names = drop_many(here, patient, 6)
    wait_until(lambda: len(in_care(here)) == 6, "they are in our care")
    called = there.upload(there.write("called.pdf", b"called"), patient)
    assert called.get(timeout=60)["assurance"] == "confirmed", "what needs no folder goes on"
    time.sleep(2 * LEASE_SECONDS)

    assert {here.stage(folder.name) for folder in in_care(here)} == {"received"}
    assert "step_not_started" not in elsewhere.log, "it is not given them again and again"
    assert closed_files(here) == closed_files(there) == []
    waits = f"for a worker on machine {platform.node()} ({str(here.process.machine.name())[:8]})"
    job_id = in_care(here)[0].name
    for words in (("check",), ("accounts",), ("jobs",), ("show", job_id)):
        assert waits in there.command(*words).stdout, words
    assert there.command("check").returncode == 1

    here.start_worker()
    wait_until(lambda: len(here.receipts()) == 6, "six receipts are here")
    assert {record["file_name"] for record in here.chart(patient_id=patient)} == names | {"called.pdf"}
    assert closed_files(there) == []


def test_the_watcher_closes_what_no_worker_of_its_machine_closes(machines: tuple[Installation, Installation]) -> None:
    here, there = machines
    here.start("worker", "watch")
    there.start_worker()
    here.drop(f"m{uuid4()}", "empty.pdf", b"")
    [error] = wait_until(here.errors, "the error file is here")
    assert error["code"] == "file_empty"
    wait_until(lambda: not in_care(here), "no document is left in our care")
    assert closed_files(there) == []


def test_a_copy_of_the_folders_takes_a_name_of_its_own_and_receipts_stay_at_home(
    machines: tuple[Installation, Installation],
) -> None:
    here, there = machines
    here.start_worker().stop()
    shutil.copytree(here.data, there.data, dirs_exist_ok=True)  # a host made from another's image
    before = here.process.machine.name()
    here.start("worker", "watch")
    here.start_worker()
    there.start("worker", "watch")
    there.start_worker()
    patients = {here: f"here{uuid4()}", there: f"there{uuid4()}"}
    for machine, patient in patients.items():
        drop_many(machine, patient, 10)

    for machine, patient in patients.items():
        wait_until(lambda: len(machine.receipts()) == 10, "ten receipts are where their documents were")  # noqa: B023
        assert {receipt["patient_id"] for receipt in machine.receipts()} == {patient}
        assert len(machine.chart(patient_id=patient)) == 10
        assert machine.errors() == []
        wait_until(lambda: not in_care(machine), "no document is left in our care")  # noqa: B023
    names = {(machine.data / "machine").read_text().split()[0] for machine in machines}
    assert len(names) == 2
    assert before in names, "one of them keeps the name"


def test_moved_folders_keep_their_name_and_the_documents_in_them_go_on(tmp_path: Path, world: SandboxProcess) -> None:
    with installed(tmp_path / "clinic", world) as clinic:
        worker = clinic.start_worker()
        wait_until(lambda: len((clinic.data / "machine").read_text().split()) == 2, "the name is held")
        name = clinic.process.machine.name()
        worker.stop()
        watcher = clinic.start("worker", "watch")
        clinic.drop(f"m{uuid4()}", "waiting.pdf", b"it waits for a worker")
        wait_until(lambda: clinic.redis.zcard("chartpost:jobs"), "its job is open")
        watcher.stop()
        moved = clinic.data.with_name("moved")
        clinic.data.rename(moved)
        clinic.config.write_text(clinic.config.read_text().replace(str(clinic.data), str(moved)))
        clinic.data = moved
        del clinic._process
        clinic.start("worker", "watch")
        clinic.start_worker()
        clinic.drop(f"m{uuid4()}", "scan.pdf", b"a scan")
        wait_until(lambda: len(clinic.receipts()) == 2, "both receipts")
        assert clinic.errors() == []
        assert (moved / "machine").read_text().split()[0] == name


def test_a_closed_job_whose_document_is_still_in_our_care_is_closed_once(
    machines: tuple[Installation, Installation],
) -> None:
    here, _ = machines
    patient = f"m{uuid4()}"
    watcher = here.start("worker", "watch")
    here.drop(patient, "scan.pdf", b"a scan")
    [folder] = wait_until(lambda: in_care(here), "it is in our care")
    wait_until(lambda: here.stage(folder.name) == "received", "its job is open, so its folder is whole")
    kept = here.folder / "kept"
    shutil.copytree(folder, kept)
    worker = here.start_worker()
    [receipt] = wait_until(here.receipts, "the receipt")
    wait_until(lambda: here.redis.hget(f"chartpost:job:{folder.name}", "step") == "", "its job is closed")
    worker.stop()
    watcher.stop()
    # As a worker on another machine left it in earlier versions: closed, with its document here and no receipt.
    shutil.rmtree(here.data / "delivered")
    shutil.copytree(kept, folder)
    watcher = here.start("worker", "watch")

    [again] = wait_until(here.receipts, "the receipt is here")
    assert (again["job_id"], again["record"]) == (receipt["job_id"], receipt["record"])
    wait_until(lambda: not in_care(here), "no document is left in our care")
    watcher.stop()
    assert watcher.log.count("document_closed") == 1
    assert "document_recovered" not in watcher.log
    assert len(here.chart(patient_id=patient)) == 1
