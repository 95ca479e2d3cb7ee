"""Child processes that end with their parent, however it ends, and that are started again when they end."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import structlog

log = structlog.get_logger()

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>; https://man7.org/linux/man-pages/man2/pr_set_pdeathsig.2const.html
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
            self.process = subprocess.Popen(
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
        try:
            return self.process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None
        finally:
            if self.process.stdin:
                self.process.stdin.close()


class SupervisedProcess:
    """`python -m worker <command> <arguments>` as a child. Pauses between restarts grow; a steady run resets them."""

    def __init__(self, command: str, *arguments: str) -> None:
        self.name = command
        self._arguments = arguments
        self._child: Child | None = None
        self._started_at = 0.0
        self._restart_at = 0.0
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    def start(self) -> None:
        self._child = Child(["worker", self.name, *self._arguments])
        self._started_at = time.monotonic()

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

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child, if it runs."""
        if self._child and self._child.exit_code() is None:
            self._child.process.send_signal(number)

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL after `grace_seconds`. Documents survive both."""
        if self._child and self._child.stop(grace_seconds) is None:
            log.warning("part_killed", part=self.name, grace_seconds=grace_seconds)


def die_with_parent() -> None:
    """Run in the child before exec: it gets a SIGTERM when its parent is gone (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
