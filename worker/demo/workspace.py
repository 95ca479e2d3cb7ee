"""The demo's folder: settings, data and logs, kept so that people can look around. The runs before the last few go."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from worker.demo.scenario import ACCOUNT, MAX_BYTES

KEPT_RUNS = 3
_PREFIX = "chartpost-demo-"
_LOCK = "demo.lock"

# Seconds where a clinic would wait for minutes.
_QUICK = """
[inbox]
settle_seconds = 0.5
rescan_seconds = 5.0
[retry]
first_seconds = 1.0
cap_seconds = 2.0
"""
_QUICK_ACCOUNT = "confirm = { first_seconds = 0.5, cap_seconds = 1.0, give_up_after_seconds = 6.0 }"


class Workspace:
    """One run's folder. `documents` holds what callers send by its address, so what does not come by the inbox."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = root / "chartpost.toml"
        self.data = root / "data"
        self.documents = root / "documents"
        self.logs = root / "logs"

    def write_settings(self, sandbox: str) -> None:
        """Write the settings that the sandbox printed, with our folders and short times."""
        folders = f"data_dir = {json.dumps(str(self.data))}\nfile_roots = [{json.dumps(str(self.documents))}]\n"
        quick = re.sub(r"^provider = .*$", rf"\g<0>\n{_QUICK_ACCOUNT}", sandbox, flags=re.MULTILINE)
        limited = quick.replace(f"[accounts.{ACCOUNT}]", f"[accounts.{ACCOUNT}]\nmax_bytes = {MAX_BYTES}")
        self.settings.write_text(folders + limited + _QUICK)


@contextmanager
def new_workspace(parent: Path | None = None) -> Iterator[Workspace]:
    """A new folder that others cannot read, after earlier runs were removed. `parent`: else the system's for such."""
    parent = parent or Path(tempfile.gettempdir())
    _remove_earlier_runs(parent)
    workspace = Workspace(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)))
    with (workspace.root / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # held as long as the demo runs, so that no other run removes the folder
        for folder in (workspace.documents, workspace.data, workspace.logs):
            folder.mkdir()
        yield workspace


def _remove_earlier_runs(parent: Path) -> None:
    """Leave the last few, those that still run, and what other users made; with the coming one, KEPT_RUNS remain."""
    earlier: list[tuple[float, Path]] = []
    for root in parent.glob(_PREFIX + "*"):
        with suppress(OSError):
            if not root.is_symlink() and root.stat().st_uid == os.getuid():
                earlier.append(((root / _LOCK).stat().st_mtime, root))
    for _, root in sorted(earlier, reverse=True)[KEPT_RUNS - 1 :]:
        with suppress(OSError), (root / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(root, ignore_errors=True)
