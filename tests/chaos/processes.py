"""Our processes in a campaign, each started again when it ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.installation import CONCURRENCY, ChaosInstallation
from tests.harness.installation import Child

_RESTART_SECONDS = 0.5


class SupervisedProcess:
    """One process, its log kept over all its lives. Start it from the main thread: it ends with that."""

    def __init__(
        self, name: str, command: list[str], config: Path, log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log_path = log
        self.frozen = False
        self.ending = False
        self.unasked_exits: list[int] = []  # exit codes
        self._command = command
        self._config = config
        self._environ = {"CHARTPOST_WORKER__CONCURRENCY": str(CONCURRENCY), **(environ or {})}
        self._child: Child | None = None
        self._restart_at = 0.0
        self._life_begins_at = 0  # in the log, in bytes

    @property
    def able(self) -> bool:
        """Whether it can work: it runs, and was neither frozen nor asked to end."""
        return self._child is not None and not self.frozen and not self.ending

    @property
    def log_of_this_life(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(self._life_begins_at)
            return log.read().decode(errors="replace")

    def start(self) -> None:
        self._life_begins_at = self.log_path.stat().st_size if self.log_path.exists() else 0
        self._child = Child(self._command, self._config, self.log_path, **self._environ)

    def kill(self) -> None:
        """SIGKILL, even while it is frozen."""
        if self._child:
            self._child.kill()
        self._child, self.frozen, self.ending = None, False, False
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

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return self._child.process.pid if self._child else None

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._child.exit_code() if self._child else None

    def supervise(self) -> None:
        """Start it again, after a moment, when it has ended without being asked."""
        if self.ending:
            return
        exit_code = self.exit_code()
        if exit_code is not None:
            self.unasked_exits.append(exit_code)
            self._child, self._restart_at = None, time.monotonic() + _RESTART_SECONDS
        if self._child is None and time.monotonic() >= self._restart_at:
            self.start()

    def restart(self) -> None:
        """After it was killed, or has ended as asked."""
        self.kill()
        self.start()

    def _send(self, number: signal.Signals) -> None:
        if self._child:
            self._child.send(number)


class Processes:
    """Two workers, the watcher and the intake."""

    def __init__(self, installation: ChaosInstallation) -> None:
        worker = ["celery", "-A", "worker", "worker"]
        commands = {"worker-1": worker, "worker-2": worker, "watcher": ["worker", "watch"]}
        commands["intake"] = ["worker", "intake"]
        self._processes = {
            name: SupervisedProcess(
                name,
                command,
                installation.config,
                installation.logs / f"{name}.log",
                installation.worker_clock.environ if name == "worker-2" else None,
            )
            for name, command in commands.items()
        }

    def __getitem__(self, name: str) -> SupervisedProcess:
        return self._processes[name]

    def __iter__(self) -> Iterator[SupervisedProcess]:
        return iter(self._processes.values())

    @property
    def workers(self) -> list[SupervisedProcess]:
        return [process for process in self if process.name.startswith("worker")]

    def supervise(self) -> None:
        for process in self:
            process.supervise()

    @contextmanager
    def running(self) -> Iterator[None]:
        """All of them; none is left behind."""
        try:
            for process in self:
                process.start()
            yield
        finally:
            for process in self:
                process.kill()
