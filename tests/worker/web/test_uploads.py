"""What a kill leaves of an upload is removed; what is being uploaded stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

from worker.web.pages.send import sweep_uploads


def test_only_what_is_older_than_any_upload_is_removed(tmp_path: Path) -> None:
    sweep_uploads(tmp_path)
    old, new = tmp_path / ".uploads" / "old", tmp_path / ".uploads" / "new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "letter.pdf").write_bytes(b"a letter")
    two_hours_ago = time.time() - 7200
    os.utime(old, (two_hours_ago, two_hours_ago))
    sweep_uploads(tmp_path)
    assert [folder.name for folder in (tmp_path / ".uploads").iterdir()] == ["new"]
