"""The demo's folder: settings, data, logs. It is kept so that one can look around; the runs before the last few go.

It lies in the system's folder for temporary files. Whoever uses a folder holds a lock on a file in it, so that a demo
that still runs is never swept away.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.demo.scenario import ACCOUNT, MAX_BYTES

KEPT_RUNS = 3
_PREFIX = "chartpost-demo-"
_LOCK = "demo.lock"

# Seconds where a clinic would wait for minutes; the limit lets one document be too large.
_QUICK = {
    "inbox": {"settle_seconds": 0.5, "rescan_seconds": 5.0},
    "retry": {"first_seconds": 1.0, "cap_seconds": 2.0},
}
_QUICK_ACCOUNT = {"confirm": {"first_seconds": 0.5, "cap_seconds": 1.0, "give_up_after_seconds": 6.0}}


@dataclass(frozen=True)
class Place:
    """One run's folder."""

    root: Path

    @property
    def settings(self) -> Path:
        return self.root / "chartpost.toml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def documents(self) -> Path:
        """What callers send by its address: documents that do not come through the inbox."""
        return self.root / "documents"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def write_settings(self, sandbox: Mapping[str, Any]) -> None:
        """A settings file from the one that the sandbox printed."""
        accounts = {name: {**keys, **_QUICK_ACCOUNT} for name, keys in sandbox["accounts"].items()}
        accounts[ACCOUNT] = {**accounts[ACCOUNT], "max_bytes": MAX_BYTES}
        ours = {"data_dir": str(self.data), "file_roots": [str(self.documents)]}
        tree = {**ours, **sandbox, **_QUICK, "accounts": accounts}
        said = "# Written by the demo: the sandbox's settings, with seconds where a clinic would wait for minutes.\n"
        self.settings.write_text(said + "\n".join(_toml(tree)) + "\n")


@contextmanager
def new_place(parent: Path | None = None) -> Iterator[Place]:
    """A fresh folder, readable for us alone, and older runs swept away. `parent`: else where temporary files go."""
    parent = parent or Path(tempfile.gettempdir())
    _sweep(parent)
    place = Place(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)))
    with (place.root / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for folder in (place.documents, place.data, place.logs):
            folder.mkdir()
        yield place


def _sweep(parent: Path) -> None:
    """Remove our own earlier runs but the last, unless they still run; with the coming one, KEPT_RUNS remain."""
    earlier = sorted(filter(_is_ours, parent.glob(_PREFIX + "*")), key=_age)
    for root in earlier[KEPT_RUNS - 1 :]:
        with suppress(OSError), (root / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(root, ignore_errors=True)


def _is_ours(root: Path) -> bool:
    with suppress(OSError):
        return not root.is_symlink() and root.stat().st_uid == os.getuid() and (root / _LOCK).is_file()
    return False


def _age(root: Path) -> float:
    """Sorts the newest first."""
    with suppress(OSError):
        return -(root / _LOCK).stat().st_mtime
    return 0.0


def _toml(table: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """The lines of a table; JSON's plain strings, numbers, booleans and lists are TOML's too."""
    if name:
        yield f"\n[{name}]"
    for key, value in table.items():
        if not isinstance(value, Mapping):
            yield f"{key} = {json.dumps(value)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _toml(value, f"{name}.{key}" if name else key)
