"""Which files count as open for writing: real writers in real processes, on the file system of the tests."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.sources.writers import Method, Writers
from tests.harness.sandbox import ROOT

HOLD = "import sys, os; file = os.open(sys.argv[1], int(sys.argv[2])); print('open', flush=True); sys.stdin.read()"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "scan.pdf"
    path.write_bytes(b"page 1")
    return path


@contextmanager
def opened_elsewhere(path: Path, flags: int) -> Iterator[None]:
    """Another process has it open."""
    command = [sys.executable, "-c", HOLD, str(path), str(flags)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == b"open\n"
        yield
        process.stdin.close()


def other_proc(folder: Path, at: Path, *, processes: bool = True) -> Path:
    """A /proc as of a machine on which `at` lies on a network share; without `processes` it shows nobody's files."""
    made = folder / "proc"
    (made / "self").mkdir(parents=True)
    device = at.stat().st_dev
    mount = f"36 35 {os.major(device)}:{os.minor(device)} / / rw,noatime - nfs4 nas:/scans rw\n"
    (made / "self" / "mountinfo").write_text(mount)
    if processes:
        (made / "self" / "fd").mkdir()
        for process in Path("/proc").iterdir():
            if process.name.isdecimal():
                (made / process.name).symlink_to(process)
    return made


FLAGS = [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("method", [Method.LEASE, Method.PROC])
def test_a_file_is_written_until_its_writer_has_closed_it(
    tmp_path: Path, path: Path, flags: int, method: Method
) -> None:
    with opened_elsewhere(path, flags):
        proc = Path("/proc") if method is Method.LEASE else other_proc(tmp_path, path)
        writers = Writers(proc=proc)
        assert writers.method(tmp_path) is method
        assert writers.has_writer(path)
    assert not writers.has_writer(path)


@pytest.mark.parametrize("method", [Method.LEASE, Method.PROC])
def test_a_reader_is_no_writer(tmp_path: Path, path: Path, method: Method) -> None:
    with opened_elsewhere(path, os.O_RDONLY):
        writers = Writers(proc=Path("/proc") if method is Method.LEASE else other_proc(tmp_path, path))
        assert not writers.has_writer(path)


def test_a_writer_that_has_only_mapped_the_file_is_seen_by_a_lease(path: Path) -> None:
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    assert Writers().has_writer(path)
    mapped.close()
    assert not Writers().has_writer(path)


def test_a_file_keeps_its_writer_when_it_is_renamed(path: Path) -> None:
    with path.open("ab"):
        moved = path.rename(path.with_name("moved.pdf"))
        assert Writers().has_writer(moved)
    assert not Writers().has_writer(moved)


def test_without_leases_and_proc_only_time_tells(tmp_path: Path, path: Path) -> None:
    writers = Writers(proc=other_proc(tmp_path, path, processes=False))
    assert writers.method(tmp_path) is Method.TIME
    with path.open("ab"):
        assert not writers.has_writer(path)


def test_leases_are_tried_once_for_each_file_system_and_leave_nothing(tmp_path: Path, path: Path) -> None:
    ours = tmp_path / "processing"
    ours.mkdir()
    writers = Writers(ours)
    before = tmp_path.stat().st_mtime_ns
    assert writers.method(tmp_path) is writers.method(ours)
    assert list(ours.iterdir()) == []
    assert tmp_path.stat().st_mtime_ns == before  # nothing was made in the senders' folder


AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from tasks.sources.writers import Writers, sees_all_owners
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
path = Path(sys.argv[1])
writers = Writers(Path(sys.argv[2]))
print(sees_all_owners(), writers.method(path.parent), writers.has_writer(path))
"""


def test_of_another_users_file_no_lease_is_to_be_had_and_it_is_no_error() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours, path = Path(folder, "ours"), Path(folder, "scan.pdf")
        ours.mkdir()
        path.write_bytes(b"page 1")
        if os.getuid() == 0:
            Path(folder).chmod(0o755)
            os.chown(ours, 65534, 65534)
        else:
            path = Path("/etc/passwd")
        command = [sys.executable, "-c", AS_ANOTHER_USER, str(path), str(ours)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    can_see, _, written = run.stdout.split()
    assert (can_see, written) == ("False", "False")


LOOK = """
import sys, time
from pathlib import Path
from tasks.sources.writers import Writers
writers, path, until = Writers(), Path(sys.argv[1]), time.monotonic() + 2
print("looking", flush=True)
seen = set()
while time.monotonic() < until:
    seen.add(writers.has_writer(path))
print(seen == {True, False})
"""


def test_a_program_that_opens_the_file_at_that_moment_neither_waits_nor_ends_us(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOOK, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "looking\n"
        longest = 0.0
        while process.poll() is None:
            began = time.monotonic()
            with path.open("ab"):
                longest = max(longest, time.monotonic() - began)
        assert process.stdout.read() == "True\n"
    assert process.returncode == 0  # -29 is SIGIO
    lease_break = float(Path("/proc/sys/fs/lease-break-time").read_text())
    assert longest < lease_break / 2
