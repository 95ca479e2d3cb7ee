"""Killed just before and just after each recorded move and each outside call: delivered once, and nothing is left."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from tests.chaos.armed_worker import POINTS
from tests.clinics import Clinic, wait_until


def test_a_worker_killed_at_every_boundary_delivers_each_document_once(north: Clinic, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    north.start("worker", "watch")
    north.start("tests.chaos.armed_worker", str(marks))
    names: list[str] = []
    run = f"matrix{uuid4()}"
    # A kill for one document may take another past its own point: what was missed gets another round.
    for _ in range(4):
        for point in sorted(set(POINTS) - points_met(marks)):
            names.append(f"kill-{point}-{len(names)}.pdf")
            north.drop(f"{run}-{len(names)}", names[-1], names[-1].encode())
        wait_until(lambda: len(north.receipts()) == len(names), "every document has its receipt", seconds=120)

    assert points_met(marks) == set(POINTS)
    charts = [record for record in north.chart() if record["patient_id"].startswith(run)]
    assert sorted(record["file_name"] for record in charts) == sorted(names), "each exactly once in the charts"
    assert_nothing_is_left(north)


def points_met(marks: Path) -> set[str]:
    return {path.name.removeprefix("kill-").rpartition("-")[0] for path in marks.iterdir()}


def assert_nothing_is_left(clinic: Clinic) -> None:
    """No file in our care or the inbox, no due entry, no job under way: all closed."""
    processing = clinic.data / "processing"
    wait_until(lambda: not list(processing.glob("*")), "processing/ is empty")
    assert not [path for path in (clinic.data / "inbox").rglob("*") if path.is_file()]
    wait_until(lambda: not due_entries(clinic), "no due entry is left")
    for job in clinic.redis.zrange("chartpost:jobs", 0, -1):
        assert clinic.redis.hget(f"chartpost:job:{job!s}", "step") == ""


def due_entries(clinic: Clinic) -> list[str]:
    keys = [str(key) for key in clinic.redis.scan_iter("chartpost:due:*")]
    return [str(job) for key in keys for job in clinic.redis.zrange(key, 0, -1)]
