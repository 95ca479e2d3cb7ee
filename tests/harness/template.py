"""Starts our processes by forking one that has imported everything: the imports are most of a start's CPU time.

A process from here differs from `python -m <command>` only in that its modules were imported before. Tests about the
start itself (locale, memory, what the process list shows, another disk) use `python -m`, with a `prefix` or
`Installation.inside`.

The template is a process of its own. It imports, forks, reaps and says how a child ended; it makes no client and no
thread, and ends with the tests.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.harness.sandbox import ROOT
from worker.supervisor.fork import die_with_parent

_LONGEST_REQUEST = 1 << 20
_PRELOADED = (
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.app.control",
    "celery.app.log",
    "celery.apps.worker",
    "celery.backends.redis",
    "celery.concurrency.thread",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.strategy",
    "kombu.matcher",
    "kombu.pidbox",
    "kombu.transport.redis",
    "boto3",
    "tasks.providers.cliniko.client",
    "tasks.providers.fhir_server.client",
    "tasks.providers.nhn.client",
    "tasks.providers.ovok.client",
    "tasks.providers.pracsuite.client",
    "tasks.providers.redox.client",
    "worker.celery.metrics",
    "worker.celery.worker_app",
    "worker.cli.commands.check.command",
    "worker.cli.commands.jobs",
    "worker.cli.commands.retry.command",
    "worker.cli.commands.serve",
    "worker.cli.main",
    "worker.inbox.build",
    "worker.inbox.service",
    "worker.stream.build",
    "worker.web.command",
    "worker.web.server",
    "worker.web.users_command",
    "tests.harness.failpoint_worker",
)


class ForkedProcess:
    """A child of the template, with the part of `subprocess.Popen` that tests use."""

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], folder: Path, output: Any, errors: Any
    ) -> None:
        ours, theirs = os.pipe2(os.O_CLOEXEC)[::-1]
        self.stdin: Any = os.fdopen(ours, "wb", buffering=0)
        request = {"start": list(command), "environ": dict(environ), "folder": str(folder), "umask": _umask()}
        self.pid: int = _template().ask(request, [theirs, output.fileno(), errors.fileno()])["pid"]
        os.close(theirs)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _template().ask({"ended": self.pid})["exit"]
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        ends_at = time.monotonic() + timeout if timeout is not None else None
        while (exit_code := self.poll()) is None:
            if ends_at is not None and time.monotonic() > ends_at:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.01)
        return exit_code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_forked(
    command: Sequence[str], environ: Mapping[str, str], folder: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with `capture_output` and `text`. Its standard input is empty."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = ForkedProcess(command, environ, folder, output, errors)
        process.stdin.close()
        try:
            exit_code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        for file in (output, errors):
            file.seek(0)
        return subprocess.CompletedProcess(list(command), exit_code, output.read().decode(), errors.read().decode())


class _Template:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.harness.template", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, cwd=ROOT, pass_fds=[theirs.fileno()], preexec_fn=die_with_parent, start_new_session=True
        )
        theirs.close()
        atexit.register(self.stop)

    def stop(self) -> None:
        self._socket.close()
        self._process.wait()

    def ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], list(descriptors))
            answer = self._socket.recv(_LONGEST_REQUEST)
        assert answer, "the template process has ended: its error stands above"
        return dict(json.loads(answer))


@cache
def _template() -> _Template:
    return _Template()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def serve(connection: socket.socket) -> list[str]:
    """Answer requests. Returns only in a child, which is then to run the command that it returns."""
    ended: dict[int, int] = {}
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    while True:
        readable = select.select([connection.fileno(), woken], [], [])[0]
        if woken in readable:
            os.read(woken, 4096)
        reap(ended)
        if connection.fileno() not in readable:
            continue
        message, descriptors, _, _ = socket.recv_fds(connection, _LONGEST_REQUEST, 3)
        if not message:
            sys.exit(0)
        request = json.loads(message)
        if "ended" in request:
            connection.send(json.dumps({"exit": ended.get(request["ended"])}).encode())
            continue
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for ours in (connection.detach(), woken, wake):
                os.close(ours)
            become(request, descriptors)
            return list(request["start"])
        connection.send(json.dumps({"pid": child}).encode())
        for each in descriptors:
            os.close(each)


def reap(ended: dict[int, int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ended[pid] = os.waitstatus_to_exitcode(status)


def become(request: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Take on a new process's session, files, folder and environment."""
    os.setsid()
    die_with_parent()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environ"])
    time.tzset()
    sys.orig_argv[:] = [sys.executable, "-m", *request["start"]]


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    for name in _PRELOADED:
        __import__(name)
    gc.freeze()
    module, *arguments = serve(connection)
    sys.argv[:] = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
