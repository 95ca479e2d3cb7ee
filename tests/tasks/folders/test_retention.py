"""`delivered/` is kept for ever, or for as many days as the settings say, whatever the clocks do."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.folders.retention import Retention
from tests.tasks.folders.documents import ACCOUNT, PATIENT, claim, drop, receipt

HOUR = 3600.0
DAY = 24 * HOUR
YEAR = 365 * DAY


@dataclass
class Clocks:
    """This machine's clock, Redis's, and the one that nobody sets; in seconds since the test began."""

    began: float
    machine: float = 0.0
    redis: float = 0.0
    steady: float = 0.0

    def pass_by(self, seconds: float) -> None:
        self.machine, self.redis, self.steady = self.machine + seconds, self.redis + seconds, self.steady + seconds


@dataclass
class Delivered:
    """A `delivered/` with documents of given ages, and its retention."""

    folder: Path
    days: float
    clocks: Clocks
    folders: Folders = field(init=False)

    def __post_init__(self) -> None:
        self.folders = Folders(self.folder)
        self.folders.create()

    def add(self, *ages_in_days: float) -> None:
        for age in ages_in_days:
            job_id, name = str(uuid4()), f"{age:g}.pdf"
            claim(self.folders, drop(self.folders, name), job_id)
            document = Outcomes(self.folders).deliver(job_id, ACCOUNT, PATIENT, receipt(job_id, name)).document
            then = self.clocks.began + self.clocks.machine - age * DAY
            os.utime(document.with_name(document.name + ".receipt.json"), (then, then))

    def retention(self) -> Retention:
        """As after a start."""
        clocks = self.clocks
        return Retention(
            Outcomes(self.folders),
            self.days,
            self.folder / "retention",
            clock=lambda: clocks.began + clocks.machine,
            redis_clock=lambda: clocks.began + clocks.redis,
            steady=lambda: clocks.steady,
        )

    def left(self) -> set[str]:
        paths = {path.name for path in self.folders.delivered.rglob("*") if path.is_file()}
        documents = {name for name in paths if name.endswith(".pdf")}
        assert paths == documents | {f"{name}.receipt.json" for name in documents}
        return documents


@pytest.fixture
def clocks() -> Clocks:
    # Before the file system's own clock, which a test cannot set: the clock that is furthest behind counts.
    return Clocks(began=1_500_000_000.0)


@pytest.mark.parametrize(("days", "left"), [(0, {"1.pdf", "10.pdf"}), (7, {"1.pdf"}), (30, {"1.pdf", "10.pdf"})])
def test_documents_leave_with_their_receipts_when_those_are_old(
    tmp_path: Path, clocks: Clocks, days: float, left: set[str]
) -> None:
    delivered = Delivered(tmp_path, days, clocks)
    delivered.add(1, 10)
    hourly(delivered.retention(), clocks, hours=2)
    assert delivered.left() == left


def test_a_clock_that_was_set_a_year_ahead_removes_nothing_in_that_hour_and_a_days_documents_in_a_day(
    tmp_path: Path, clocks: Clocks
) -> None:
    delivered = Delivered(tmp_path, 30, clocks)
    delivered.add(1, 20, 27.5, 28.5, 29.5)
    retention = delivered.retention()
    hourly(retention, clocks, hours=2)
    clocks.machine += YEAR
    clocks.redis += YEAR
    hourly(retention, clocks, hours=1)
    assert len(delivered.left()) == 5
    hourly(retention, clocks, hours=24)
    assert delivered.left() == {"1.pdf", "20.pdf", "27.5.pdf"}, "twice as fast as the day went by"


def test_a_machine_that_starts_with_its_clock_a_year_ahead_goes_on_from_where_it_was(
    tmp_path: Path, clocks: Clocks
) -> None:
    delivered = Delivered(tmp_path, 30, clocks)
    delivered.add(1, 20, 29)
    hourly(delivered.retention(), clocks, hours=2)
    clocks.machine += YEAR
    clocks.redis += YEAR
    hourly(delivered.retention(), clocks, hours=10)
    assert len(delivered.left()) == 3


@pytest.mark.parametrize("ahead", ["machine", "redis"])
def test_a_document_is_old_only_by_every_clock(tmp_path: Path, clocks: Clocks, ahead: str) -> None:
    delivered = Delivered(tmp_path, 30, clocks)
    delivered.add(1, 20, 40)
    setattr(clocks, ahead, YEAR)
    before = clocks.began + clocks.redis if ahead == "machine" else clocks.began
    assert before >= clocks.began
    hourly(delivered.retention(), clocks, hours=3)
    assert {"1.pdf", "20.pdf"} <= delivered.left()


def test_after_a_week_off_it_catches_up(tmp_path: Path, clocks: Clocks) -> None:
    delivered = Delivered(tmp_path, 30, clocks)
    delivered.add(1, 20, 25)
    hourly(delivered.retention(), clocks, hours=2)
    clocks.pass_by(7 * DAY)
    retention = delivered.retention()
    hourly(retention, clocks, hours=2)
    assert len(delivered.left()) == 3
    hourly(retention, clocks, hours=4 * 24)
    assert delivered.left() == {"1.pdf", "20.pdf"}


def hourly(retention: Retention, clocks: Clocks, hours: int) -> None:
    """A round now and after each hour."""
    retention.run()
    for _ in range(hours):
        clocks.pass_by(HOUR)
        retention.run()
