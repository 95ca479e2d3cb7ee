"""`chartpost intake`: reads documents from the Redis stream `chartpost:intake`, from whatever language they came.

A message leaves the stream only once its job is in the ledger, or once it stands among the rejected; both in one
step. Until then it is pending, and is taken up again after a lease by whichever reader is there.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import urlsplit
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import redis
import structlog

from tasks.crashes import crash_site
from tasks.doors import admit, open_document, open_refused, unadmitted
from tasks.errors import Code, DocumentRefused, RetryLater, StageError
from tasks.intake import Request, read_request
from tasks.job import Document, Door, Job
from tasks.ledger import AWAY, PREFIX
from tasks.process import Process
from tasks.receipt import iso
from tasks.seal import SealBroken

log = structlog.get_logger()

STREAM = PREFIX + "intake"
REJECTED = PREFIX + "intake:rejected"
GROUP = "chartpost"

_BATCH = 32
_BLOCK_MS = 250  # how long SIGTERM may have to wait
_AWAY_SECONDS = 1.0
_LARGEST_BYTES = 64 * 1024
_DEEPEST = 32
_FORGET_CONSUMERS_MS = 3_600_000
_HINT = "Correct the message and send it again."

_REJECT = """
-- ARGV: prefix, group, entry, job, code, reason, sealed message, oldest to keep in ms, seconds, then the event.
-- Only whoever acknowledges it writes it down, so that it stands among the rejected once.
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


@dataclass(frozen=True, slots=True)
class Message:
    """An entry of the stream: its id, and what its field `job` holds, whatever that is."""

    entry: str
    text: str | None
    whole: str
    size_bytes: int

    @classmethod
    def of(cls, entry: bytes, fields: Mapping[bytes, bytes]) -> Message:
        text = fields.get(b"job")
        whole = text if text is not None else repr(fields).encode()
        return cls(entry.decode(), None if text is None else _text(text), _text(whole), len(whole))


@dataclass(frozen=True, slots=True)
class Wish:
    """What a message asks for: the fields of a document, and the id that its job is to have."""

    job_id: str
    fields: Mapping[str, Any]


def read_message(message: Message) -> Wish:
    """Raises DocumentRefused, `invalid_request`, for whatever is not a JSON object of a sensible size."""
    if message.text is None:
        _refuse("The message has no field `job`.")
    if message.size_bytes > _LARGEST_BYTES:
        _refuse(f"The message is larger than {_LARGEST_BYTES} bytes.")
    try:
        fields = json.loads(message.text)
        json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        _refuse("The message is not JSON in UTF-8.")
    if not isinstance(fields, dict):
        _refuse("The message is not a JSON object.")
    if _depth(fields) > _DEEPEST:
        _refuse(f"The message is nested more than {_DEEPEST} deep.")
    given = fields.pop("job_id", None)
    return Wish(job_id_of(message.entry) if given is None else _uuid(given), fields)


def job_id_of(entry: str) -> str:
    """The id of the job of an entry that gives none of its own."""
    return str(uuid5(NAMESPACE_OID, entry))


def rejected_entry(process: Process, job_id: str) -> dict[str, str] | None:
    """What stands among the rejected about a job's id, with the message opened. Raises SealBroken."""
    place = process.redis.get(_pointer(job_id))
    found: Any = process.redis.xrange(REJECTED, str(place), str(place)) if place else []
    for _, fields in found:
        message = process.seal.open(fields["message"], place=f"rejected:{fields['id']}")
        return {**fields, "message": message}
    return None


class Intake:
    """One reader; any number may run side by side."""

    def __init__(self, process: Process, block_ms: int = _BLOCK_MS) -> None:
        self._process = process
        self._block_ms = block_ms
        self._ledger = process.ledger
        # As bytes: what others wrote need not be UTF-8.
        self._redis = redis.Redis.from_url(
            process.redis_url,
            socket_timeout=10,
            socket_connect_timeout=5,
            health_check_interval=25,
            client_name="chartpost",
        )
        self._reader = f"{platform.node()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._lease_seconds = process.settings.worker.lease_seconds
        self._claim_at = time.monotonic()
        self._unreachable: dict[str, float] = {}
        self._reject = self._redis.register_script(_REJECT)
        self._forget = self._redis.register_script(_FORGET)

    def run(self) -> None:
        """Until `process.stopping` is set. Redis being away is said once and waited for."""
        log.info("intake_started", reader=self._reader)
        away = False
        while not self._process.stopping.is_set():
            try:
                self.turn()
                if away:
                    log.info("redis_back")
                away = False
            except AWAY as error:
                if not away:
                    log.warning("redis_unreachable", error=type(error).__name__)
                away = True
                self._process.stopping.wait(_AWAY_SECONDS)
        self._leave()
        log.info("intake_stopped", reader=self._reader)

    def turn(self) -> int:
        """Take what has lain too long, then what is new, waiting a moment for it. Returns how many were taken up."""
        taken = 0
        try:
            for message in self._messages():
                if self._process.stopping.is_set():
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
        except AWAY:
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
            opened = open_document(self._process, wish.job_id, self._admitted(request, message.entry))
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
            return admit(self._process, request, Door.STREAM, stream_id=entry)
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
        known = request.account in self._process.accounts
        if known:
            self._process.redis.set(_pointer(wish.job_id), "", ex=self._kept_seconds)
            document = replace(unadmitted(request, Door.STREAM), stream_id=message.entry)
            open_refused(self._process, wish.job_id, document, refusal)
            if wish.job_id != job_id_of(message.entry):
                self._ledger.alias(message.entry, wish.job_id)
        self._write_rejected(message, refusal, event=not known)

    def _is_being_refused(self, job_id: str) -> bool:
        """Whether a reader was killed between opening the failed job and writing the message down as rejected."""
        return self._process.redis.get(_pointer(job_id)) == ""

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
        sealed = self._process.seal.seal(message.whole, place=f"rejected:{message.entry}")
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
        return wish.job_id, account if isinstance(account, str) and account in self._process.accounts else ""

    @property
    def _kept_seconds(self) -> int:
        return int(self._process.settings.retention.jobs_days * 86_400)


def _pointer(job_id: str) -> str:
    """Names the entry among the rejected that tells of a job; empty while that is still being written."""
    return f"{PREFIX}rejected:{job_id}"


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


def _uuid(given: object) -> str:
    with suppress(ValueError):
        if isinstance(given, str):
            return str(UUID(given))
    raise DocumentRefused(Code.INVALID_REQUEST, "The job_id is not a UUID.", hint=_HINT)


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _storage_of(source: str) -> str:
    try:
        parts = urlsplit(source)
    except ValueError:
        return source
    return f"{parts.scheme}://{parts.netloc}"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _refuse(message: str) -> NoReturn:
    raise DocumentRefused(Code.INVALID_REQUEST, message, hint=_HINT)
