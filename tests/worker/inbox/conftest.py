"""A data folder, and a ledger that records the jobs of its documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.folders.layout import Folders
from tests.harness.keys import SEAL
from tests.worker.inbox.recording import RecordingLedger


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "data", SEAL)
    made.create()
    return made


@pytest.fixture
def ledger(folders: Folders) -> RecordingLedger:
    return RecordingLedger(folders)
