"""The chores of the machine that has the folders go on, whatever one job's closing does."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from tasks.closing.closing import Closing
from tasks.folders.layout import Folders
from tasks.folders.machines import Machine
from tasks.folders.retention import Retention
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal, SealBroken
from worker.inbox.chores import FolderChores


class Closings:
    """Stands for closings: those of the jobs named `bad` raise."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.closed: list[str] = []

    def run(self, job_id: str) -> None:
        if job_id.startswith("bad"):
            raise self._error
        self.closed.append(job_id)


class NoRetention:
    def run(self) -> None: ...


@pytest.mark.parametrize("error", [SealBroken("sealed by another"), KeyError("an account"), ValueError("a fault")])
def test_a_closing_that_crashes_holds_up_no_other_and_no_chore(
    valkey: redis.Redis, tmp_path: Path, error: Exception
) -> None:
    ledger = Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)
    machine, stop = Machine(valkey, tmp_path), threading.Event()
    name = machine.name()
    assert name is not None
    for job_id in ("bad-1", "good", "bad-2"):
        ledger.redis.hset(f"chartpost:job:{job_id}", "step", "notify")
        ledger.leave_to(name, job_id)
    closings, published = Closings(error), []

    def left_in_inbox() -> Mapping[tuple[str, str], int]:
        published.append(True)
        stop.set()
        return {}

    chores = FolderChores(
        closing=cast(Closing, closings),
        ledger=ledger,
        machine=machine,
        folders=Folders(tmp_path),
        staging=None,
        retention=cast(Retention, NoRetention()),
        left_in_inbox=left_in_inbox,
        stop=stop,
    )
    thread = threading.Thread(target=chores.run, daemon=True)
    thread.start()
    thread.join(30)
    assert (closings.closed, published) == (["good"], [True])


def test_a_fault_of_ours_in_one_round_ends_no_later_one(valkey: redis.Redis, tmp_path: Path) -> None:
    ledger = Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)
    stop, rounds = threading.Event(), []

    def left_in_inbox() -> Mapping[tuple[str, str], int]:
        rounds.append(True)
        if len(rounds) == 1:
            raise ValueError("a fault")
        stop.set()
        return {}

    parts: dict[str, Any] = {"folders": Folders(tmp_path), "staging": None, "retention": NoRetention()}
    machine = Machine(valkey, tmp_path)
    chores = FolderChores(
        closing=cast(Closing, Closings(ValueError())),
        ledger=ledger,
        machine=machine,
        left_in_inbox=left_in_inbox,
        stop=stop,
        **parts,
    )
    thread = threading.Thread(target=chores.run, daemon=True)
    thread.start()
    thread.join(30)
    assert len(rounds) == 2
