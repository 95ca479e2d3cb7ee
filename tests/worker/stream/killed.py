"""A reader that is killed where it would call a method: `python -m tests.worker.stream.killed <config> <method>`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from config.load import load
from tasks.runtime import Runtime, using
from tests.worker.half_opened import die_half_way
from worker.stream.build import stream_reader
from worker.stream.group import ConsumerGroup
from worker.stream.rejected import RejectedStream


def main(config: str, method: str) -> None:
    def killed(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    owner, name = method.split(".")
    if method == "Ledger.open_together":
        die_half_way()
    else:
        setattr({"ConsumerGroup": ConsumerGroup, "RejectedStream": RejectedStream}[owner], name, killed)
    runtime = Runtime(load(Path(config), {}))
    with using(runtime):
        stream_reader(runtime).run()


main(*sys.argv[1:])
