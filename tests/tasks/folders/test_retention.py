"""`delivered/` is kept for ever, or for as many days as the settings say, whatever the clocks do."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.folders.retention import Retention
from tests.harness.keys import SEAL
from tests.harness.rights import modes_count
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
        self.folders = Folders(self.folder, SEAL)
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
    delivered = long_at_work(tmp_path, days, clocks)
    delivered.add(1, 10)
    hourly(delivered.retention(), clocks, hours=2)
    assert delivered.left() == left


def test_a_clock_that_was_set_a_year_ahead_removes_nothing_in_that_hour_and_a_days_documents_in_a_day(
    tmp_path: Path, clocks: Clocks
) -> None:
    delivered = long_at_work(tmp_path, 30, clocks)
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
    delivered = long_at_work(tmp_path, 30, clocks)
    delivered.add(1, 20, 29)
    hourly(delivered.retention(), clocks, hours=2)
    clocks.machine += YEAR
    clocks.redis += YEAR
    hourly(delivered.retention(), clocks, hours=10)
    assert len(delivered.left()) == 3


@pytest.mark.parametrize("delivered_meanwhile", [0, 3])
@pytest.mark.parametrize("ahead", [10 * DAY, 40 * DAY, YEAR])
def test_a_clock_that_is_wrong_before_anything_was_ever_removed_removes_nothing_early(
    tmp_path: Path, clocks: Clocks, ahead: float, delivered_meanwhile: int
) -> None:
    """For five days already, in which documents were delivered too: the last receipts tell the time wrong."""
    delivered = Delivered(tmp_path, 30, clocks)
    delivered.add(0.5, 10, 22)  # 27 days old at the end of the five days
    clocks.machine += ahead
    clocks.redis += ahead
    for number in range(delivered_meanwhile):
        clocks.pass_by(DAY)
        delivered.add(number / 1000)
    clocks.pass_by((5 - delivered_meanwhile) * DAY)
    retention = delivered.retention()
    hourly(retention, clocks, hours=24)
    assert len(delivered.left()) == 3 + delivered_meanwhile
    hourly(retention, clocks, hours=24)
    assert {"0.5.pdf", "10.pdf"} <= delivered.left(), "it goes on at twice the speed at most"


def test_a_folder_of_years_is_emptied_at_once_but_for_a_week(tmp_path: Path, clocks: Clocks) -> None:
    """Where the setting is new: what is older by a week than it must be is removed first."""
    delivered = Delivered(tmp_path, 30, clocks)
    delivered.add(1, 7.5, 20, 36, 38, 400, 2000)
    retention = delivered.retention()
    hourly(retention, clocks, hours=2)
    assert delivered.left() == {"1.pdf", "7.5.pdf", "20.pdf", "36.pdf"}
    daily(retention, clocks, days=8)
    assert delivered.left() == {"1.pdf", "7.5.pdf", "20.pdf"}


def test_the_first_documents_of_all_stay_for_their_days(tmp_path: Path, clocks: Clocks) -> None:
    delivered = Delivered(tmp_path, 30, clocks)
    delivered.add(0)
    retention = delivered.retention()
    daily(retention, clocks, days=29)
    assert delivered.left() == {"0.pdf"}
    daily(retention, clocks, days=2)
    assert delivered.left() == set()


@pytest.mark.parametrize("ahead", ["machine", "redis"])
def test_a_document_is_old_only_by_every_clock(tmp_path: Path, clocks: Clocks, ahead: str) -> None:
    delivered = long_at_work(tmp_path, 30, clocks)
    delivered.add(1, 5, 20)
    setattr(clocks, ahead, getattr(clocks, ahead) + YEAR)
    daily(delivered.retention(), clocks, days=15)
    assert delivered.left() == {"1.pdf", "5.pdf"}


def test_after_a_week_off_it_catches_up(tmp_path: Path, clocks: Clocks) -> None:
    delivered = long_at_work(tmp_path, 30, clocks)
    delivered.add(1, 20, 25)
    hourly(delivered.retention(), clocks, hours=2)
    clocks.pass_by(7 * DAY)
    retention = delivered.retention()
    hourly(retention, clocks, hours=2)
    assert len(delivered.left()) == 3
    daily(retention, clocks, days=4)
    assert delivered.left() == {"1.pdf", "20.pdf"}


def long_at_work(folder: Path, days: float, clocks: Clocks) -> Delivered:
    """Its limit has been kept for so long that it has caught up."""
    delivered = Delivered(folder, days, clocks)
    daily(delivered.retention(), clocks, days=8)
    return delivered


def hourly(retention: Retention, clocks: Clocks, hours: int) -> None:
    """A round now and after each hour."""
    _rounds(retention, clocks, hours, HOUR)


def daily(retention: Retention, clocks: Clocks, days: int) -> None:
    """A round now and after each day, which is quicker, and comes to the same."""
    _rounds(retention, clocks, days, DAY)


def _rounds(retention: Retention, clocks: Clocks, number: int, every: float) -> None:
    retention.run()
    for _ in range(number):
        clocks.pass_by(every)
        retention.run()


def test_a_folder_that_may_not_be_written_stops_nothing_else(tmp_path: Path, clocks: Clocks) -> None:
    """Whoever may write to delivered/ can make one, with a receipt in it that looks old."""
    delivered = long_at_work(tmp_path, 7, clocks)
    delivered.add(10)
    theirs = delivered.folders.delivered / ACCOUNT / "0"
    theirs.mkdir()
    forged = theirs / "x.pdf.receipt.json"
    forged.write_text(json.dumps(receipt(str(uuid4()))))
    os.utime(forged, (0, 0))
    theirs.chmod(0o555)
    with modes_count(), capture_logs() as logs:
        hourly(delivered.retention(), clocks, hours=2)
    assert [path.name for path in delivered.folders.delivered.rglob("*") if path.is_file()] == [forged.name]
    assert {"event": "delivered_not_swept", "reason": "no right to write to their folders", "count": 1}.items() <= (
        next(each for each in logs if each["event"] == "delivered_not_swept").items()
    )
