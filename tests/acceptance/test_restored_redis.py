"""Redis comes back from an older copy, made while documents waited that have all been delivered since."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.harness.installation import Child, Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.valkey import FaultyValkey, wait_until_written
from tests.harness.waiting import wait_until

EACH = 6


class CopiedValkey(FaultyValkey):
    """A server of which a copy is made, to which it is set back."""

    def copy(self) -> None:
        self._copied = self._folder.with_name("copy")
        shutil.copytree(self._folder, self._copied)

    def restore(self) -> None:
        """Killed, and started with the copy."""
        self.kill()
        shutil.rmtree(self._folder)
        shutil.copytree(self._copied, self._folder)
        self.start()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CopiedValkey]:
    server = CopiedValkey(tmp_path / "valkey")
    yield server
    server.stop()


@pytest.fixture
def clinic(tmp_path: Path, world: SandboxProcess, server: CopiedValkey) -> Iterator[Installation]:
    with installed(tmp_path / "clinic", world, server.start()) as started:
        yield started
    world.world(reset=True)


def start_all(clinic: Installation) -> list[Child]:
    return [clinic.start("worker", "watch"), clinic.start("worker", "intake"), clinic.start_worker()]


def calls(clinic: Installation, patient: str) -> list[str]:
    return [
        clinic.send(clinic.write(f"{patient}-called-{n}.pdf", f"{patient} called {n}".encode()), patient)
        for n in range(EACH)
    ]


def messages(clinic: Installation, patient: str) -> list[str]:
    ids = []
    for n in range(EACH):
        source = clinic.write(f"{patient}-streamed-{n}.pdf", f"{patient} streamed {n}".encode())
        ids.append(str(uuid4()))
        job = {"account": clinic.account, "patient_id": patient, "source": source, "job_id": ids[-1]}
        clinic.redis.xadd("chartpost:intake", {"job": json.dumps(job)})
    return ids


def delivered(clinic: Installation, ids: list[str]) -> bool:
    return all(clinic.stage(job_id) == "delivered" for job_id in ids)


def nothing_left(clinic: Installation) -> bool:
    return all(clinic.redis.zcard(key) == 0 for key in clinic.redis.scan_iter("chartpost:due:*"))


@pytest.mark.parametrize("opened", [True, False], ids=["jobs in the copy", "messages in the copy"])
def test_what_was_sent_after_the_copy_is_found_and_not_sent_again(
    clinic: Installation, server: CopiedValkey, world: SandboxProcess, opened: bool
) -> None:
    patient = f"r{uuid4()}"
    world.world(down={"pracsuite": "503"})
    if opened:
        start_all(clinic)
    for n in range(EACH):
        clinic.drop(patient, f"dropped-{n}.pdf", f"{patient} dropped {n}".encode())
    ids = [*calls(clinic, patient), *messages(clinic, patient)]
    if opened:
        wait_until(lambda: clinic.redis.zcard("chartpost:jobs") == 3 * EACH, "all are open")
        wait_until(lambda: not clinic.redis.llen("chartpost"), "every call is read")
        # It gives its folders a new mark when it starts. A copy without that mark belongs to other folders.
        wait_until(lambda: list(clinic.redis.scan_iter("chartpost:watcher:*")), "the watcher holds its machine's name")
    wait_until_written(clinic.redis)
    server.copy()
    world.world(reset=True)
    if not opened:
        start_all(clinic)
    wait_until(lambda: delivered(clinic, ids) and len(clinic.receipts()) == EACH, "all are delivered")
    names = sorted(record["file_name"] for record in clinic.chart(patient_id=patient))
    assert len(names) == 3 * EACH
    wait_until(lambda: nothing_left(clinic), "all are closed")

    server.restore()

    wait_until(lambda: delivered(clinic, ids), "all are delivered again, in the restored Redis")
    wait_until(lambda: nothing_left(clinic), "all are closed")
    assert sorted(record["file_name"] for record in clinic.chart(patient_id=patient)) == names
    assert clinic.errors() == []
    assert len(clinic.receipts()) == EACH
    states = {str(clinic.redis.hget(key, "stage")) for key in clinic.redis.scan_iter("chartpost:job:*")}
    assert states == {"delivered"}


def test_a_restart_that_loses_nothing_makes_nobody_search(
    clinic: Installation, server: CopiedValkey, world: SandboxProcess
) -> None:
    patient = f"r{uuid4()}"
    _, _, worker = start_all(clinic)
    first = calls(clinic, patient)
    wait_until(lambda: delivered(clinic, first), "the first are delivered")
    world.world(down={"pracsuite": "503"})
    waiting = messages(clinic, patient)
    wait_until(lambda: all(clinic.stage(job_id) for job_id in waiting), "the others are open")
    server.kill()
    server.start()
    world.world(reset=True)
    wait_until(lambda: delivered(clinic, waiting), "the others are delivered")
    assert "outcome_unknown" not in worker.log
    assert "redis_is_older" not in worker.log


def test_a_call_under_the_same_id_after_a_wipe_is_searched_for_first(
    clinic: Installation, server: CopiedValkey, world: SandboxProcess
) -> None:
    patient = f"r{uuid4()}"
    _, _, worker = start_all(clinic)
    source = clinic.write("called.pdf", b"called")
    job_id = clinic.send(source, patient)
    wait_until(lambda: delivered(clinic, [job_id]), "it is delivered")
    server.wipe()
    wait_until(lambda: clinic.process.workers.alive(), "the worker consumes again")
    time.sleep(1)
    assert clinic.send(source, patient, job_id) == job_id
    wait_until(lambda: delivered(clinic, [job_id]), "it is delivered")
    assert "outcome_unknown" in worker.log
    assert len(clinic.chart(patient_id=patient)) == 1


def test_staged_documents_that_were_delivered_after_the_copy_keep_their_receipts(
    clinic: Installation, server: CopiedValkey, world: SandboxProcess
) -> None:
    patient = f"r{uuid4()}"
    settings = clinic.config.read_text()
    clinic.config.write_text(settings.replace("[s3]", '[s3]\nstage_inbox = "s3://sources/restored"', 1))
    world.world(down={"pracsuite": "503"})
    clinic.start("worker", "watch", **world.aws_environment)
    clinic.start_worker(**world.aws_environment)
    for n in range(EACH):
        clinic.drop(patient, f"staged-{n}.pdf", f"{patient} staged {n}".encode())
    wait_until(lambda: clinic.redis.zcard("chartpost:jobs") == EACH, "all are open")
    wait_until_written(clinic.redis)
    server.copy()
    world.world(reset=True)
    wait_until(lambda: len(clinic.receipts()) == EACH and nothing_left(clinic), "all are delivered and closed")

    server.restore()

    ids = [receipt["job_id"] for receipt in clinic.receipts()]
    wait_until(lambda: delivered(clinic, ids) and nothing_left(clinic), "all are delivered, in the restored Redis too")
    assert len(clinic.chart(patient_id=patient)) == EACH
    assert clinic.errors() == []
