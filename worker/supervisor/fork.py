"""Forks a process into a part of `chartpost run`, which so shares all that was imported before.

Only a process of one thread may fork: of the others the child would have the locks and not the threads. It must hold no
connection either, since parent and child would read each other's answers.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.02
# Python's own handlers at its start. Any: what signal.signal takes.
_AT_START: dict[signal.Signals, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
}
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>; https://man7.org/linux/man-pages/man2/pr_set_pdeathsig.2const.html
_ARG_START = 48  # the field's number; https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html


class ForkedProcess:
    """A child of this process, with the part of `subprocess.Popen` that a supervisor uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.stdin = None
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 0  # whoever started us ignores SIGCHLD: how it ended is not known
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + timeout if timeout is not None else float("inf")
        while (exit_code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(_POLL_SECONDS)
        return exit_code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def may_fork() -> bool:
    """True on Linux, while this process has one thread. Threads of libraries count, which Python does not know."""
    try:
        return sys.platform == "linux" and len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:
        return False  # another system, or one that hides it


def fork(command: Sequence[str]) -> ForkedProcess | None:
    """A child that is to run `python -m <command>`. None in the child, which must do so and then end.

    It ends with this process, as `die_with_parent` says. What it finds is what a new interpreter would find: its own
    session, no files but the three, the handlers of Python's start, its command in the process list. Its standard input
    is empty.
    """
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # or both would write what still waits here
    gc.freeze()  # a collection writes to every object that it looks at, and so ends the sharing of its page
    # A signal that comes before the child has its own handlers would be lost in those of its parent.
    signal.pthread_sigmask(signal.SIG_BLOCK, _AT_START)
    pid = os.fork()
    if pid == 0:
        try:
            _become(command, parent)
        except BaseException:  # noqa: BLE001, the caller must not go on as a second supervisor
            traceback.print_exc()
            os._exit(os.EX_OSERR)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _AT_START)
    return ForkedProcess(pid) if pid else None


def die_with_parent() -> None:
    """Run in a child: it gets a SIGTERM when its parent is gone (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _become(command: Sequence[str], parent: int) -> None:
    os.setsid()  # Ctrl-C reaches the parent alone, which stops its children in order
    for number, handler in _AT_START.items():
        if callable(signal.getsignal(number)):  # what is ignored stays so, as with a new program
            signal.signal(number, handler)
    die_with_parent()
    if os.getppid() != parent:
        os._exit(os.EX_OK)  # it has ended already, and would send no signal
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for file in list(Path("/proc/self/fd").iterdir()):
        if int(file.name) > 2:
            with contextlib.suppress(OSError):  # the list itself was one of them
                os.close(int(file.name))
    # The command is what a reload begins again (worker/reload).
    sys.orig_argv[:] = [sys.executable, "-m", *command]
    sys.argv[1:] = command[1:]
    _show([sys.orig_argv[0], "-m", *command])


def _show(arguments: Sequence[str]) -> None:
    """Have the process list show these arguments, in the place of the parent's.

    The kernel shows the memory in which it has put them. If there is less room, the beginning of the interpreter's path
    is left out.
    """
    start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[_ARG_START - 3 :][:2])
    if not start < end:
        return  # a kernel that does not tell
    room = end - start
    text = b"\0".join(map(os.fsencode, arguments)) + b"\0"
    ctypes.memmove(start, text[-room:].ljust(room, b"\0"), room)
