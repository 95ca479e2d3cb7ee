"""The demo's child processes, started one after the other and stopped in the opposite order."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from config.accounts import ACCOUNT_KINDS
from worker.demo.workspace import Workspace
from worker.supervisor.children import Child

VALIDATION_SECONDS = 1
_POLL_SECONDS = 0.1
_READY_SECONDS = 60.0
_GRACE_SECONDS = 45.0


class DemoFailed(Exception):
    """The demo cannot go on; the message says why and what to do."""


class Interrupted(Exception):
    """Ctrl-C, or SIGTERM."""


class Processes:
    """The children, by name in the order of their start. `tick` is called while the demo waits for something."""

    def __init__(self, workspace: Workspace, interrupted: threading.Event, tick: Callable[[], None]) -> None:
        self._workspace = workspace
        self._interrupted = interrupted
        self._tick = tick
        self._children: dict[str, Child] = {}

    def start_sandbox(self) -> str:
        """Start `python -m sandbox` and return the settings that it prints. Raises DemoFailed and Interrupted."""
        printed = self._workspace.root / "sandbox.toml"
        options = ("--validation-seconds", str(VALIDATION_SECONDS), "--providers", ",".join(ACCOUNT_KINDS))
        self.start("sandbox", "sandbox", "--port", "0", "--stop-at-eof", *options, output=printed)
        self.wait_until(lambda: printed.read_text().endswith("# ready\n"), "The sandbox")
        return printed.read_text()

    def start_flower(self) -> str:
        """Start Flower on a free port of loopback and return its address. Raises DemoFailed and Interrupted."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        self.start("flower", "celery", "-A", "worker", "flower", "--address=127.0.0.1", f"--port={port}")
        self.wait_until(lambda: _accepts_connections(port), "Flower")
        return f"http://127.0.0.1:{port}"

    def start(self, name: str, *command: str, output: Path | None = None) -> None:
        """Start `python -m <command>` with the demo's settings."""
        # The user's own CHARTPOST_ variables are settings of another installation.
        environ = {key: value for key, value in os.environ.items() if not key.startswith("CHARTPOST_")}
        environ |= {"CHARTPOST_CONFIG": str(self._workspace.settings), "PYTHONUNBUFFERED": "1"}
        self._children[name] = Child(command, log_file=self._log(name), output=output, environ=environ)

    def wait_until(self, ready: Callable[[], object], what: str) -> None:
        """Raises DemoFailed when it takes too long or a child has ended, and Interrupted."""
        deadline = time.monotonic() + _READY_SECONDS
        while not ready():
            if time.monotonic() > deadline:
                raise self._failed(f"{what} was not ready within {_READY_SECONDS:.0f} seconds.")
            self.pause(_POLL_SECONDS)

    def pause(self, seconds: float) -> None:
        """Raises DemoFailed when a child has ended, and Interrupted."""
        self._tick()
        for name, child in self._children.items():
            if child.exit_code() is not None:
                lines = self._log(name).read_text(errors="replace").strip().splitlines()
                reason = lines[-1].removeprefix(f"{name}: ") if lines else "it printed nothing"
                raise self._failed(f"The demo cannot go on, since {name} has ended: {reason}")
        if self._interrupted.wait(seconds):
            raise Interrupted

    def stop(self) -> list[str]:
        """Stop all, the last one first; the names of those that had to be killed. May be repeated."""
        killed = []
        while self._children:
            name, child = self._children.popitem()
            if child.stop(_GRACE_SECONDS) is None:
                killed.append(name)
        return killed

    def _failed(self, why: str) -> DemoFailed:
        return DemoFailed(f"{why}\nThe logs are in {self._workspace.logs}")

    def _log(self, name: str) -> Path:
        return self._workspace.logs / f"{name}.log"


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and a closed terminal set, instead of what they do otherwise."""
    interrupted = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: interrupted.set()) for number in numbers}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
