"""A reader that is killed at a given place: `python -m tests.worker.stream.killed <config> <method>`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from config.load import load
from tasks.runtime import Runtime, using
from worker.stream.reader import Intake


def main(config: str, method: str) -> None:
    def killed(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    runtime = Runtime(load(Path(config), {}))
    with using(runtime):
        type("Killed", (Intake,), {method: killed})(runtime).run()


main(*sys.argv[1:])
