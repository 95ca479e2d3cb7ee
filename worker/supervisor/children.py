"""Child processes that end with their parent, however it ends."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

_PR_SET_PDEATHSIG = 1


class Child:
    """`python -m <command>`, running. Start it from the main thread: Linux ends it with the thread that started it.

    `log` gets what it prints, `output` its standard output alone; without them both go where the parent's go.
    `prefix` goes before the command, for a program that runs another one.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path | None = None,
        output: Path | None = None,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        with ExitStack() as opened:
            errors_to = opened.enter_context(log.open("ab")) if log else None
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


def die_with_parent() -> None:
    """Run in the child before exec: a SIGTERM when the parent is gone (Linux, prctl(2)); elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
