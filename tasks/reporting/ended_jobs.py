"""The jobs that have ended, by what stands in the clear in their rows. Nothing is unsealed, so no patient is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import redis

from tasks.ledger.keys import PREFIX
from tasks.ledger.script_loader import load_script
from tasks.model.errors import Code
from tasks.model.route import Stage

_PAGE = 1000  # Redis does nothing else while it reads one: some milliseconds
_FIELDS = ("stage", "account", "code", "calls", "at_received", f"at_{Stage.DELIVERED}")
_FINAL = frozenset(str(stage) for stage in Stage if stage.final)


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job and how it ended last. Times are milliseconds since 1970, by Redis's clock."""

    job_id: str
    account: str
    # delivered, failed or cancelled
    state: str
    # Empty if it has none.
    code: str
    ended_ms: int
    # Requests to the provider and its storage.
    provider_calls: int
    # From received to delivered, of a document that was sent. None if it was not, or if a clock was set back meanwhile.
    seconds: float | None


class EndedJobs:
    def __init__(self, client: redis.Redis) -> None:
        self._read = load_script(client, "read_ended")

    def between(self, since_ms: int, until_ms: int) -> Iterator[EndedJob]:
        """Those that ended from then to before then, the earliest first, in pages."""
        lowest: str = str(since_ms)
        while lowest:
            page = json.loads(self._read(args=[PREFIX, lowest, f"({until_ms}", _PAGE, *_FIELDS]))
            last, *rows = page
            yield from (_ended(*row) for row in rows if row[2] in _FINAL and row[3])
            lowest = f"({last}" if last else ""


def _ended(
    job_id: str,
    ended: str,
    state: str,
    account: str,
    code: str | bool,
    calls: str | bool,
    received_at: str | bool,
    delivered_at: str | bool,
) -> EndedJob:
    sent = state == Stage.DELIVERED and code != Code.DUPLICATE and received_at and delivered_at
    seconds = (int(delivered_at) - int(received_at)) / 1000 if sent else -1.0
    return EndedJob(
        job_id, account, state, str(code or ""), int(float(ended)), int(calls or 0), seconds if seconds >= 0 else None
    )
