"""The messages that became no job, or a job that failed at once: `chartpost:intake:rejected`.

Each is kept whole and sealed, with its reason, for as long as jobs are kept.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import redis
import structlog

from tasks.ledger.redis import PREFIX
from tasks.ledger.seal import Seal
from tasks.model.errors import DocumentRefused
from tasks.model.times import iso
from worker.stream.group import GROUP, STREAM
from worker.stream.messages import Message, job_id_of, read_message

log = structlog.get_logger()

REJECTED = STREAM + ":rejected"

_SECONDS_PER_DAY = 86_400
_REJECT = """
-- Moves a message from the stream to the rejected ones, in one step. Returns 0 if another reader was faster: only the
-- reader that acknowledges a message adds it, so that it stands among the rejected once.
-- ARGV: prefix, group, entry, job, code, reason, sealed message, oldest id to keep (ms), seconds to keep the pointer,
-- then the fields of the event, if there must be one.
local stream = ARGV[1] .. 'intake'
if redis.call('XACK', stream, ARGV[2], ARGV[3]) == 0 then return 0 end
redis.call('XDEL', stream, ARGV[3])
local rejected = redis.call('XADD', stream .. ':rejected', 'MINID', '~', ARGV[8], '*',
  'id', ARGV[3], 'code', ARGV[5], 'reason', ARGV[6], 'message', ARGV[7])
redis.call('SET', ARGV[1] .. 'rejected:' .. ARGV[4], rejected, 'EX', ARGV[9])
if ARGV[10] then
  redis.call('XADD', ARGV[1] .. 'events', 'MAXLEN', '~', 10000, '*', unpack(ARGV, 10))
end
return 1
"""


class RejectedStream:
    """Every method raises Redis's errors. `accounts` are those in the settings; other names are not repeated."""

    def __init__(self, client: redis.Redis, seal: Seal, *, accounts: Collection[str], jobs_days: float) -> None:
        self._redis = client
        self._seal = seal
        self._accounts = accounts
        self._kept_seconds = int(jobs_days * _SECONDS_PER_DAY)
        self._reject = client.register_script(_REJECT)

    def add(self, message: Message, refusal: DocumentRefused, *, job_id: str = "", event: bool = True) -> None:
        """Move a message out of the intake stream. `event`: also write the event that no job's closing will write.

        It can be found under `job_id`, else under the id that the message gives or that follows from its entry.
        """
        try:
            request = read_message(message)
            given, account = request.job_id, request.fields.get("account")
        except DocumentRefused:
            given, account = job_id_of(message.entry), None
        job, code = job_id or given, str(refusal.code)
        event_fields: list[str] = []
        if event:
            # An unknown account's name may be anything, a patient's too: it does not go into events.
            known_account = account if isinstance(account, str) and account in self._accounts else ""
            now = iso(datetime.now(UTC)) or ""
            event_fields = ["job", job, "account", known_account, "state", "failed", "code", code, "at", now]
            event_fields += ["stream_id", message.entry]
        sealed = self._seal.seal(message.whole, place=f"rejected:{message.entry}")
        oldest_ms = int((time.time() - self._kept_seconds) * 1000)
        kept: list[str | int] = [job, code, refusal.message, sealed, oldest_ms, self._kept_seconds]
        if self._reject(args=[PREFIX, GROUP, message.entry, *kept, *event_fields]):
            log.warning("message_rejected", entry=message.entry, job=job, code=code, reason=refusal.message)

    def find(self, job_id: str) -> dict[str, str] | None:
        """The rejected message of a job's id: `id` (its entry), `code`, `reason`, `message`. Raises SealBroken."""
        rejected_id = self._redis.get(_pointer(job_id))
        entries: Any = self._redis.xrange(REJECTED, str(rejected_id), str(rejected_id)) if rejected_id else []
        for _, fields in entries:
            message = self._seal.open(fields["message"], place=f"rejected:{fields['id']}")
            return {**fields, "message": message}
        return None

    def announce(self, job_id: str) -> None:
        """Note that a failed job is about to be opened, and its message to be rejected after that."""
        self._redis.set(_pointer(job_id), "", ex=self._kept_seconds)

    def is_announced(self, job_id: str) -> bool:
        """True if a reader was killed between opening the failed job and rejecting its message."""
        return self._redis.get(_pointer(job_id)) == ""


def _pointer(job_id: str) -> str:
    """The key that holds the id of a job's entry among the rejected; empty while that is still to be written."""
    return f"{PREFIX}rejected:{job_id}"
