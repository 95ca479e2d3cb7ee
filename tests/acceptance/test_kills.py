"""Killed and stopped in mid-upload: delivered once, and soon.

The storage engine is frozen (SIGSTOP) so that an upload stands still in the middle of its body: presigning needs no
engine, and a document larger than all socket buffers cannot have left.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from celery.result import AsyncResult

from tasks.ledger.clock import LedgerClock
from tasks.model.route import Stage, Step
from tests.harness.installation import Child, Installation
from tests.harness.waiting import wait_until
from tests.worker.stream.test_reader import killed_at

LARGE = 30_000_000
LEASE_SECONDS = 2.0


@contextmanager
def frozen_engine(clinic: Installation) -> Iterator[None]:
    """The S3 engine is stopped meanwhile."""
    engines = children_of(clinic.world.process.pid)
    assert engines
    for engine in engines:
        os.kill(engine, signal.SIGSTOP)
    try:
        yield
    finally:
        for engine in engines:
            os.kill(engine, signal.SIGCONT)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def posting(clinic: Installation, job_id: str) -> bool:
    """Whether the upload is under way: the step runs, and nothing is committed."""
    job = clinic.process.ledger.get(job_id)
    row = clinic.redis.hgetall(f"chartpost:job:{job_id}")
    running = float(row.get("lease_until") or 0) > LedgerClock(clinic.redis).read().now_ms
    return bool(
        job and job.step is Step.POST and running and job.times.get("presigned") and not job.uncertainty.committed
    )


def uploading(clinic: Installation, patient: str) -> AsyncResult[object]:
    """A call whose upload stands still in mid-body."""
    result = clinic.upload(clinic.write("large.pdf", os.urandom(LARGE)), patient)
    wait_until(lambda: posting(clinic, result.id), "the upload has begun")
    time.sleep(0.5)  # well into the body: what fits into buffers is gone
    return result


def there_at(clinic: Installation, job_id: str) -> float:
    """When the document was known to be there: a copy found in the chart, after a lost lease, never was "stored"."""
    job = clinic.process.ledger.get(job_id)
    assert job is not None
    return min(job.times[stage] for stage in (Stage.STORED, Stage.DELIVERED) if stage in job.times).timestamp()


def test_a_worker_killed_in_mid_upload_is_followed_by_another_within_two_leases(north: Installation) -> None:
    patient = f"k{uuid4()}"
    first = north.start_worker()
    calm = time.time()
    undisturbed = north.upload(north.write("calm.pdf", os.urandom(LARGE)), f"c{uuid4()}")
    assert undisturbed.get(timeout=120)["size_bytes"] == LARGE
    calm = there_at(north, undisturbed.id) - calm
    with frozen_engine(north):
        result = uploading(north, patient)
        first.kill()
    north.start_worker()
    consuming = time.time()
    assert result.get(timeout=120)["size_bytes"] == LARGE  # type: ignore[index]
    assert len(north.chart(patient_id=patient)) == 1
    assert there_at(north, result.id) - consuming < 2 * LEASE_SECONDS + 3 * calm


def test_a_worker_stopped_beyond_its_lease_sends_nothing_when_it_wakes(north: Installation) -> None:
    patient = f"z{uuid4()}"
    zombie = north.start_worker()
    with frozen_engine(north):
        result = uploading(north, patient)
        zombie.send(signal.SIGSTOP)
    successor = north.start_worker()
    assert result.get(timeout=120)["size_bytes"] == LARGE  # type: ignore[index]
    zombie.send(signal.SIGCONT)
    wait_until(lambda: said(zombie, result.id, "lease_lost"), "the zombie notices")
    time.sleep(1)  # time for a second record, had the last block been sent
    assert len(north.chart(patient_id=patient)) == 1
    posts = [request for request in north.world.requests()["last"] if patient in str(request)]
    assert posts
    assert not said(successor, result.id, "lease_lost")


def said(child: Child, job_id: str, event: str) -> bool:
    return any(job_id in line and event in line for line in child.log.splitlines())


def test_a_worker_killed_after_the_commit_point_looks_before_it_sends_again(north: Installation) -> None:
    patient = f"l{uuid4()}"
    worker = north.start_worker()
    result = north.upload(north.write("STALL-30.pdf", b"stalled"), patient)
    wait_until(lambda: north.chart(patient_id=patient), "the record appears while the answer is withheld")
    worker.kill()
    north.start_worker()
    assert result.get(timeout=120)["size_bytes"] == 7
    assert len(north.chart(patient_id=patient)) == 1


def test_a_lost_answer_is_looked_up_and_not_sent_again(north: Installation) -> None:
    patient = f"l{uuid4()}"
    north.start_worker()
    result = north.upload(north.write("LOST.pdf", b"lost"), patient)
    assert result.get(timeout=120)["size_bytes"] == 4
    # A second sending might not be in the chart yet.
    assert north.redis.hget(f"chartpost:job:{result.id}", "tried_post") == "1"
    assert len(north.chart(patient_id=patient)) == 1


def test_faults_of_the_storage_are_ridden_out_without_a_second_copy(north: Installation) -> None:
    patient = f"f{uuid4()}"
    north.start_worker()
    names = ["BUSY-2.pdf", "CUT.pdf", "EXPIRED.pdf", "SLOW-2.pdf", "S3-RequestTimeout.pdf", "S3-ExpiredToken.pdf"]
    results = {name: north.upload(north.write(name, name.encode()), patient) for name in names}
    for name, result in results.items():
        assert result.get(timeout=120)["size_bytes"] == len(name)
    assert sorted(record["file_name"] for record in north.chart(patient_id=patient)) == sorted(names)


def test_sigterm_hands_an_upload_back_and_ends_at_once(north: Installation) -> None:
    patient = f"t{uuid4()}"
    first = north.start_worker()
    with frozen_engine(north):
        result = uploading(north, patient)
        first.send(signal.SIGTERM)
    assert first.stop() == 0
    north.start_worker()
    assert result.get(timeout=120)["size_bytes"] == LARGE  # type: ignore[index]
    assert len(north.chart(patient_id=patient)) == 1


def test_stream_messages_that_an_intake_was_killed_with_are_delivered_once_each(north: Installation) -> None:
    patients = [f"s{number}-{uuid4()}" for number in range(100)]
    source = north.write("streamed.pdf", b"a streamed document")
    for patient in patients:
        message = {"account": "north_clinic", "patient_id": patient, "source": source}
        north.redis.xadd("chartpost:intake", {"job": json.dumps(message)})
    north.start_worker()
    killed_at(north.config, "Ledger.open_together")
    assert 0 < north.redis.zcard("chartpost:jobs") < len(patients), "it was killed in the midst of a batch"
    north.start("worker", "intake")
    arrived = lambda: {record["patient_id"] for record in north.chart()} >= set(patients)  # noqa: E731
    wait_until(arrived, "all are delivered", 120)
    assert all(len(north.chart(patient_id=patient)) == 1 for patient in patients)
    assert north.redis.zcard("chartpost:jobs") == len(patients)
