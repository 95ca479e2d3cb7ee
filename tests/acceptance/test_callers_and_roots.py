"""A caller of the stream and of Celery reads only what lies in `file_roots`, and removes only what it may."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery.result import AsyncResult

from tasks.ledger import keys
from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until
from worker.stream.rejected import REJECTED


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, world: SandboxProcess) -> Iterator[Installation]:
    """One clinic that is fully at work, for all of these tests. Its folders hold what others have sent."""
    folder = tmp_path_factory.mktemp("callers") / "clinic"
    with installed(folder, world) as started:
        with_producers(started)
        for name in ("secret_key", "redis.url", "valkey/appendonlydir/appendonly.aof.1.incr.aof"):
            path = started.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("what only chartpost may read")
        started.start_worker(**world.aws_environment)
        started.start("worker", "intake")
        yield started


def with_producers(started: Installation) -> None:
    """What everybody may do becomes the shared doors' section; the producer `lab` has doors and a folder of its own."""
    (started.folder / "lab").mkdir()
    settings = re.sub(r"^(file_roots|s3_buckets) = .*\n", "", started.config.read_text(), flags=re.MULTILINE)
    started.config.write_text(
        f'{settings}\n[producers.shared]\naccounts = ["north_clinic"]\n'
        f'file_roots = [{{ path = "{started.documents}", delete = true }}]\n'
        f'[producers.lab]\naccounts = ["north_clinic"]\nfile_roots = ["{started.folder / "lab"}"]\n'
    )


def added(shared: Installation, **fields: object) -> str:
    """The id of the job that an entry of the stream asks for."""
    job_id = str(uuid4())
    job = {"account": "north_clinic", "job_id": job_id, **fields}
    shared.redis.xadd(keys.INTAKE, {"job": json.dumps(job)})
    return job_id


def delivered_to(shared: Installation, patient: str) -> Path:
    """A document that another clinic's folder has brought into a chart, as it lies in delivered/."""
    claimed = shared.drop(patient, "finding.pdf", b"of another patient")
    assert shared.command("watch", "--once").returncode == 0
    at = shared.data / "delivered" / "north_clinic" / patient / "finding.pdf"
    wait_until(at.exists, "the document is delivered")
    assert not claimed.exists()
    return at


def outcome(shared: Installation, job_id: str) -> str:
    """How a job has ended: the code of its failure, else its stage."""

    def ended() -> str | None:
        job = shared.process.ledger.get(job_id)
        return (job.code or job.stage) if job and job.stage.final else None

    return str(wait_until(ended, "the job has ended"))


@pytest.mark.parametrize("name", ["secret_key", "redis.url", "valkey/appendonlydir/appendonly.aof.1.incr.aof"])
def test_no_message_reads_or_removes_what_chartpost_keeps_for_itself(shared: Installation, name: str) -> None:
    path, patient = shared.data / name, f"c{uuid4()}"
    job_id = added(shared, patient_id=patient, source=path.as_uri(), file_name="a.pdf", delete_source=True)
    call = shared.upload(path.as_uri(), patient, file_name="b.pdf", delete_source=True)
    assert (outcome(shared, job_id), outcome(shared, call.id)) == ("source_not_allowed", "source_not_allowed")
    assert path.read_text() == "what only chartpost may read"
    assert shared.chart(patient_id=patient) == []

    def is_rejected() -> bool:
        rejected: Any = shared.redis.xrange(REJECTED)
        return any(path.name not in str(fields) and fields["code"] == "source_not_allowed" for _, fields in rejected)

    wait_until(is_rejected, "the message stands among the rejected")


def test_no_message_reads_or_removes_another_senders_document(shared: Installation) -> None:
    theirs, patient = delivered_to(shared, f"c{uuid4()}"), f"c{uuid4()}"
    job_id = added(shared, patient_id=patient, source=theirs.as_uri(), delete_source=True)
    assert outcome(shared, job_id) == "source_not_allowed"
    assert theirs.read_bytes() == b"of another patient"
    assert shared.chart(patient_id=patient) == []


def test_a_producers_call_is_delivered_and_known_to_no_other(shared: Installation) -> None:
    source, patient = shared.folder / "lab" / "own.pdf", f"c{uuid4()}"
    source.write_bytes(b"of the lab")

    def call(queue: str, task_id: str, **fields: object) -> AsyncResult[Any]:
        kwargs = {"account": "north_clinic", "patient_id": patient, "source": source.as_uri(), **fields}
        return shared.celery.send_task("chartpost.upload", kwargs=kwargs, queue=queue, task_id=task_id)

    own, refused = call("chartpost.from.lab", str(uuid4())), call("chartpost", str(uuid4()))
    deleting = call("chartpost.from.lab", str(uuid4()), delete_source=True)
    assert own.get(timeout=120)["size_bytes"] == len(b"of the lab")
    assert outcome(shared, refused.id) == outcome(shared, deleting.id) == "source_not_allowed"
    assert source.exists()
    # The same id at the shared doors, with what these may send, changes nothing of the lab's job.
    call("chartpost", own.id, source=shared.write("theirs.pdf", b"theirs"))
    behind = shared.upload(shared.write("behind.pdf", b"behind"), patient)
    assert behind.get(timeout=120)["size_bytes"] == len(b"behind")
    assert sorted(record["file_name"] for record in shared.chart(patient_id=patient)) == ["behind.pdf", "own.pdf"]
    [shown] = [json.loads(line) for line in shared.command("show", own.id, "--json").stdout.splitlines()]
    assert (shown["producer"], shown["state"]) == ("lab", "delivered")
