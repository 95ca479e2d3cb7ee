"""The name under which this machine's folders are known to the ledger."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

from tasks.folders.machine_name import machine_name


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
