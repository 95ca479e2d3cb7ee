"""A real worker that is killed, once for each document, at the point that the document's name asks for.

`python -m tests.chaos.armed_worker FOLDER`: a name such as `kill-ledger.stored-after-1.pdf` kills the worker right
after the ledger's move `stored` for that document; FOLDER remembers what has happened. `wipe-…` empties Redis there
instead, under the running worker, and `both-…` does both. A point may be of one step: `post.ledger.committed-before`.
The parent has imported everything and forks a new worker after each kill, as a supervisor would, only faster. No client
is made before a fork.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import tasks.http
import tasks.transfer
from tasks.care import Care
from tasks.folders import Folders
from tasks.ledger import Hold, Ledger
from tasks.process import current
from tasks.results import Results

LEDGER_MOVES = ("presigned", "committed", "stored", "delivered", "closed", "finished")
POINTS = (
    *(f"ledger.{move}-{side}" for move in LEDGER_MOVES for side in ("before", "after")),
    *(f"start.{step}-after" for step in ("presign", "post", "confirm", "notify")),
    *(f"call.{call}-{side}" for call in ("list", "presign", "storage", "name") for side in ("before", "after")),
    *(f"care.note_commit-{side}" for side in ("before", "after")),
    *(f"folders.deliver-{side}" for side in ("before", "after")),
    *(f"results.final-{side}" for side in ("before", "after")),
)

_now = threading.local()


class Armed:
    """Strikes at a point, once for each document."""

    def __init__(self, marks: Path) -> None:
        self._marks = marks

    def at(self, point: str) -> None:
        wanted = re.match(r"(kill|wipe|both)-(.+)-\d+\.", getattr(_now, "file_name", ""))
        if wanted is None or wanted[2] not in (point, f"{getattr(_now, 'step', '')}.{point}"):
            return
        try:
            (self._marks / _now.file_name).touch(exist_ok=False)
        except FileExistsError:
            return
        if wanted[1] != "kill":
            current().redis.flushall()
        if wanted[1] != "wipe":
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, method: str, name: Callable[..., str]) -> None:
        """Wrap a method or function of `owner`; `name` makes the point's name of the call's arguments."""
        inner = getattr(owner, method)

        @wraps(inner)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            for arg in args:
                if isinstance(arg, Hold):
                    _now.file_name, _now.step = arg.job.document.file_name, str(arg.job.step)
            point = name(*args, **kwargs)
            self.at(f"{point}-before")
            result = inner(*args, **kwargs)
            if method == "start" and isinstance(result, list):
                _now.file_name, _now.step = result[0].job.document.file_name, str(result[0].job.step)
            self.at(f"{point}-after")
            return result

        setattr(owner, method, wrapped)


def arm(marks: Path) -> None:
    armed = Armed(marks)
    armed.around(Ledger, "start", lambda _, job_id, step: f"start.{step}")
    for move in (*LEDGER_MOVES, "place_found"):
        armed.around(Ledger, move, lambda *_, move=move, **__: f"ledger.{move}")
    armed.around(Care, "note_commit", lambda *_: "care.note_commit")
    armed.around(Care, "note_record", lambda *_: "care.note_record")
    armed.around(Folders, "deliver", lambda *_: "folders.deliver")
    armed.around(Results, "final", lambda *_: "results.final")
    armed.around(tasks.http, "exchange", call)
    armed.around(tasks.transfer, "exchange", call)


def call(client: Any, request: Any, *, whom: str, **_: Any) -> str:
    if whom == "the storage":
        return "call.storage"
    if request.method == "POST" and request.url.path.endswith("/document"):
        return "call.create"
    if whom != "PracSuite":
        return f"call.{whom.lower()}"
    if request.method == "POST":
        return "call.presign"
    return "call.name" if request.url.path.endswith("presign_url") else "call.list"


def main() -> None:
    arm(Path(sys.argv[1]))
    from worker.celery import app

    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1) or os.kill(child, signal.SIGTERM))  # type: ignore[func-returns-value]
    while not stopping:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            app.worker_main(["worker", "--without-mingle", "--without-gossip"])
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
