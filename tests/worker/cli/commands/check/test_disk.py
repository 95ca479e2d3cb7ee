"""A disk with little room is reported, with what it should have."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.worker.cli.commands.check.lines import lines_of
from tests.worker.cli.conftest import CommandLine
from worker.cli.commands.check.disk import check_disk


def test_every_disk_is_named_once_with_its_room(chartpost: CommandLine) -> None:
    (row,) = lines_of(chartpost, "disk")
    assert row["ok"]
    assert row["message"].endswith(" MB free.")


@pytest.mark.parametrize(("max_bytes", "should_have"), [([1000], "200 MB"), ([90_000_000, 5_000_000_000], "10,000 MB")])
def test_a_disk_should_have_200_mb_or_room_for_two_of_the_largest_documents(
    tmp_path: Path, max_bytes: list[int], should_have: str
) -> None:
    needed = 200_000_000 if max_bytes == [1000] else 10_000_000_000
    for free, ok in ((needed - 1, False), (needed, True)):
        folders = [tmp_path / "not" / "there", tmp_path]
        (result,) = check_disk(folders, max_bytes, dict.fromkeys(folders, free).__getitem__)
        assert result.ok is ok
        assert ok or f"should have {should_have}: make room" in result.message


def test_the_room_is_what_the_system_says(tmp_path: Path) -> None:
    (result,) = check_disk([tmp_path], [0])
    said = int(result.message.split(" has ")[1].split(" MB")[0].replace(",", ""))
    assert abs(said - shutil.disk_usage(tmp_path).free / 1_000_000) < 1000  # others write there too
