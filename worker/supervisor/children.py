"""Child processes that end with their parent, however it ends, and that are started again when they end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import structlog

from worker.supervisor.fork import ForkedProcess, die_with_parent, fork

log = structlog.get_logger()

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 60.0


class Child:
    """`python -m <command>`, running. Start it from the main thread: Linux ends it with the thread that started it.

    `log_file` gets what it prints, `output` its standard output alone; without them both go where the parent's go.
    `prefix` goes before the command, for a program that runs another one.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_file: Path | None = None,
        output: Path | None = None,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        with ExitStack() as opened:
            errors_to = opened.enter_context(log_file.open("ab")) if log_file else None
            output_to = opened.enter_context(output.open("ab")) if output else errors_to
            self.process: subprocess.Popen[bytes] | ForkedProcess = subprocess.Popen(
                [*prefix, sys.executable, "-m", *command],
                cwd=folder,
                env=environ,
                stdin=subprocess.PIPE,  # its end says that the parent is gone, where there is no prctl(2)
                stdout=output_to,
                stderr=errors_to,
                preexec_fn=die_with_parent,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which stops its children in order
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.process.poll()

    def stop(self, grace_seconds: float) -> int | None:
        """Ask it to end, and kill it when it does not. The exit code; None if it had to be killed."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait(grace_seconds)

    def wait(self, grace_seconds: float) -> int | None:
        """The same for one that was asked to end: a second time would hasten it."""
        try:
            return self.process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None
        finally:
            if self.process.stdin:
                self.process.stdin.close()


class ForkedChild(Child):
    """A child that this process was forked into."""

    def __init__(self, process: ForkedProcess) -> None:
        self.process = process


class SupervisedProcess:
    """`python -m worker <command> <arguments>` as a child. Pauses between restarts grow; a steady run resets them."""

    def __init__(self, command: str, *arguments: str, number: int = 1) -> None:
        """`number`: which one it is of those that run the same command."""
        self.command = command
        self.name = command if number == 1 else f"{command} {number}"
        self.arguments = (command, *arguments)
        self._child: Child | None = None
        self._started_at = 0.0
        self._restart_at = 0.0
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    def start(self) -> None:
        self._child = Child(["worker", *self.arguments])
        self._started_at = time.monotonic()

    def fork(self) -> bool:
        """The same without a new interpreter. True in the child, which is then to run the command `arguments`."""
        process = fork(["worker", *self.arguments])
        if process is None:
            return True
        self._child = ForkedChild(process)
        self._started_at = time.monotonic()
        return False

    def restart_if_ended(self) -> None:
        """Start the child again if it has ended and its pause is over. Call it often."""
        now = time.monotonic()
        exit_code = self._child.exit_code() if self._child else None
        if exit_code is not None:
            if now - self._started_at > _STEADY_SECONDS:
                self._pause_seconds = _FIRST_PAUSE_SECONDS
            log.error("part_ended", part=self.name, exit=exit_code, restart_seconds=self._pause_seconds)
            self._child, self._restart_at = None, now + self._pause_seconds
            self._pause_seconds = min(self._pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
        if self._child is None and now >= self._restart_at:
            self.start()

    @property
    def runs(self) -> bool:
        """False from when its end was noticed until it is started again."""
        return self._child is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child, if it runs."""
        if self._child and self._child.exit_code() is None:
            self._child.process.send_signal(number)

    def wait(self, grace_seconds: float) -> None:
        """For the end of a child that was sent a SIGTERM; SIGKILL after `grace_seconds`. Documents survive both."""
        if self._child and self._child.wait(grace_seconds) is None:
            log.warning("part_killed", part=self.name, grace_seconds=grace_seconds)
