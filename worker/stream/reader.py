"""`chartpost intake`: reads documents from the Redis stream `chartpost:intake`, from whatever language they came.

A message leaves the stream only once its job is in the ledger, or once it stands among the rejected; both in one
step. Until then it is pending, and is taken up again after a lease by whichever reader is there.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import redis
import structlog

from config.redaction import crash_site
from tasks.intake.admission import unadmitted
from tasks.intake.requests import Request, read_request
from tasks.ledger.redis import PREFIX, REDIS_ERRORS
from tasks.ledger.seal import SealBroken
from tasks.model.document import Document, Door
from tasks.model.errors import Code, DocumentRefused, RetryLater, StageError
from tasks.model.job import Job
from tasks.model.times import iso
from tasks.runtime import Runtime
from worker.stream.messages import _HINT, Message, Wish, job_id_of, read_message
from worker.stream.rejected import _REJECT, GROUP, STREAM, _pointer

log = structlog.get_logger()


_BATCH = 32
_BLOCK_MS = 250  # how long SIGTERM may have to wait
_AWAY_SECONDS = 1.0
_FORGET_CONSUMERS_MS = 3_600_000


_FORGET = """
-- Readers that are gone and hold nothing. ARGV: stream, group, idle ms, ours: it goes at once if it holds nothing.
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', ARGV[1], ARGV[2])) do
  local reader = {}
  for i = 1, #flat, 2 do reader[flat[i]] = flat[i + 1] end
  if reader.pending == 0 and (reader.idle > tonumber(ARGV[3]) or reader.name == ARGV[4]) then
    redis.call('XGROUP', 'DELCONSUMER', ARGV[1], ARGV[2], reader.name)
  end
end
"""


class Intake:
    """One reader; any number may run side by side."""

    def __init__(self, runtime: Runtime, block_ms: int = _BLOCK_MS) -> None:
        self._runtime = runtime
        self._block_ms = block_ms
        self._ledger = runtime.ledger
        # As bytes: what others wrote need not be UTF-8.
        self._redis = redis.Redis.from_url(
            runtime.redis_url,
            socket_timeout=10,
            socket_connect_timeout=5,
            health_check_interval=25,
            client_name="chartpost",
        )
        self._reader = f"{platform.node()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._lease_seconds = runtime.settings.worker.lease_seconds
        self._claim_at = time.monotonic()
        self._unreachable: dict[str, float] = {}
        self._reject = self._redis.register_script(_REJECT)
        self._forget = self._redis.register_script(_FORGET)

    def run(self) -> None:
        """Until `process.stopping` is set. Redis being away is said once and waited for."""
        log.info("intake_started", reader=self._reader)
        away = False
        while not self._runtime.stopping.is_set():
            try:
                self.turn()
                if away:
                    log.info("redis_back")
                away = False
            except REDIS_ERRORS as error:
                if not away:
                    log.warning("redis_unreachable", error=type(error).__name__)
                away = True
                self._runtime.stopping.wait(_AWAY_SECONDS)
        self._leave()
        log.info("intake_stopped", reader=self._reader)

    def turn(self) -> int:
        """Take what has lain too long, then what is new, waiting a moment for it. Returns how many were taken up."""
        taken = 0
        try:
            for message in self._messages():
                if self._runtime.stopping.is_set():
                    break
                self._take(message)
                taken += 1
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._create_group()
        return taken

    # --- reading -----------------------------------------------------------------------------------------------

    def _messages(self) -> Iterator[Message]:
        if time.monotonic() >= self._claim_at:
            yield from self._stale()
            self._forget(args=[STREAM, GROUP, _FORGET_CONSUMERS_MS, ""])
            self._claim_at = time.monotonic() + self._lease_seconds / 2
        found: Any = self._redis.xreadgroup(GROUP, self._reader, {STREAM: ">"}, count=_BATCH, block=self._block_ms)
        for _, entries in found:
            yield from (Message.of(entry, fields) for entry, fields in entries)

    def _stale(self) -> Iterator[Message]:
        """What dead readers have left behind, and what we could not take up a lease ago."""
        start: Any = "0-0"
        lease_ms = int(self._lease_seconds * 1000)
        while True:
            found: Any = self._redis.xautoclaim(STREAM, GROUP, self._reader, lease_ms, start, count=_BATCH)
            start, entries = found[0], found[1]
            yield from (Message.of(entry, fields) for entry, fields in entries)
            if start == b"0-0":
                return

    def _create_group(self) -> None:
        """From the stream's beginning: whatever still stands there has no job yet."""
        try:
            self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
            log.info("intake_group_created")
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _leave(self) -> None:
        """A reader that still holds messages stays listed: with it they would be gone for everybody."""
        try:
            self._forget(args=[STREAM, GROUP, _FORGET_CONSUMERS_MS, self._reader])
        except redis.RedisError as error:
            log.info("reader_not_removed", error=type(error).__name__)

    # --- taking up ---------------------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        """Bring one message to its job, or among the rejected; or leave it pending. Raises Redis's errors."""
        try:
            self._open(message)
        except DocumentRefused as refusal:
            self._write_rejected(message, refusal)
        except (StageError, SealBroken) as error:
            log.warning("message_put_off", entry=message.entry, reason=str(error))
        except REDIS_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001, outermost; the error's words may name the patient
            log.error("message_crashed", entry=message.entry, **crash_site(error))
            crashed = DocumentRefused(Code.INVALID_REQUEST, "The message could not be opened; the log names the place.")
            self._write_rejected(message, crashed)

    def _open(self, message: Message) -> None:
        wish = read_message(message)
        request = read_request(wish.fields)
        known = self._ledger.get(wish.job_id)
        if known:
            self._meet(message, wish, request, known)
            return
        try:
            opened = self._runtime.admission.open_document(wish.job_id, self._admitted(request, message.entry))
        except DocumentRefused as refusal:
            self._refuse(message, wish, request, refusal)
            return
        self._accepted(message, wish, opened.job_id)

    def _admitted(self, request: Request, entry: str) -> Document:
        """The document, located. Storage that has just not answered is left alone for a while: others are waiting."""
        storage = _storage_of(request.source)
        if self._unreachable.get(storage, 0.0) > time.monotonic():
            raise RetryLater("Its storage did not answer a moment ago.")
        try:
            return self._runtime.admission.admit(request, Door.STREAM, stream_id=entry)
        except RetryLater:
            self._unreachable[storage] = time.monotonic() + self._lease_seconds
            raise

    def _meet(self, message: Message, wish: Wish, request: Request, known: Job) -> None:
        """The job is there: this message was read before, or was sent twice, or uses another document's id."""
        if known.document.stream_id == message.entry and known.failure and self._is_being_refused(wish.job_id):
            failure = known.failure
            self._write_rejected(message, DocumentRefused(failure.code, failure.message), event=False)
        elif known.document.stream_id == message.entry or _asks_for(request, known.document):
            self._accepted(message, wish, known.id)
        else:
            used = DocumentRefused(Code.INVALID_REQUEST, "This job_id was used for another document.", hint=_HINT)
            self._write_rejected(message, used, job_id=job_id_of(message.entry))

    def _accepted(self, message: Message, wish: Wish, job_id: str) -> None:
        """The job is in the ledger: now the message may go."""
        if wish.job_id != job_id_of(message.entry):
            self._ledger.alias(message.entry, job_id)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.xack(STREAM, GROUP, message.entry)
            pipe.xdel(STREAM, message.entry)
            pipe.execute()

    # --- rejecting ---------------------------------------------------------------------------------------------

    def _refuse(self, message: Message, wish: Wish, request: Request, refusal: DocumentRefused) -> None:
        """Reject what is understood and cannot be sent. Where its account is known it gets a failed job as well.

        So it can be listed and retried, its callback is made, and the job's closing writes the event.
        """
        known = request.account in self._runtime.accounts
        if known:
            self._runtime.redis.set(_pointer(wish.job_id), "", ex=self._kept_seconds)
            document = replace(unadmitted(request, Door.STREAM), stream_id=message.entry)
            self._runtime.admission.open_refused(wish.job_id, document, refusal)
            if wish.job_id != job_id_of(message.entry):
                self._ledger.alias(message.entry, wish.job_id)
        self._write_rejected(message, refusal, event=not known)

    def _is_being_refused(self, job_id: str) -> bool:
        """Whether a reader was killed between opening the failed job and writing the message down as rejected."""
        return self._runtime.redis.get(_pointer(job_id)) == ""

    def _write_rejected(
        self, message: Message, refusal: DocumentRefused, *, job_id: str = "", event: bool = True
    ) -> None:
        """Let the message stand among the rejected, and no longer in the stream; with an event unless a job has one."""
        given, account = self._told_by(message)
        job, code = job_id or given, str(refusal.code)
        flat: list[str] = []
        if event:
            now = iso(datetime.now(UTC)) or ""
            flat = ["job", job, "account", account, "state", "failed", "code", code, "at", now]
            flat += ["stream_id", message.entry]
        sealed = self._runtime.seal.seal(message.whole, place=f"rejected:{message.entry}")
        oldest_ms = int((time.time() - self._kept_seconds) * 1000)
        told = [message.entry, job, code, refusal.message, sealed]
        if self._reject(args=[PREFIX, GROUP, *told, oldest_ms, self._kept_seconds, *flat]):
            log.warning("message_rejected", entry=message.entry, job=job, code=code, reason=refusal.message)

    def _told_by(self, message: Message) -> tuple[str, str]:
        """The id that the sender may look for, and the account if it is one of ours, as far as they can be read."""
        try:
            wish = read_message(message)
        except DocumentRefused:
            return job_id_of(message.entry), ""
        account = wish.fields.get("account")
        return wish.job_id, account if isinstance(account, str) and account in self._runtime.accounts else ""

    @property
    def _kept_seconds(self) -> int:
        return int(self._runtime.settings.retention.jobs_days * 86_400)


def _asks_for(request: Request, document: Document) -> bool:
    """Whether this is what the document's own message asked for; size and time of its file may have changed."""
    asked = unadmitted(request, Door.STREAM)
    same = replace(
        asked,
        size_bytes=document.size_bytes,
        identity=document.identity,
        stream_id=document.stream_id,
        door=document.door,
    )
    return same == document


def _storage_of(source: str) -> str:
    try:
        parts = urlsplit(source)
    except ValueError:
        return source
    return f"{parts.scheme}://{parts.netloc}"
