"""The commits of documents without a job.json, on disk."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.folders.commit_journal import KEPT_DAYS, CommitJournal
from tasks.model.job import Facts
from tasks.model.route import Step
from tests.harness.sandbox import ROOT

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "commits"


def journal(folder: Path, now: datetime = NOW) -> CommitJournal:
    return CommitJournal(folder, lambda job_id, facts: f"sealed {job_id} {facts.key}", now=lambda: now)


def note(journal: CommitJournal, number: int, job_id: str, step: Step = Step.POST, run: str = "old") -> None:
    journal.note(number, run, job_id, step, Facts(key="k"))


def found(folder: Path, after: int = 0, run: str = "new") -> list[tuple[int, str]]:
    return [(entry.number, entry.job_id) for entry in journal(folder).entries(after=after, not_of_run=run)]


def test_another_process_reads_the_commits_that_a_ledger_lacks(folder: Path) -> None:
    writers = [journal(folder), journal(folder)]
    for number in range(1, 7):
        note(writers[number % 2], number, f"job-{number}")
    assert found(folder, after=4) == [(5, "job-5"), (6, "job-6")]
    assert journal(folder).entries(after=5, not_of_run="new")[0].facts == "sealed job-6 k"


def test_commits_of_the_same_run_are_in_its_ledger(folder: Path) -> None:
    note(journal(folder), 5, "job", run="new")
    assert found(folder) == []


def test_the_last_commit_of_a_job_counts(folder: Path) -> None:
    written = journal(folder)
    note(written, 1, "job", Step.PRESIGN)
    note(written, 2, "job", Step.POST)
    assert found(folder) == [(2, "job")]


def test_a_commit_that_was_taken_back_does_not_count(folder: Path) -> None:
    written = journal(folder)
    note(written, 1, "job")
    written.note(1, "old", "job", Step.POST, Facts(), undone=True)
    assert found(folder) == []
    note(written, 2, "job")
    assert found(folder) == [(2, "job")]


def test_half_a_line_after_a_power_cut_hides_no_other(folder: Path) -> None:
    note(journal(folder), 1, "job-1")
    [path] = folder.iterdir()
    path.write_bytes(path.read_bytes() + b'{"number": 2, "jo')
    note(journal(folder), 3, "job-3")
    assert found(folder) == [(1, "job-1"), (3, "job-3")]


def test_files_leave_after_their_days(folder: Path) -> None:
    note(journal(folder), 1, "old job")
    written = journal(folder, NOW + timedelta(days=KEPT_DAYS))
    note(written, 2, "job")
    assert found(folder) == [(1, "old job"), (2, "job")]
    note(journal(folder, NOW + timedelta(days=KEPT_DAYS + 1)), 3, "new job")
    assert found(folder) == [(2, "job"), (3, "new job")]


def test_nobody_else_may_read_it(folder: Path) -> None:
    note(journal(folder), 1, "job")
    assert folder.stat().st_mode & 0o077 == 0
    assert [path.stat().st_mode & 0o077 for path in folder.iterdir()] == [0]


_KILLED = """
import os, signal, sys
from pathlib import Path
from tasks.folders.commit_journal import CommitJournal
from tasks.model.job import Facts
from tasks.model.route import Step
CommitJournal(Path(sys.argv[1]), lambda job_id, facts: "").note(1, "old", "job", Step.POST, Facts())
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_commit_is_on_disk_before_the_call_returns(folder: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(folder)], cwd=ROOT, check=False)
    assert killed.returncode == -9
    assert found(folder) == [(1, "job")]
