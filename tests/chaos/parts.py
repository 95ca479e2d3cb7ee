"""Our processes in a campaign, and the small supervisor that starts them again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.worlds import ROOT
from worker.supervisor.children import die_with_parent

_RESTART_SECONDS = 0.5


class Part:
    """One process of ours, its log kept over all its lives. Start it from the main thread: it dies with that."""

    def __init__(self, name: str, command: list[str], config: Path, log: Path) -> None:
        self.name = name
        self.log_path = log
        self._command = command
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._restart_at = 0.0
        self._born_at = 0
        self.frozen = False
        self.ending = False
        self.ended_by_itself: list[int] = []

    @property
    def able(self) -> bool:
        """Whether it runs and nobody has stopped it."""
        return self._process is not None and not self.frozen and not self.ending

    @property
    def log_of_this_life(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(self._born_at)
            return log.read().decode(errors="replace")

    def start(self) -> None:
        self._born_at = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._command],
                cwd=ROOT,
                env={**os.environ, "CHARTPOST_CONFIG": str(self._config)},
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL, even while it is frozen."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process, self.frozen, self.ending = None, False, False
        self._restart_at = float("inf")

    def freeze(self) -> None:
        self.frozen = True
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)
        self.frozen = False

    def ask_to_end(self) -> None:
        self.ending = True
        self._send(signal.SIGTERM)

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process else None

    def look(self) -> None:
        """Start it again when it has ended by itself, after a moment."""
        if self.ending:
            return
        if self._process and self._process.poll() is not None:
            self.ended_by_itself.append(self._process.returncode)
            self._process, self._restart_at = None, time.monotonic() + _RESTART_SECONDS
        if self._process is None and time.monotonic() >= self._restart_at:
            self.start()

    def begin_again(self) -> None:
        """Started after it was killed or has ended as asked."""
        self.kill()
        self.start()

    def _send(self, number: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(number)


class Parts:
    """Two workers, the watcher and the intake."""

    def __init__(self, config: Path, logs: Path) -> None:
        worker = ["celery", "-A", "worker", "worker"]
        commands = {"worker-1": worker, "worker-2": worker, "watcher": ["worker", "watch"]}
        commands["intake"] = ["worker", "intake"]
        self._parts = {name: Part(name, line, config, logs / f"{name}.log") for name, line in commands.items()}

    def __getitem__(self, name: str) -> Part:
        return self._parts[name]

    def __iter__(self) -> Iterator[Part]:
        return iter(self._parts.values())

    @property
    def workers(self) -> list[Part]:
        return [part for part in self if part.name.startswith("worker")]

    def look(self) -> None:
        for part in self:
            part.look()

    @contextmanager
    def running(self) -> Iterator[None]:
        """All of them; none is left behind."""
        try:
            for part in self:
                part.start()
            yield
        finally:
            for part in self:
                part.kill()
