"""A reader that is killed at a given place: `python -m tests.worker.intake.killed <config> <method>`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from config.settings import load
from tasks.process import Process, use
from worker.intake import Intake


def main(config: str, method: str) -> None:
    def killed(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    process = Process(load(Path(config), {}))
    use(process)
    type("Killed", (Intake,), {method: killed})(process).run()


main(*sys.argv[1:])
