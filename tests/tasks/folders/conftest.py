"""A data folder with an inbox, on one file system or on two."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.folders.layout import Folders
from tests.harness.keys import SEAL


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "data", SEAL)
    made.create()
    return made


@pytest.fixture
def another_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than `tmp_path`."""
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=shared_memory) as folder:
        yield Path(folder)


@pytest.fixture
def folders_on_two_disks(tmp_path: Path, another_disk: Path) -> Folders:
    """The inbox is on another file system."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "inbox").symlink_to(another_disk)
    made = Folders(tmp_path / "data", SEAL)
    made.create()
    return made
