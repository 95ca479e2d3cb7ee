"""The name under which this machine's folders are known to the ledger."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

from tasks.folders.machine_name import MachineName, machine_name, machine_name_locked, write_machine_name


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    data = tmp_path / "not" / "made"
    name = machine_name(data)
    assert str(UUID(name)) == name
    assert machine_name(data) == name
    assert [path.name for path in data.iterdir()] == ["machine"]


def test_each_data_folder_has_another(tmp_path: Path) -> None:
    assert machine_name(tmp_path / "one") != machine_name(tmp_path / "other")


def test_all_that_ask_at_the_same_moment_are_told_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: machine_name(tmp_path), range(32)))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["machine"]


def test_nobody_else_may_write_or_lock_it(tmp_path: Path) -> None:
    """Our group may enter data_dir, to reach the inbox."""
    (tmp_path / ".machine-lock").touch(0o660)  # as an earlier version made it
    before = os.umask(0o007)
    try:
        machine_name(tmp_path)
        made = [path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.name == "machine"]
        with machine_name_locked(tmp_path):
            write_machine_name(tmp_path, MachineName("a-name", "a-mark"))
    finally:
        os.umask(before)
    assert made == [0o600]
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "machine": 0o600,
        ".machine-lock": 0o600,
    }
