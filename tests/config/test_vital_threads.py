"""A process whose feeder, say, has died ends, so that its supervisor starts another."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from tests.harness.sandbox import ROOT


def ended(act: str) -> subprocess.CompletedProcess[str]:
    """A process that starts a vital thread, and would live on for a minute."""
    program = f"""
        import time
        from config.logs import configure_logs
        from config.vital_threads import start_vital
        configure_logs("json", "info")
        def act():
            {act}
        start_vital(act, "feeder").join()
        print("lives on")
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_error_ends_the_process_and_is_named_without_its_words() -> None:
    process = ended('raise OSError(24, "no descriptor for Meier.pdf")')
    assert (process.returncode, process.stdout) == (70, "")
    assert '"event": "vital_thread_crashed"' in process.stderr
    assert '"thread": "feeder"' in process.stderr
    assert "Meier" not in process.stderr


def test_a_thread_that_returns_ends_nothing() -> None:
    process = ended("return")
    assert (process.returncode, process.stdout) == (0, "lives on\n")
