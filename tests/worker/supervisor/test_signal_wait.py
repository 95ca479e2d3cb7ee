"""The supervisor sleeps until a child ends, or a signal comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from worker.supervisor.signal_wait import SignalWait

# A wait that no signal ends: the runner of the tests would end this one.
HOUR = 3600.0


def test_a_wait_ends_when_a_child_has_ended() -> None:
    with SignalWait() as signals:
        child = subprocess.Popen([sys.executable, "-c", ""])
        signals.wait(HOUR)
        assert child.wait() == 0


def test_a_signal_that_came_before_the_wait_is_not_missed() -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with SignalWait() as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            signals.wait(HOUR)
            os.kill(os.getpid(), signal.SIGUSR1)
            signals.wait(HOUR)
    finally:
        signal.signal(signal.SIGUSR1, before)
