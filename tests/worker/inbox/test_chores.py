"""The chores of the machine that has the folders go on, whatever one job's closing or an outage does."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from structlog.testing import capture_logs

from config.load import load
from tasks.closing.closing import Closing
from tasks.folders.layout import Folders
from tasks.folders.machines import Machine
from tasks.folders.outcomes import Outcomes
from tasks.folders.retention import Retention
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal, SealBroken
from tasks.runtime import Runtime
from tests.harness.waiting import wait_until
from worker.inbox.build import inbox_service
from worker.inbox.chores import FolderChores
from worker.inbox.waiting_notes import WaitingNotes
from worker.supervisor.valkey import EmbeddedValkey


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
        outcomes=Outcomes(Folders(tmp_path)),
        waiting_notes=cast(WaitingNotes, NoRetention()),
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
    parts |= {"outcomes": Outcomes(Folders(tmp_path)), "waiting_notes": NoRetention()}
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


def test_an_outage_is_logged_once_and_not_each_second(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    url = server.start()
    config = tmp_path / "chartpost.toml"
    config.write_text(f'data_dir = "{tmp_path}"\nsecret_key = "a secret for tests"\n[redis]\nurl = "{url}"\n')
    runtime = Runtime(load(config, {}))
    runtime.folders.create()
    chores = inbox_service(runtime).chores
    asked: list[float] = []
    thread = threading.Thread(target=chores.run, daemon=True)
    with capture_logs() as logs:
        server.stop()
        confirm = runtime.ledger.identity.confirm

        def counted() -> None:
            asked.append(0)
            confirm()

        runtime.ledger.identity.confirm = counted  # type: ignore[method-assign]
        thread.start()
        wait_until(lambda: len(asked) > 3, "it is tried again")
        server.start()
        client = redis.Redis.from_url(url)
        wait_until(lambda: client.exists("chartpost:seal-check"), "it goes on")
        runtime.stopping.set()
        thread.join(30)
        server.stop()
    assert [line["event"] for line in logs if line["event"] == "chores_put_off"] == ["chores_put_off"]
