"""Messages of others that became no job: kept for a while, so that a person can find out what was asked and by whom.

Nobody may fill Redis with them. Of each message its beginning is kept, sealed, and the SHA-256 of the whole; of all of
them no more than some entries and bytes, for as long as jobs are kept (`tasks/ledger/scripts/keep_foreign.lua`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import redis

from config.late_log import LateLog
from tasks.ledger import keys
from tasks.ledger.script_loader import load_script
from tasks.ledger.seal import Seal
from tasks.model.times import iso

log = LateLog(__name__)

HEAD_BYTES = 64 * 1024

_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class ForeignMessage:
    """A message as it is kept."""

    # Its beginning; surrogate escapes carry bytes that are not UTF-8 through the seal, so that it is kept exactly.
    head: str
    # Of the whole message.
    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, raw: bytes) -> ForeignMessage:
        head = raw[:HEAD_BYTES].decode("utf-8", "surrogateescape")
        return cls(head, len(raw), sha256(raw).hexdigest())


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message of a queue that no worker takes."""

    # Its entry in the stream.
    entry: str
    # The task id that it gives, if that is a UUID.
    id: str
    # One of the words in docs/contract.md, and a sentence.
    code: str
    reason: str
    # The queue in which it stood, and when it was taken out.
    queue: str
    at: str
    size_bytes: int
    sha256: str
    # The sealed beginning.
    sealed: str


class DeadLetters:
    """The stream `chartpost:dead`. Every method raises Redis's errors."""

    def __init__(self, client: redis.Redis, seal: Seal, *, jobs_days: float) -> None:
        self._redis = client
        self._seal = seal
        self._kept_seconds = int(jobs_days * _SECONDS_PER_DAY)
        self._keep = load_script(client, "keep_dead")

    def add(self, raw: bytes, *, queue: str, code: str, reason: str, task_id: str = "") -> None:
        """Keep what was taken out of a queue. `task_id` must be a UUID or empty: it is shown."""
        message, now = ForeignMessage.of(raw), iso(datetime.now(UTC)) or ""
        fields: dict[str, str | int] = {
            "id": task_id,
            "code": code,
            "reason": reason,
            "queue": queue,
            "size_bytes": message.size_bytes,
            "sha256": message.sha256,
            "at": now,
        }
        sealed = self._seal.seal(message.head, place=f"dead:{message.sha256}")
        flat = [text for pair in fields.items() for text in pair]
        self._keep(args=[keys.DEAD_LETTERS, self._kept_seconds, sealed, *flat])
        log.warning("dead_letter_kept", **fields)

    def count(self) -> int:
        return int(self._redis.xlen(keys.DEAD_LETTERS))

    def newest(self, most: int | None = None) -> list[DeadLetter]:
        """The last ones first."""
        found: Any = self._redis.xrevrange(keys.DEAD_LETTERS, count=most)
        return [_letter(entry, fields) for entry, fields in found]

    def find(self, entry: str) -> DeadLetter | None:
        found: Any = self._redis.xrange(keys.DEAD_LETTERS, entry, entry)
        return _letter(*found[0]) if found else None

    def open(self, letter: DeadLetter) -> bytes:
        """The beginning of the message itself. Raises SealBroken."""
        text = self._seal.open(letter.sealed, place=f"dead:{letter.sha256}")
        return text.encode("utf-8", "surrogateescape")

    def drop(self, *entries: str) -> int:
        """Delete these entries; returns how many there were."""
        return int(self._redis.xdel(keys.DEAD_LETTERS, *entries))


def _letter(entry: str, fields: dict[str, str]) -> DeadLetter:
    return DeadLetter(
        entry=entry,
        id=fields["id"],
        code=fields["code"],
        reason=fields["reason"],
        queue=fields["queue"],
        at=fields["at"],
        size_bytes=int(fields["size_bytes"]),
        sha256=fields["sha256"],
        sealed=fields["message"],
    )
