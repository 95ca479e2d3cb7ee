"""A real worker with failpoints: it is killed once for each document, where the document's name asks for it.

`python -m tests.harness.failpoint_worker FOLDER`: the name `kill-ledger.stored-after-1.pdf` kills the worker right
after the ledger's move `stored` for that document. `wipe-…` empties Redis there instead, under the running worker, and
`both-…` does both. A point may be of one step: `post.ledger.committed-before`. FOLDER remembers what has happened, and
whether a `file://` source was still there then.

The parent has imported everything and forks a new worker after each kill: as a supervisor would, only faster. No client
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

import tasks.http.api
import tasks.transfer.upload
from tasks.closing.callback import Callback
from tasks.closing.closing import Closing
from tasks.closing.results import Results
from tasks.folders.commit_log import CommitLog
from tasks.folders.outcomes import Outcomes
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.runtime import current
from tasks.sources.files import path_of
from tasks.sources.objects import Objects
from tasks.sources.sources import Sources

LEDGER_MOVES = ("presigned", "committed", "stored", "delivered", "finished")
# The steps of closing in their order; all are recorded with the move that ends it.
CLOSING = ("files", "staged", "source", "result", "event", "callback")

BOTH = ("before", "after")
UP_TO_DELIVERY = (
    *(f"ledger.{move}-{side}" for move in LEDGER_MOVES for side in BOTH if move != "finished"),
    # Between two steps of one task: a worker starts these, and goes on with the others after their move.
    *(f"start.{step}-after" for step in ("presign", "confirm")),
    *(f"call.{call}-{side}" for call in ("list", "presign", "storage", "name") for side in BOTH),
    *(f"commit_log.note_commit-{side}" for side in BOTH),
)
AT_CLOSING = (
    *(f"closing.{step}-{side}" for step in CLOSING for side in BOTH),
    *(f"results.final-{side}" for side in BOTH),
    *(f"ledger.finished-{side}" for side in BOTH),
)
# Of documents that came by the inbox.
OF_FOLDERS = tuple(f"folders.deliver-{side}" for side in BOTH)

# Of documents that came by a call or a message: their source is removed, and their caller is called back.
OF_CALLERS = tuple(f"{act}-{side}" for act in ("source.remove", "callback.post") for side in BOTH)

# A closing that a message begins, and that records a removed source, and what is done before the callback.
OF_LONG_CLOSINGS = (
    "start.notify-after",
    *(f"ledger.{move}-{side}" for move in ("closed", "callback_is_left") for side in BOTH),
)

# Inside the removal: between the check of what is there and the deletion.
OF_FILE_SOURCES = tuple(f"source.unlink-{side}" for side in BOTH)
OF_OBJECT_SOURCES = tuple(f"source.head-{side}" for side in BOTH)

THERE = "the source was there"

# Around the step that registers an upload, where the provider has one.
REGISTERING = (
    *(f"ledger.{move}-{side}" for move in ("committed", "registered") for side in BOTH),
    *(f"call.register-{side}" for side in BOTH),
    *(f"commit_log.note_commit-{side}" for side in BOTH),
    "call.storage-after",
    "ledger.stored-after",
)

_now = threading.local()


class Failpoints:
    """Kills or wipes at a point, once for each document. `marks` is where it leaves a file for each."""

    def __init__(self, marks: Path) -> None:
        self._marks = marks

    def at(self, point: str) -> None:
        wanted = re.match(r"(kill|wipe|both)-(.+)-\d+\.", getattr(_now, "file_name", ""))
        if wanted is None or wanted[2] not in (point, f"{getattr(_now, 'step', '')}.{point}"):
            return
        if not self._first_time(_now.file_name):
            return
        if wanted[1] != "kill":
            current().redis.flushall()
        if wanted[1] != "wipe":
            os.kill(os.getpid(), signal.SIGKILL)

    def _first_time(self, file_name: str) -> bool:
        """Leave a mark, complete or not at all: a kill for another document may come at any moment."""
        draft = self._marks.parent / f"{os.getpid()}-{threading.get_ident()}.draft"
        draft.write_text(THERE if _source_there() else "")
        try:
            (self._marks / file_name).hardlink_to(draft)
        except FileExistsError:
            return False
        return True

    def around(self, owner: Any, method: str, name: Callable[..., str]) -> None:
        """Wrap a method or function of `owner`. `name` makes the name of the point from the arguments."""
        inner = getattr(owner, method)

        @wraps(inner)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            for arg in args:
                if isinstance(arg, Lease):
                    _note(arg)
            point = name(*args, **kwargs)
            self.at(f"{point}-before")
            result = inner(*args, **kwargs)
            if method == "start" and isinstance(result, list):
                _note(result[0])
            self.at(f"{point}-after")
            return result

        setattr(owner, method, wrapped)


def _note(lease: Lease) -> None:
    """From now on this thread works on the document of that lease."""
    _now.file_name, _now.step = lease.job.document.file_name, str(lease.job.step)
    _now.source = lease.job.document.source


def _source_there() -> bool:
    return _now.source.startswith("file://") and Path(path_of(_now.source)).exists()


def set_failpoints(marks: Path) -> None:
    failpoints = Failpoints(marks)
    failpoints.around(Ledger, "start", lambda _, job_id, step: f"start.{step}")
    for method in ("apply", "go_on"):
        failpoints.around(Ledger, method, lambda _, lease, move: f"ledger.{move.name}")
    failpoints.around(Ledger, "commit", lambda *_: "ledger.committed")
    failpoints.around(Closing, "_do", lambda _, name, *__: f"closing.{name}")
    failpoints.around(CommitLog, "note_commit", lambda *_: "commit_log.note_commit")
    failpoints.around(CommitLog, "note_record", lambda *_: "commit_log.note_record")
    failpoints.around(Outcomes, "deliver", lambda *_: "folders.deliver")
    failpoints.around(Results, "final", lambda *_: "results.final")
    failpoints.around(Sources, "remove", lambda *_: "source.remove")
    failpoints.around(Objects, "_head", lambda *_: "source.head")
    failpoints.around(os, "unlink", lambda path, **_: f"source.{'unlink' if is_source(path) else 'other'}")
    failpoints.around(Callback, "_post", lambda *_: "callback.post")
    failpoints.around(tasks.http.api, "exchange", call)
    failpoints.around(tasks.transfer.upload, "exchange", call)


def is_source(path: Any) -> bool:
    """Whether what is unlinked, by a name in an open folder, is the source of the document at hand."""
    source = getattr(_now, "source", "")
    return source.startswith("file://") and path == Path(path_of(source)).name


_CREATES = ("/document", "$documentreference-create", "/DocumentReference")


def call(client: Any, request: Any, *, whom: str, **_: Any) -> str:
    if whom == "the storage":
        return "call.storage"
    if request.url.path.endswith("/Binary") or (request.method == "PUT" and "/Binary/" in request.url.path):
        return "call.binary"
    if request.method == "POST" and request.url.path.endswith(_CREATES):
        return "call.create"
    if request.method == "POST" and request.url.path.endswith("/patient_attachments"):
        return "call.register"
    if whom != "PracSuite":
        return f"call.{whom.lower()}"
    if request.method == "POST":
        return "call.presign"
    return "call.name" if request.url.path.endswith("presign_url") else "call.list"


def main() -> None:
    """Run workers one after the other, with failpoints and the folder named on the command line, until SIGTERM."""
    set_failpoints(Path(sys.argv[1]))
    from worker.celery.worker_app import app

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
