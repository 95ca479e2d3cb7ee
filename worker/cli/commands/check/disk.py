"""`chartpost check`: room on the disks that hold our folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tasks.folders.free_space import free_bytes, nearest, needed_bytes
from worker.cli.commands.check.result import CheckResult, failed, passed


def check_disk(
    folders: Iterable[Path], max_bytes: Iterable[int], room: Callable[[Path], int] = free_bytes
) -> Iterator[CheckResult]:
    """One result for each disk, named by the first folder on it. `room` gives the free bytes where a folder is."""
    needed = needed_bytes(max_bytes)
    disks: dict[int, Path] = {}
    for folder in folders:
        disks.setdefault(nearest(folder).stat().st_dev, folder)
    for folder in disks.values():
        free = room(folder)
        if free < needed:
            message = f"{folder}: its disk has {megabytes(free)} free, and should have {megabytes(needed)}: make room."
            yield failed("disk", message)
        else:
            yield passed("disk", f"{folder}: its disk has {megabytes(free)} free.")


def megabytes(count: int) -> str:
    return f"{count / 1_000_000:,.0f} MB"
