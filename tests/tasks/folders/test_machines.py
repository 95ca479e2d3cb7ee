"""Machines that share one Redis: a copy of the folders takes a name of its own, and siblings keep theirs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import redis

from tasks.folders.machine_name import machine_name, read_machine_name, write_machine_name
from tasks.folders.machines import Machine, known_machines


class Turning:
    """A machine whose beats a test makes: each counts as two seconds."""

    def __init__(self, client: redis.Redis, data_dir: Path) -> None:
        self.now = 0.0
        self.machine = Machine(client, data_dir, clock=lambda: self.now)

    def beats(self, count: int = 1) -> str | None:
        for _ in range(count):
            self.now += 2.1
            self.machine.beat(watches=True)
        return self.machine.name()


def copied(data_dir: Path) -> Path:
    return Path(shutil.copytree(data_dir, data_dir.with_name("copy")))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_name_is_kept_over_restarts(valkey: redis.Redis, data: Path) -> None:
    name = Turning(valkey, data).beats()
    assert name == machine_name(data)
    assert [Turning(valkey, data).beats(5) for _ in range(3)] == [name] * 3


def test_processes_of_the_same_folders_share_the_name(valkey: redis.Redis, data: Path) -> None:
    siblings = [Turning(valkey, data) for _ in range(4)]
    names = {sibling.beats() for _ in range(8) for sibling in siblings}
    assert len(names) == 1
    assert list(known_machines(valkey)) == list(names)


def test_of_folders_and_their_copy_one_takes_a_new_name(valkey: redis.Redis, data: Path) -> None:
    original = Turning(valkey, data)
    name = original.beats()
    copy = Turning(valkey, copied(data))
    copy.beats()
    names = {original.beats(5), copy.beats(5)}
    assert len(names) == 2
    assert name in names
    assert {original.beats(5), copy.beats(5)} == names, "and both keep what they have now"


def test_an_image_from_which_two_hosts_were_made(valkey: redis.Redis, data: Path) -> None:
    name = machine_name(data)  # it never ran with this Redis
    one, other = Turning(valkey, data), Turning(valkey, copied(data))
    one.beats()
    other.beats()
    names = {one.beats(5), other.beats(5)}
    assert len(names) == 2
    assert name in names


def test_restored_folders_take_a_new_name(valkey: redis.Redis, data: Path) -> None:
    name = Turning(valkey, data).beats()
    backup = copied(data)
    Turning(valkey, data).beats()
    shutil.rmtree(data)
    backup.rename(data)
    assert Turning(valkey, data).beats(3) != name


def test_moved_folders_keep_their_name(valkey: redis.Redis, data: Path) -> None:
    name = Turning(valkey, data).beats(3)
    moved = data.rename(data.with_name("moved"))
    assert Turning(valkey, moved).beats(3) == name


def test_a_name_that_a_person_wrote_counts(valkey: redis.Redis, data: Path) -> None:
    lost = Turning(valkey, data).beats()
    other = data.with_name("other")
    Turning(valkey, other).beats()
    (other / "machine").write_text(f"{lost}\n")
    assert Turning(valkey, other).beats(3) == lost


def test_a_wiped_redis_changes_no_name(valkey: redis.Redis, data: Path) -> None:
    turning = Turning(valkey, data)
    name = turning.beats()
    valkey.flushall()
    assert turning.beats(5) == name
    assert list(known_machines(valkey)) == [name]


def test_a_kill_between_the_note_in_redis_and_the_file_changes_no_name(valkey: redis.Redis, data: Path) -> None:
    name = Turning(valkey, data).beats()
    before = read_machine_name(data)
    assert before
    Turning(valkey, data).beats()
    write_machine_name(data, before)  # the second start was killed before it wrote its mark
    valkey.hset(f"chartpost:machine:{name}", "mark", before.mark)
    assert Turning(valkey, data).beats(5) == name


def test_a_machine_is_known_with_its_host_and_whether_it_watches(valkey: redis.Redis, data: Path) -> None:
    name = Turning(valkey, data).beats()
    [known] = known_machines(valkey).values()
    assert known.name == name
    assert known.watches
    assert str(known) == f"{known.host} ({known.name[:8]})"
