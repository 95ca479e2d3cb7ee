"""A flood of files costs what its size demands, and no more for each of them than a trickle."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.folders.claims import Claims
from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tests.harness.keys import SEAL
from tests.worker.inbox.recording import ACCOUNTS, RecordingLedger, inbox, wait_until, watching
from worker.inbox.events import ChangeEvents
from worker.inbox.scan import in_turn, scan
from worker.inbox.settled import SettledTracker

TEN_TIMES = 45  # times as long is still no sign of quadratic work; a hundred times as long would be


def flood(folder: Path, count: int) -> Path:
    """So many files in an inbox, a hundred to a patient."""
    for number in range(count):
        patient = folder / ACCOUNTS[number % 2] / str(number // 100)
        if number % 100 < 2:
            patient.mkdir(parents=True, exist_ok=True)
        (patient / f"{number}.pdf").touch()
    return folder


def least_cpu_seconds(act: Callable[[], object]) -> float:
    """Of this process: what others on the machine do meanwhile does not count."""
    taken = []
    for _ in range(3):
        started = time.process_time()
        act()
        taken.append(time.process_time() - started)
    return min(taken)


@pytest.fixture
def fast_folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be, since thousands of files are made in it."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


def test_a_look_at_ten_times_as_many_files_takes_about_ten_times_as_long(fast_folder: Path) -> None:
    few, many = flood(fast_folder / "few", 1_000), flood(fast_folder / "many", 10_000)

    def scan_and_track(inbox: Path) -> None:
        tracker: SettledTracker[Path] = SettledTracker(1.0)
        for now in (0.0, 1.0):
            found = scan(inbox, ACCOUNTS)
            settled = tracker.observe({path: each.fingerprint for path, each in found.candidates.items()}, now)
        assert len(list(in_turn(found.candidates[path] for path in settled))) == len(found.candidates)

    assert len(scan(many, ACCOUNTS).candidates) == 10_000
    assert least_cpu_seconds(lambda: scan_and_track(many)) < TEN_TIMES * least_cpu_seconds(lambda: scan_and_track(few))


class Light(Claims):
    """Claims that cost next to nothing, so that only the watcher's own work is measured."""

    def __init__(self, folders: LightFolders) -> None:
        super().__init__(folders)
        self.light = folders

    def claim(self, path: Path, job_id: str, job_file: JobFile, **_: Any) -> Path:
        self.light.claimed = job_file
        return path.rename(self.light.processing / f"{job_id}.pdf")


class LightFolders(Folders):
    claimed: JobFile

    def read_job_file(self, job_id: str) -> JobFile:
        return self.claimed


def test_ten_times_as_many_claims_take_about_ten_times_the_work(fast_folder: Path) -> None:
    def work(count: int) -> float:
        folders = LightFolders(fast_folder / str(count), SEAL)
        folders.create()
        flood(folders.inbox, count)
        for path in folders.inbox.rglob("*.pdf"):
            path.write_bytes(b"x")
        ledger = RecordingLedger(folders)
        before = time.process_time()
        with watching(folders, ledger, inbox(), claims=Light(folders)):
            wait_until(lambda: len(ledger.opened) == count)
        return time.process_time() - before

    few = work(400)
    assert work(4_000) < TEN_TIMES * few


def test_a_full_folder_that_never_rests_does_not_keep_the_watcher_looking_all_the_time(fast_folder: Path) -> None:
    folders = Folders(fast_folder, SEAL)
    folders.create()
    for path in flood(folders.inbox, 1_500).rglob("*.pdf"):
        path.rename(path.with_suffix(".part"))
    cost = least_cpu_seconds(lambda: scan(folders.inbox, ACCOUNTS))
    rounds, waits, since = list[float](), list[float](), time.monotonic()

    class Restless(ChangeEvents):
        """Something changes all the time."""

        def wait(self, seconds: float) -> bool:
            nonlocal since
            began = time.monotonic()
            rounds.append(began - since)
            self._stop.wait(0.005)
            since = time.monotonic()
            waits.append(since - began)
            return True

    with watching(folders, RecordingLedger(folders), inbox(), Restless):
        wait_until(lambda: sum(seconds > cost / 2 for seconds in rounds) > 3)
    assert sum(rounds[1:]) < sum(waits) / 2


def test_an_idle_watcher_hardly_works(tmp_path: Path) -> None:
    folders = Folders(tmp_path, SEAL)
    folders.create()
    flood(folders.inbox / "east_clinic", 200)
    waits: list[float] = []

    class Waiting(ChangeEvents):
        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            return super().wait(seconds)

    with watching(folders, RecordingLedger(folders), inbox(), Waiting):
        wait_until(lambda: waits)
        before = time.process_time()
        time.sleep(1.0)
        assert time.process_time() - before < 0.1, "a tenth of one processor"
    assert len(waits) == 1
