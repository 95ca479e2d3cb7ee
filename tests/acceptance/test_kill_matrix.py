"""Killed just before and just after each recorded move and each outside call: delivered once, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from tests.harness.callbacks import SETTINGS, Call, Callee, called_back
from tests.harness.failpoint_worker import (
    AT_CLOSING,
    OF_CALLERS,
    OF_FILE_SOURCES,
    OF_FOLDERS,
    OF_LONG_CLOSINGS,
    OF_OBJECT_SOURCES,
    THERE,
    UP_TO_DELIVERY,
)
from tests.harness.installation import Child, Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until

WHILE_CALLING_BACK = "callback.read"
"""Killed by whoever is called back, when the body has been read and no answer given."""

RESEND_SECONDS = 4.0  # two leases; a caller sends again what nobody has opened


def test_a_worker_killed_at_every_boundary_delivers_each_document_once(north: Installation, tmp_path: Path) -> None:
    points = {*UP_TO_DELIVERY, *AT_CLOSING, *OF_FOLDERS}
    marks = tmp_path / "marks"
    marks.mkdir()
    north.start("worker", "watch")
    north.start("tests.harness.failpoint_worker", str(marks))
    names: list[str] = []
    run = f"matrix{uuid4()}"
    # A kill for one document may take another past its own point: what was missed gets another round.
    for _ in range(4):
        for point in sorted(points - points_met(marks)):
            names.append(f"kill-{point}-{len(names)}.pdf")
            north.drop(f"{run}-{len(names)}", names[-1], names[-1].encode())
        wait_until(
            lambda: len(north.receipts()) == len(names), "every document has its receipt", seconds=LONG_PATIENCE_SECONDS
        )

    assert points_met(marks) == points
    charts = [record for record in north.chart() if str(record["patient_id"]).startswith(run)]
    assert sorted(record["file_name"] for record in charts) == sorted(names), "each exactly once in the charts"
    assert_nothing_is_left(north)


@pytest.fixture
def callee(tmp_path: Path) -> Iterator[Callee]:
    with called_back(tmp_path) as listening:
        yield listening


@pytest.fixture
def called(tmp_path: Path, world: SandboxProcess, valkey_url: str) -> Iterator[Installation]:
    with installed(tmp_path / "clinic", world, valkey_url, top=SETTINGS) as started:
        yield started


class Matrix:
    """Documents that ask for a kill each, for their source to be removed, and to be called back."""

    def __init__(self, at: Installation, callee: Callee, marks: Path) -> None:
        self.at = at
        self.callee = callee
        self.marks = marks
        self.jobs: dict[str, str] = {}  # file name -> job id
        self.patient = f"matrix{uuid4()}"
        marks.mkdir()
        environ = {"SSL_CERT_FILE": str(callee.ca_file), **at.world.aws_environment}
        at.start("worker", "intake", **environ)
        self.armed = at.start("tests.harness.failpoint_worker", str(marks), **environ)
        callee.answer = self._answer

    def run(self, points: set[str]) -> None:
        for _ in range(4):
            for point in sorted(points - points_met(self.marks)):
                name = f"kill-{point}-{len(self.jobs)}.pdf"
                self.jobs[name] = str(uuid4())
                self.put(name)
            self._wait_until_closed()
        assert points_met(self.marks) == points

    def put(self, name: str) -> None:
        """Make the source and ask for it to be delivered; may be repeated once the source is there."""
        raise NotImplementedError

    def resend(self, name: str) -> None:
        """What a caller does whose call nobody seems to have got."""

    def sources(self) -> set[str]:
        """The names of the sources that are still there."""
        raise NotImplementedError

    def assert_kept(self) -> None:
        """Once in the chart, sources gone, one event each, all called back, and nothing left."""
        charts = [record for record in self.at.chart() if str(record["patient_id"]).startswith(self.patient)]
        assert sorted(record["file_name"] for record in charts) == sorted(self.jobs), "each exactly once in the charts"
        assert not self.sources() & set(self.jobs)
        events = events_of(self.at.redis)
        assert Counter(entry["job"] for entry in events) == dict.fromkeys(self.jobs.values(), 1)
        assert {entry["state"] for entry in events} == {"delivered"}
        assert all(call.signed for call in self.callee.calls)
        told = {call.said["job_id"]: call.said["record"]["id"] for call in self.callee.calls}
        assert told == {self.jobs[record["file_name"]]: record["record_id"] for record in charts}
        assert_nothing_is_left(self.at)

    def wishes(self, name: str) -> dict[str, Any]:
        """The fields of a request besides account, source and job id."""
        patient = f"{self.patient}-{name}"
        return {"patient_id": patient, "delete_source": True, "callback_url": self.callee.url}

    def _wait_until_closed(self) -> None:
        resend_at = time.monotonic() + RESEND_SECONDS
        while unclosed := [name for name, job in self.jobs.items() if step_of(self.at, job) != ""]:
            assert time.monotonic() < resend_at + LONG_PATIENCE_SECONDS, f"in vain: {unclosed} are closed"
            time.sleep(0.1)
            if time.monotonic() >= resend_at:
                resend_at += RESEND_SECONDS
                for name in unclosed:
                    if not self.at.process.ledger.known(self.jobs[name]):
                        self.resend(name)

    def _answer(self, call: Call) -> int | None:
        name = call.said["file_name"]
        if WHILE_CALLING_BACK not in name or (self.marks / name).exists():
            return 200
        (self.marks / name).touch()
        for worker in children_of(self.armed):
            os.kill(worker, signal.SIGKILL)
        return None


class CeleryMatrix(Matrix):
    """By Celery calls, from files."""

    def put(self, name: str) -> None:
        self.at.write(name, name.encode())
        self.resend(name)

    def resend(self, name: str) -> None:
        self.at.send((self.at.documents / name).as_uri(), task_id=self.jobs[name], **self.wishes(name))

    def sources(self) -> set[str]:
        return {path.name for path in self.at.documents.iterdir()}


class StreamMatrix(Matrix):
    """By messages of the stream, from objects in S3."""

    def put(self, name: str) -> None:
        self.at.world.objects().put_object(Bucket="sources", Key=name, Body=name.encode())
        source = {"account": "north_clinic", "source": f"s3://sources/{name}"}
        message = {"job_id": self.jobs[name], **source, **self.wishes(name)}
        self.at.redis.xadd("chartpost:intake", {"job": json.dumps(message)})

    def sources(self) -> set[str]:
        listed = self.at.world.objects().list_objects_v2(Bucket="sources", Prefix="kill-")
        return {found["Key"] for found in listed.get("Contents", [])}


def test_a_call_whose_worker_is_killed_at_every_boundary_is_delivered_told_and_its_file_removed_once_delivered(
    called: Installation, callee: Callee, tmp_path: Path
) -> None:
    matrix = CeleryMatrix(called, callee, tmp_path / "marks")
    points = {*UP_TO_DELIVERY, *AT_CLOSING, *OF_CALLERS, *OF_LONG_CLOSINGS, *OF_FILE_SOURCES, WHILE_CALLING_BACK}
    matrix.run(points)
    matrix.assert_kept()
    for job in matrix.jobs.values():
        assert called.celery.AsyncResult(job).get(timeout=120)["job_id"] == job
    for point in (*UP_TO_DELIVERY, "source.remove-before", "source.unlink-before"):
        assert was_there(matrix.marks, point), f"the source was gone at {point}"
    for point in ("source.unlink-after", "source.remove-after", "ledger.closed-before"):
        assert not was_there(matrix.marks, point), f"the source was still there at {point}"


def test_a_message_whose_worker_is_killed_at_every_step_of_closing_is_told_and_its_object_removed(
    called: Installation, callee: Callee, tmp_path: Path
) -> None:
    matrix = StreamMatrix(called, callee, tmp_path / "marks")
    matrix.run({*AT_CLOSING, *OF_CALLERS, *OF_LONG_CLOSINGS, *OF_OBJECT_SOURCES, WHILE_CALLING_BACK})
    matrix.assert_kept()


def test_the_source_of_a_document_that_failed_stays_when_its_worker_is_killed_at_closing(
    called: Installation, callee: Callee, tmp_path: Path
) -> None:
    matrix = CeleryMatrix(called, callee, tmp_path / "marks")
    matrix.patient = "404-nobody"
    matrix.run({*AT_CLOSING, *OF_LONG_CLOSINGS, *(point for point in OF_CALLERS if point.startswith("callback"))})
    assert matrix.sources() == set(matrix.jobs)
    assert {call.said["code"] for call in callee.calls} == {"refused_by_provider"}
    assert {call.said["job_id"] for call in callee.calls if call.signed} == set(matrix.jobs.values())
    assert_nothing_is_left(called)


def points_met(marks: Path) -> set[str]:
    return {path.name.removeprefix("kill-").rpartition("-")[0] for path in marks.iterdir()}


def was_there(marks: Path, point: str) -> bool:
    """Whether a source was there each time that a worker was killed at this point."""
    [*said] = (path.read_text() == THERE for path in marks.glob(f"kill-{point}-*"))
    assert len(set(said)) == 1
    return said[0]


def children_of(child: Child) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()]


def step_of(clinic: Installation, job: str) -> str | None:
    """The step that is left of a job: none is empty, and None is an unknown job."""
    step = clinic.redis.hget(f"chartpost:job:{job}", "step")
    return None if step is None else str(step)


def events_of(client: redis.Redis) -> list[dict[str, str]]:
    entries: Any = client.xrange("chartpost:events")
    return [fields for _, fields in entries]


def assert_nothing_is_left(clinic: Installation) -> None:
    """No file in our care or the inbox, no due entry, no job under way: all closed."""
    processing = clinic.data / "processing"
    wait_until(lambda: not list(processing.glob("*")), "processing/ is empty")
    assert not [path for path in (clinic.data / "inbox").rglob("*") if path.is_file()]
    wait_until(lambda: not due_entries(clinic.redis), "no due entry is left")
    for job in clinic.redis.zrange("chartpost:jobs", 0, -1):
        assert step_of(clinic, str(job)) == ""


def due_entries(client: redis.Redis) -> list[str]:
    keys = [str(key) for key in client.scan_iter("chartpost:due:*")]
    return [str(job) for key in keys for job in client.zrange(key, 0, -1)]
