"""A real disk that gets full: a small tmpfs in a mount namespace of its own, which ends with the process that holds it.

A command that writes there runs inside the namespace: `inside` is put before it. The test reads through /proc.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_BLOCK = bytes(4096)
_BALLAST = ".ballast"
_WITHOUT_RIGHTS = ("unshare", "--user", "--map-root-user", "--mount")
_AS_ROOT = ("unshare", "--mount")


class NoSmallDisk(Exception):
    """A disk cannot be mounted here; the message says why."""


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """`inside` runs a command where the disk is mounted; `path` is the disk as it is seen from outside."""

    inside: tuple[str, ...]
    path: Path

    def fill(self, but_bytes: int = 0) -> None:
        """Fill the disk; `but_bytes` stay free."""
        ballast = self.path / _BALLAST
        try:
            with ballast.open("ab", buffering=0) as file:
                while file.write(_BLOCK) == len(_BLOCK):
                    pass
        except OSError:
            pass
        if but_bytes:
            with ballast.open("ab") as file:
                file.truncate(max(0, file.tell() - but_bytes))

    def make_room(self) -> None:
        (self.path / _BALLAST).unlink()

    def room(self) -> int:
        return shutil.disk_usage(self.path).free


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mount one on `folder`, which must exist. Raises NoSmallDisk."""
    mount = f'mount -t tmpfs -o size={megabytes}m,mode=0750 chartpost-test "$1" && echo mounted && exec cat'
    reasons = []
    for unshare in (_WITHOUT_RIGHTS, _AS_ROOT):
        holder = subprocess.Popen(
            [*unshare, "--propagation", "private", "sh", "-c", mount, "sh", str(folder)],
            stdin=subprocess.PIPE,  # `cat` ends with this process
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with holder:
            if holder.stdout and holder.stdout.readline() == "mounted\n":
                yield _disk(holder.pid, folder, unshare)
                holder.terminate()
                return
            reasons.append(holder.stderr.read().strip() if holder.stderr else "")
    raise NoSmallDisk("; ".join(reasons))


def _disk(pid: int, folder: Path, unshare: tuple[str, ...]) -> SmallDisk:
    namespaces = ("--user", "--preserve-credentials") if unshare is _WITHOUT_RIGHTS else ()
    inside = ("nsenter", "--target", str(pid), "--mount", *namespaces, f"--wd={Path.cwd()}", "--")
    return SmallDisk(inside, Path(f"/proc/{pid}/root{folder}"))
