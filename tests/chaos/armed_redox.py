"""The armed worker for documents that go to Redox: killed around each of its calls and moves.

`python -m tests.chaos.armed_redox FOLDER`, as in `armed_worker`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tasks.http.api
from tasks.folders.commit_log import CommitLog
from tasks.ledger.ledger import Ledger
from tests.chaos.armed_worker import Armed, serve

MOVES = ("stored", "committed", "delivered")
BEFORE_THE_COMMIT = (
    "call.binary-after",
    "ledger.stored-after",
    "ledger.committed-before",
)
AFTER_THE_COMMIT = (
    "ledger.committed-after",
    "commit_log.note_commit-after",
    "call.create-after",
    "ledger.delivered-before",
)
DELIVERED = ("ledger.delivered-after",)
"""How it is closed from there on is the same for every provider."""

POINTS = (*BEFORE_THE_COMMIT, *AFTER_THE_COMMIT, *DELIVERED)


def arm(marks: Path) -> None:
    armed = Armed(marks)
    armed.around(Ledger, "start", lambda _, job_id, step: f"start.{step}")  # here it learns whose document it is
    for move in MOVES:
        armed.around(Ledger, move, lambda *_, move=move, **__: f"ledger.{move}")
    armed.around(CommitLog, "note_commit", lambda *_: "commit_log.note_commit")
    armed.around(tasks.http.api, "exchange", call)


def call(client: Any, request: Any, *, whom: str, **_: Any) -> str:
    path = request.url.path
    if path.endswith("/Binary"):
        return "call.binary"
    return "call.create" if path.endswith("$documentreference-create") else "call.token"


if __name__ == "__main__":
    serve(arm)
