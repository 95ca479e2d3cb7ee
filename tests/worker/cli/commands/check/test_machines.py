"""`chartpost check` names the machines whose documents wait, and workers that see no inbox."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import redis

from tasks.dispatch.workers import Workers
from tasks.folders.machines import Machine
from worker.cli.commands.check.machines import check_machines


class Here:
    """A machine with a watcher, workers, or both."""

    def __init__(self, client: redis.Redis, folder: Path, *, watches: bool, works: bool, staging: bool = False) -> None:
        self.machine = Machine(client, folder)
        self.machine.beat(watches=watches)
        self.name = self.machine.name() or ""
        if works:
            said = {"machine": self.machine.name, "staging": staging}
            Workers(client, f"worker-{folder.name}", 4, lambda: True, **said).beat()  # type: ignore[arg-type]


def checked(client: redis.Redis) -> list[tuple[bool, str]]:
    return [(result.ok, result.message) for result in check_machines(client, Workers(client))]


def test_one_machine_is_well(valkey: redis.Redis, tmp_path: Path) -> None:
    Here(valkey, tmp_path / "one", watches=True, works=True)
    [(ok, message)] = checked(valkey)
    assert ok, message


def test_two_machines_each_with_an_inbox_and_workers_are_well(valkey: redis.Redis, tmp_path: Path) -> None:
    for name in ("one", "other"):
        Here(valkey, tmp_path / name, watches=True, works=True)
    assert [ok for ok, _ in checked(valkey)] == [True]


def test_without_any_inbox_a_worker_is_well_anywhere(valkey: redis.Redis, tmp_path: Path) -> None:
    Here(valkey, tmp_path / "one", watches=False, works=True)
    assert [ok for ok, _ in checked(valkey)] == [True]


def test_a_worker_that_sees_no_inbox_is_named_with_the_machine_that_has_one(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    watching = Here(valkey, tmp_path / "one", watches=True, works=True)
    Here(valkey, tmp_path / "other", watches=False, works=True)
    [(ok, message)] = checked(valkey)
    assert not ok
    assert "worker-other sees no inbox" in message
    assert watching.name[:8] in message


def test_with_staging_it_needs_no_inbox(valkey: redis.Redis, tmp_path: Path) -> None:
    Here(valkey, tmp_path / "one", watches=True, works=True, staging=True)
    Here(valkey, tmp_path / "other", watches=False, works=True, staging=True)
    assert [ok for ok, _ in checked(valkey)] == [True]


def test_staging_on_some_workers_only_is_a_fault(valkey: redis.Redis, tmp_path: Path) -> None:
    Here(valkey, tmp_path / "one", watches=True, works=True, staging=True)
    Here(valkey, tmp_path / "other", watches=True, works=True)
    [(ok, message)] = checked(valkey)
    assert not ok
    assert "worker-other" in message


def test_staging_here_and_on_no_worker_is_a_fault(valkey: redis.Redis, tmp_path: Path) -> None:
    Here(valkey, tmp_path / "one", watches=True, works=True)
    [(result)] = check_machines(valkey, Workers(valkey), staging=True)
    assert not result.ok
    assert "set here and not for worker-one" in result.message


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 document of north_clinic waits"), (3, "3 documents of north_clinic wait")]
)
def test_documents_that_wait_for_another_machine_are_counted(
    valkey: redis.Redis, tmp_path: Path, count: int, words: str
) -> None:
    Here(valkey, tmp_path / "one", watches=False, works=True)
    away = Here(valkey, tmp_path / "away", watches=False, works=False)
    valkey.sadd("chartpost:accounts", "north_clinic")
    valkey.zadd(f"chartpost:due:north_clinic@{away.name}", {f"job {n}": n for n in range(count)})
    [(ok, message)] = checked(valkey)
    assert not ok
    assert f"{words} for a worker on machine {platform.node()} ({away.name[:8]})" in message


def test_closing_work_alone_waits_for_no_worker(valkey: redis.Redis, tmp_path: Path) -> None:
    Here(valkey, tmp_path / "one", watches=True, works=False)
    away = Here(valkey, tmp_path / "away", watches=True, works=False)
    valkey.zadd(f"chartpost:due:~closing@{away.name}", {"job": 1})
    assert checked(valkey) == []
