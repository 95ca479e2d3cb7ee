"""The worker with failpoints for documents that go to Redox: around each of its calls and moves.

`python -m tests.harness.failpoint_redox_worker FOLDER`, as in `failpoint_worker`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tasks.http.api
from tasks.folders.commit_log import Care
from tasks.ledger.ledger import Ledger
from tests.harness.failpoint_worker import Failpoints, serve

MOVES = ("stored", "committed", "delivered")
BEFORE_THE_COMMIT = (
    "call.binary-after",
    "ledger.stored-after",
    "ledger.committed-before",
)
AFTER_THE_COMMIT = (
    "ledger.committed-after",
    "care.note_commit-after",
    "call.create-after",
    "ledger.delivered-before",
)
DELIVERED = ("ledger.delivered-after",)
"""How it is closed from there on is the same for every provider."""

POINTS = (*BEFORE_THE_COMMIT, *AFTER_THE_COMMIT, *DELIVERED)


def set_failpoints(marks: Path) -> None:
    failpoints = Failpoints(marks)
    failpoints.around(Ledger, "start", lambda _, job_id, step: f"start.{step}")  # here it learns whose document it is
    for move in MOVES:
        failpoints.around(Ledger, move, lambda *_, move=move, **__: f"ledger.{move}")
    failpoints.around(Care, "note_commit", lambda *_: "care.note_commit")
    failpoints.around(tasks.http.api, "exchange", call)


def call(client: Any, request: Any, *, whom: str, **_: Any) -> str:
    path = request.url.path
    if path.endswith("/Binary"):
        return "call.binary"
    return "call.create" if path.endswith("$documentreference-create") else "call.token"


if __name__ == "__main__":
    serve(set_failpoints)
