"""The demo's child processes: the sandbox, `chartpost run` and Flower, started together and stopped in order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from config.accounts import ACCOUNT_KINDS
from worker.demo.workspace import Place
from worker.supervisor.children import die_with_parent

VALIDATION_SECONDS = 1
_PROVIDERS = ",".join(ACCOUNT_KINDS)
_LOOK_SECONDS = 0.1
_PATIENCE_SECONDS = 60.0
_GRACE_SECONDS = 45.0
_READY = "# ready\n"


class DemoFailed(Exception):
    """The demo cannot go on; the message says why and what to do."""


class Interrupted(Exception):
    """Ctrl-C, or SIGTERM."""


@dataclass
class Child:
    name: str
    process: subprocess.Popen[bytes]

    def stop(self) -> bool:
        """Ask it to end; False if it had to be killed."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        finally:
            if self.process.stdin:
                self.process.stdin.close()
        return True


class Processes:
    """Children in sessions of their own, so that Ctrl-C reaches only the demo, which then stops them in order.

    `tick` is called while waiting, for whoever shows that time passes.
    """

    def __init__(self, place: Place, asked_to_stop: threading.Event, tick: Callable[[], None]) -> None:
        self._place = place
        self._asked_to_stop = asked_to_stop
        self._tick = tick
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    # --- starting ----------------------------------------------------------------------------------------------

    def start_sandbox(self) -> dict[str, Any]:
        """Start `python -m sandbox`; the settings that it prints. Raises DemoFailed and Interrupted."""
        printed = self._place.root / "sandbox.toml"
        seconds = str(VALIDATION_SECONDS)
        options = ("--port", "0", "--validation-seconds", seconds, "--providers", _PROVIDERS, "--stop-at-eof")
        child = self._start("sandbox", "sandbox", *options, output=printed)
        self.until(lambda: printed.read_text().endswith(_READY) or child.process.poll() is not None, "The sandbox")
        self.check()
        return tomllib.loads(printed.read_text())

    def start_run(self) -> None:
        """Start `chartpost run` with the place's settings."""
        self._start("chartpost-run", "worker", "run")

    def start_flower(self) -> str:
        """Start Flower on a free port of loopback; its address. Raises DemoFailed and Interrupted."""
        port = free_port()
        self._start("flower", "celery", "-A", "worker", "flower", "--address=127.0.0.1", f"--port={port}")
        self.until(lambda: _answers(port), "Flower")
        return f"http://127.0.0.1:{port}"

    # --- while they run ----------------------------------------------------------------------------------------

    def until(self, true: Callable[[], object], what: str, seconds: float = _PATIENCE_SECONDS) -> None:
        """Wait until it is so. Raises DemoFailed when it takes too long or a child has ended, and Interrupted."""
        deadline = time.monotonic() + seconds
        while not true():
            self.check()
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what} was not ready within {seconds:.0f} seconds. {self._read_the_logs}")
            self.pause(_LOOK_SECONDS)

    def pause(self, seconds: float) -> None:
        """Let time pass. Raises Interrupted."""
        self._tick()
        if self._asked_to_stop.wait(seconds):
            raise Interrupted

    def check(self) -> None:
        """Raises DemoFailed if a child has ended by itself."""
        for child in self._children:
            if child.process.poll() is not None:
                raise DemoFailed(self._last_words(child))

    # --- stopping ----------------------------------------------------------------------------------------------

    def stop(self) -> list[str]:
        """Stop all, the last one first; the names of those that had to be killed. May be repeated."""
        killed = []
        while self._children:
            child = self._children.pop()
            if not child.stop():
                killed.append(child.name)
        return killed

    def _start(self, name: str, *command: str, output: os.PathLike[str] | None = None) -> Child:
        log = self._log(name)
        with log.open("ab") as errors, open(output or log, "ab") as printed:  # noqa: PTH123 (either of the two)
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=self._environment(),
                stdin=subprocess.PIPE,  # the sandbox ends with it, and so with us, however we end
                stdout=printed,
                stderr=errors,
                preexec_fn=die_with_parent,
                start_new_session=True,
            )
        child = Child(name, process)
        self._children.append(child)
        return child

    def _environment(self) -> dict[str, str]:
        """The user's, without settings of theirs, which are not about the demo."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("CHARTPOST_")}
        return {**others, "CHARTPOST_CONFIG": str(self._place.settings), "PYTHONUNBUFFERED": "1"}

    def _last_words(self, child: Child) -> str:
        lines = self._log(child.name).read_text(errors="replace").strip().splitlines()
        said = lines[-1].removeprefix(f"{child.name}: ") if lines else "it said nothing"
        return f"The demo cannot go on, since {child.name} has ended: {said}\n{self._read_the_logs}"

    def _log(self, name: str) -> Path:
        return self._place.logs / f"{name}.log"

    @property
    def _read_the_logs(self) -> str:
        return f"The logs are in {self._place.logs}"


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and a closed terminal set, instead of what they do by default."""
    asked = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in numbers}
    try:
        yield asked
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
