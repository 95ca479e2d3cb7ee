"""The messages that became no job, or a job that failed at once: `chartpost:intake:rejected`.

The beginning of each is kept and sealed, with its reason (`tasks/intake/foreign_messages.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import redis

from config.late_log import LateLog
from tasks.intake.foreign_messages import ForeignMessage
from tasks.ledger import keys
from tasks.ledger.keys import PREFIX
from tasks.ledger.script_loader import load_script
from tasks.ledger.seal import Seal
from tasks.ledger_runtime import LedgerRuntime
from tasks.model.errors import DocumentRefused
from tasks.model.times import iso
from worker.stream.group import GROUP
from worker.stream.messages import Message, parse_message

log = LateLog(__name__)

REJECTED = keys.INTAKE + ":rejected"

_SECONDS_PER_DAY = 86_400


class RejectedStream:
    """Every method raises Redis's errors. `accounts` are those in the settings; other names are not repeated."""

    def __init__(self, client: redis.Redis, seal: Seal, *, accounts: Collection[str], jobs_days: float) -> None:
        self._redis = client
        self.seal = seal
        self._accounts = accounts
        self._kept_seconds = int(jobs_days * _SECONDS_PER_DAY)
        self._reject = load_script(client, "reject", "worker.stream")

    def add(self, message: Message, refusal: DocumentRefused, *, job_id: str = "", event: bool = True) -> None:
        """Move a message out of the intake stream. `event`: also write the event that no job's closing will write.

        It can be found under `job_id`, else under the id that the message gives or that follows from its entry.
        """
        try:
            parsed = parse_message(message)
            given, account = parsed.job_id, parsed.fields.get("account")
        except DocumentRefused:
            given, account = message.job_id, None
        job, code = job_id or given, str(refusal.code)
        event_fields: list[str] = []
        if event:
            # An unknown account's name may be anything, a patient's too: it does not go into events.
            known_account = account if isinstance(account, str) and account in self._accounts else ""
            now = iso(datetime.now(UTC)) or ""
            event_fields = ["job", job, "account", known_account, "state", "failed", "code", code, "at", now]
            event_fields += ["stream_id", message.entry_id]
        foreign = ForeignMessage.of(message.whole)
        sealed = self.seal.seal(foreign.head, place=f"rejected:{message.entry_id}")
        kept: list[str | int] = [job, code, refusal.message, sealed, foreign.size_bytes, foreign.sha256]
        stream = [message.stream.key, message.stream.producer or ""]
        if self._reject(args=[PREFIX, GROUP, message.entry_id, *kept, self._kept_seconds, *stream, *event_fields]):
            log.warning("message_rejected", entry=message.name, job=job, code=code, reason=refusal.message)

    def find(self, job_id: str) -> dict[str, str] | None:
        """The rejected message of a job's id: `id` (its entry), `producer`, `code`, `reason`, `message` (its
        beginning), and the `size_bytes` and `sha256` of the whole. Earlier versions did not note the producer, size and
        digest. Raises SealBroken.
        """
        rejected_id = self._redis.get(_pointer(job_id))
        entries: Any = self._redis.xrange(REJECTED, str(rejected_id), str(rejected_id)) if rejected_id else []
        for _, fields in entries:
            message = self.seal.open(fields["message"], place=f"rejected:{fields['id']}")
            return {**fields, "message": message}
        return None

    def announce(self, job_id: str) -> None:
        """Note that a failed job is about to be opened, and its message to be rejected after that."""
        self._redis.set(_pointer(job_id), "", ex=self._kept_seconds)

    def is_announced(self, job_id: str) -> bool:
        """True if a reader was killed between opening the failed job and rejecting its message."""
        return self._redis.get(_pointer(job_id)) == ""


def rejected_stream(runtime: LedgerRuntime) -> RejectedStream:
    # Not in `build`: `chartpost show` asks for it, and needs nothing else of this room.
    return RejectedStream(
        runtime.redis, runtime.seal, accounts=runtime.settings.accounts, jobs_days=runtime.settings.retention.jobs_days
    )


def _pointer(job_id: str) -> str:
    """The key that holds the id of a job's entry among the rejected; empty while that is still to be written."""
    return keys.rejected(job_id)
