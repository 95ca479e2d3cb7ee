"""CPU time of a process with all that it has started, those that have ended too."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds."""

    user: float = 0.0
    system: float = 0.0

    @property
    def total(self) -> float:
        return self.user + self.system

    def __add__(self, other: Self) -> Cpu:
        return Cpu(self.user + other.user, self.system + other.system)

    def __sub__(self, other: Self) -> Cpu:
        return Cpu(self.user - other.user, self.system - other.system)


def of_tree(pid: int) -> Cpu:
    """A running process, its children and theirs. A child that ended is counted by the parent that waited for it."""
    try:
        cpu = read_stat((_PROC / str(pid) / "stat").read_text())
    except OSError:
        return Cpu()
    for child in children(pid):
        cpu += of_tree(child)
    return cpu


def read_stat(line: str) -> Cpu:
    """The times in /proc/<pid>/stat: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html, fields 14 to 17."""
    fields = line.rpartition(")")[2].split()  # the name of the program may hold spaces and parentheses
    user, system, childrens_user, childrens_system = (int(field) / _TICKS for field in fields[11:15])
    return Cpu(user + childrens_user, system + childrens_system)


def of_ended_children() -> Cpu:
    """All children of this process that it has waited for until now."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cpu(usage.ru_utime, usage.ru_stime)


def children(pid: int) -> set[int]:
    """The processes that a process has started and that still run."""
    found: set[int] = set()
    with suppress(OSError):
        for thread in (_PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                found.update(map(int, (thread / "children").read_text().split()))
    return found
