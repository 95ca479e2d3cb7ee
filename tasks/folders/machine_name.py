"""The name of these folders' machine, kept in `data_dir/machine`: a job's files lie on the machine that the job names.

A machine is one `data_dir`: hosts that share a volume share the file, and so the name. Its first line is the name. Its
second line is a mark that changes at each start of a service, by which `folders.machines` recognises a copy of the
folders, such as a host made from another's image. A file without a mark was written by a person or an earlier version;
its name counts as it stands.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from config.data_dir import make_data_dir
from tasks.folders import durable

_FILE, _LOCK = "machine", ".machine-lock"
# For our own user alone: who may write the name gives this machine the documents of another one, and who may lock it
# keeps every process from starting.
_FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class MachineName:
    name: str
    # Empty in a file of one line.
    mark: str = ""


def machine_name(data_dir: Path) -> str:
    """The name, made once: it stays the same when the host name changes, or when `data_dir` is moved."""
    found = read_machine_name(data_dir)
    if found:
        return found.name
    make_data_dir(data_dir)
    # Two processes may make a name at the same moment, each with a draft of its own: the first name counts for both.
    with suppress(FileExistsError):
        durable.write_new(data_dir / _FILE, f"{uuid4()}\n".encode(), _draft(data_dir), _FILE_MODE)
    made = read_machine_name(data_dir)
    assert made is not None  # noqa: S101, it was written just now
    return made.name


def read_machine_name(data_dir: Path) -> MachineName | None:
    """What the file says; None if there is none. Makes nothing."""
    with suppress(FileNotFoundError, NotADirectoryError):
        lines = (data_dir / _FILE).read_text().split()
        if lines:
            return MachineName(*lines[:2])
    return None


def write_machine_name(data_dir: Path, machine: MachineName) -> None:
    """Replace the file, durably."""
    durable.replace(data_dir / _FILE, f"{machine.name}\n{machine.mark}\n".encode(), _draft(data_dir), _FILE_MODE)


@contextmanager
def machine_name_locked(data_dir: Path) -> Iterator[None]:
    """Keep the other processes of these folders from changing the name while the block runs."""
    lock = os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT, _FILE_MODE)
    try:
        with suppress(OSError):  # an earlier version made it for our group too
            os.fchmod(lock, _FILE_MODE)
        # Some network shares have no locks. Two names are then made at worst, of which the last one stays.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _draft(data_dir: Path) -> Path:
    return data_dir / f"machine.{uuid4()}"
