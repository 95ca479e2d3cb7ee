"""Does another program have a file open for writing?

A file can hold still for seconds although its writer is not done: a scanner that waits for the next page keeps it open.
There are three ways to know, and the first that works is used:

1.  A read lease (fcntl(2), F_SETLEASE). The kernel refuses it while anybody on this machine has the file open for
    writing, or mapped for writing. It takes some microseconds. It needs a local file system, and a file of our own user
    or the capability CAP_LEASE.
2.  /proc: what the processes that we may look at have open. Those of other users are hidden from an ordinary user.
3.  Time alone: a file that has not changed for some seconds is taken as finished.

Programs on other machines, which write through a network share, are never seen by 1 and 2.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import stat
import threading
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

from tasks.sources.entries import Entry, Place, entry

_PROC = Path("/proc")
_OUR_PREFIX = ".chartpost-"  # the inbox ignores hidden files, and these names are never a document's in processing/
# Without a delegation or an oplock of the server these refuse a lease although nobody writes.
_NETWORK = ("9p", "afs", "ceph", "cifs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs")
_CAP_LEASE = 28  # linux/capability.h


class Method(StrEnum):
    """How writers are recognised on one file system."""

    LEASE = "lease"
    PROC = "proc"
    TIME = "time"


class Writers:
    """Tells whether a file is open for writing. `probe_folders` are folders of our own, to try leases in.

    One object a process: what works on a file system is tried once. Threads may share it.
    """

    def __init__(self, *probe_folders: Path, proc: Path = _PROC) -> None:
        self._probe_folders = probe_folders
        self._proc = proc
        self._methods: dict[int, Method] = {}
        self._lock = threading.Lock()

    def method(self, folder: Path) -> Method:
        """What works for the files of our own user in this folder. Raises OSError if there is no such folder."""
        return self._method(entry(folder / "any"), folder.stat().st_dev)

    def _method(self, file: Entry, device: int) -> Method:
        """What works for the files of our own user in the folder of a file."""
        with self._lock:
            if device not in self._methods:
                self._methods[device] = self._find_method(file, device)
            return self._methods[device]

    def has_writer(self, place: Place) -> bool:
        """True if a program has this file open for writing, as far as that can be known here. Raises OSError."""
        descriptor = entry(place).open()
        try:
            return self.opened_has_writer(descriptor, place)
        finally:
            os.close(descriptor)

    def opened_has_writer(self, descriptor: int, place: Place) -> bool:
        """As `has_writer`, of a file that is open for reading. Raises OSError."""
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return False
        method = self._method(entry(place), status.st_dev)
        writer = _refuses_lease(descriptor) if method is Method.LEASE else None
        if writer is None and method is not Method.TIME:
            return self._is_in_proc(status)
        return bool(writer)

    def _find_method(self, file: Entry, device: int) -> Method:
        if _file_system(device, self._proc) not in _NETWORK and self._leases_work(file, device):
            return Method.LEASE
        return Method.PROC if (self._proc / "self" / "fd").is_dir() else Method.TIME

    def _leases_work(self, file: Entry, device: int) -> bool:
        """Try leases with a file of our own: refused while it is open for writing, given afterwards."""
        if not hasattr(fcntl, "F_SETLEASE"):
            return False
        name = f"{_OUR_PREFIX}probe-{uuid4()}"
        for folder in self._probe_folders:
            with suppress(OSError):
                if folder.stat().st_dev == device:
                    return _works_at(entry(folder / name))
        with suppress(OSError):
            return _works_at(file.beside(name))
        return False

    def _is_in_proc(self, wanted: os.stat_result) -> bool:
        """Whether a process that we may look at has it open for writing."""
        proc = str(self._proc)  # text instead of paths: there may be thousands of open files
        for process in os.listdir(proc):  # noqa: PTH208
            if not process.isdecimal():
                continue
            with suppress(OSError):  # it has ended, or belongs to another user
                for name in os.listdir(f"{proc}/{process}/fd"):  # noqa: PTH208
                    with suppress(OSError):
                        opened = os.stat(f"{proc}/{process}/fd/{name}")  # noqa: PTH116
                        if os.path.samestat(opened, wanted) and _may_write(f"{proc}/{process}/fdinfo/{name}"):
                            return True
        return False


def sees_all_owners() -> bool:
    """True if this process may take leases on files of other users."""
    with suppress(OSError, ValueError):
        capabilities = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
        return bool(capabilities and int(capabilities[1], 16) >> _CAP_LEASE & 1)
    return False


def _refuses_lease(descriptor: int) -> bool | None:
    """True if the file is open for writing, False if it is not; None if leases cannot tell."""
    try:
        # A program that opens the file while we have the lease makes the kernel send us a signal. Its usual one, SIGIO,
        # would end this process. SIGURG is ignored unless a program asks for it.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        # Of another user (EACCES), or a file system without leases (EINVAL, ENOLCK, EOPNOTSUPP).
        return True if error.errno == errno.EAGAIN else None
    # At once: that program waits for us.
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _works_at(probe: Entry) -> bool:
    with os.fdopen(_unnamed(probe), "wb") as writing:
        reading = os.open(f"/proc/self/fd/{writing.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        refused_while_written = _refuses_lease(reading)
    with os.fdopen(reading, "rb"):
        return refused_while_written is True and _refuses_lease(reading) is False


def _unnamed(probe: Entry) -> int:
    """A new file without a name, open for writing, in the folder of `probe`: a kill leaves nothing behind."""
    folder = Path(probe.name).parent  # "." for a name in an open folder
    try:
        return os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=probe.folder)
    except OSError:  # a file system that has no such files
        writing = probe.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        probe.unlink(missing_ok=True)
        return writing


def _file_system(device: int, proc: Path) -> str:
    """The kind of the file system, such as `ext4`; empty if it cannot be found."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError):
        for line in (proc / "self" / "mountinfo").read_text(errors="replace").splitlines():
            mount, _, kind = line.partition(" - ")  # proc(5)
            if mount.split()[2:3] == [number]:
                return kind.split()[0]
    return ""


def _may_write(fdinfo: str) -> bool:
    with suppress(OSError, ValueError):
        flags = re.search(r"^flags:\s*([0-7]+)$", Path(fdinfo).read_text(), re.MULTILINE)
        return flags is not None and int(flags[1], 8) & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)
    return False
