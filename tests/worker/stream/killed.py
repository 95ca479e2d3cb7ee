"""A reader that is killed where it would call a method: `python -m tests.worker.stream.killed <config> <method>`."""

from __future__ import annotations

import os
import signal
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

from config.load import load
from tasks.runtime import Runtime, using
from worker.stream.build import stream_reader


def main(config: str, method: str) -> None:
    def killed(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    runtime = Runtime(load(Path(config), {}))
    with using(runtime):
        reader = stream_reader(runtime)
        *owner, name = method.split(".")  # `accept`, or `rejected.add` of what the reader works with
        setattr(attrgetter(owner[0])(reader) if owner else reader, name, killed)
        reader.run()


main(*sys.argv[1:])
