"""`chartpost intake`: reads documents from the Redis stream `chartpost:intake`, which any language can write to.

A message leaves the stream when its job is in the ledger, or when it stands among the rejected. Until then it is
pending: after a kill, or an outage of its storage, a reader takes it over after a lease. What a kill leaves:

1.  Before the job is opened: the pending message, and nothing else.
2.  After that: the job and the pending message. The next reader finds the job under its id, and removes the message.
3.  Between the opening of a failed job and the rejection: the next reader finds the announcement, and only rejects.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import redis
import structlog

from config.redaction import crash_site
from tasks.intake.admission import Admission, unadmitted
from tasks.intake.requests import Request, read_request
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import REDIS_ERRORS
from tasks.ledger.seal import SealBroken
from tasks.model.document import Document, Door
from tasks.model.errors import Code, DocumentRefused, RetryLater, StepError
from tasks.model.job import Job
from worker.stream.group import ConsumerGroup
from worker.stream.messages import CORRECT_AND_RESEND, Message, ParsedMessage, job_id_of, parse_message
from worker.stream.rejected import RejectedStream

log = structlog.get_logger()

_AWAY_SECONDS = 1.0
FAULT_OF_CHARTPOST = "A fault in chartpost: it could not read the message. The log names the place."


class StreamReader:
    """One reader; any number may run side by side. It reads until `stop` is set."""

    def __init__(
        self,
        *,
        group: ConsumerGroup,
        rejected: RejectedStream,
        ledger: Ledger,
        admission: Admission,
        accounts: Collection[str],
        lease_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._group = group
        self._rejected = rejected
        self._ledger = ledger
        self._admission = admission
        self._accounts = accounts
        self._lease_seconds = lease_seconds
        self._stop = stop
        self._take_over_at = time.monotonic()
        self._storage_away_until: dict[str, float] = {}

    def run(self) -> None:
        """Read until told to stop. An outage of Redis is logged once and waited for. Raises LedgerRefused."""
        log.info("intake_started", reader=self._group.reader)
        away = False
        while not self._stop.is_set():
            try:
                self._ledger.identity.confirm()
                self.read_once()
                if away:
                    log.info("redis_back")
                away = False
            except REDIS_ERRORS as error:
                if not away:
                    log.warning("redis_unreachable", error=type(error).__name__)
                away = True
                self._stop.wait(_AWAY_SECONDS)
        try:
            self._group.leave()
        except redis.RedisError as error:
            log.info("reader_not_removed", error=type(error).__name__)
        log.info("intake_stopped", reader=self._group.reader)

    def read_once(self) -> int:
        """Take over stale messages, then read new ones, waiting a moment for these. Returns how many were taken."""
        taken = 0
        try:
            for message in self._messages():
                if self._stop.is_set():
                    break  # the others stay pending
                self._take(message)
                taken += 1
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._group.create()  # at the first start, and after a wipe
        return taken

    def _take(self, message: Message) -> None:
        """Open a message's job, or reject it, or leave it pending. Raises Redis's errors."""
        try:
            self._open(message)
        except DocumentRefused as refusal:
            self._rejected.add(message, refusal)
        except (StepError, SealBroken) as error:
            # It stays pending. The reason passes without the sender: storage that is away, a wrong secret_key.
            log.warning("message_put_off", entry=message.entry_id, reason=str(error))
        except (*REDIS_ERRORS, LedgerRefused):
            raise
        except Exception as error:  # noqa: BLE001, the outermost loop: one message must not stop all others
            # Not the error's words, in the log or among the rejected: they may name the patient.
            log.error("message_crashed", entry=message.entry_id, **crash_site(error))
            # `invalid_request`: the public contract has no code for chartpost's own faults, so the message says whose
            # fault it is.
            self._rejected.add(message, DocumentRefused(Code.INVALID_REQUEST, FAULT_OF_CHARTPOST))

    def _accept(self, message: Message, requested_id: str, job_id: str) -> None:
        """Remove a message whose job is in the ledger. Its entry's id will find the job, as callers expect."""
        if requested_id != job_id_of(message.entry_id):
            self._ledger.alias(message.entry_id, job_id)
        self._group.remove(message)

    def _messages(self) -> Iterator[Message]:
        # Twice in a lease: a dead reader's messages are stale after one, and then wait half a lease at most.
        if time.monotonic() >= self._take_over_at:
            yield from self._group.stale()
            self._group.forget_idle_readers()
            self._take_over_at = time.monotonic() + self._lease_seconds / 2
        yield from self._group.new()

    def _open(self, message: Message) -> None:
        parsed = parse_message(message)
        request = read_request(parsed.fields)
        # Before admission: when a message is read again, its source may have been delivered and deleted.
        known = self._ledger.get(parsed.job_id)
        if known:
            self._take_known_id(message, parsed, request, known)
            return
        try:
            document = self._admit(request, message.entry_id)
            opened = self._admission.open_document(parsed.job_id, document)
        except DocumentRefused as refusal:
            self._refuse(message, parsed, request, refusal)
            return
        self._accept(message, parsed.job_id, opened.job_id)

    def _admit(self, request: Request, entry: str) -> Document:
        """The admitted document. Storage that has just not answered is not asked again for a lease: others wait."""
        storage = storage_of(request.source)
        if self._storage_away_until.get(storage, 0.0) > time.monotonic():
            raise RetryLater("Its storage did not answer a moment ago.")
        try:
            return self._admission.admit(request, Door.STREAM, stream_id=entry)
        except RetryLater:
            self._storage_away_until[storage] = time.monotonic() + self._lease_seconds
            raise

    def _take_known_id(self, message: Message, parsed: ParsedMessage, request: Request, known: Job) -> None:
        """A job has this id already: the message was read before, or sent twice, or uses another document's id."""
        read_before = known.document.stream_id == message.entry_id
        if read_before and known.failure and self._rejected.is_announced(parsed.job_id):
            refusal = DocumentRefused(known.failure.code, known.failure.message)
            self._rejected.add(message, refusal, event=False)  # its job's closing writes the event
        elif read_before or asks_for(request, known.document):
            self._accept(message, parsed.job_id, known.id)
        else:
            reason = "This job_id was used for another document."
            refusal = DocumentRefused(Code.INVALID_REQUEST, reason, hint=CORRECT_AND_RESEND)
            # Under the entry's own id: the given one shows the other document.
            self._rejected.add(message, refusal, job_id=job_id_of(message.entry_id))

    def _refuse(self, message: Message, parsed: ParsedMessage, request: Request, refusal: DocumentRefused) -> None:
        """Reject a message that is understood and cannot be sent. Where its account is known it gets a failed job too.

        The job can be listed and retried. Its closing calls back and writes the event.
        """
        job_id = parsed.job_id
        has_job = request.account in self._accounts
        if has_job:
            # Before the job is opened: a reader that finds this job after a kill then knows why it is there.
            self._rejected.announce(job_id)
            document = replace(unadmitted(request, Door.STREAM), stream_id=message.entry_id)
            self._admission.open_refused(job_id, document, refusal)
            if job_id != job_id_of(message.entry_id):
                self._ledger.alias(message.entry_id, job_id)
        self._rejected.add(message, refusal, event=not has_job)


def asks_for(request: Request, document: Document) -> bool:
    """True if this request asked for that document. The size and time of its file may have changed since."""
    same_file = replace(
        unadmitted(request, Door.STREAM),
        size_bytes=document.size_bytes,
        identity=document.identity,
        stream_id=document.stream_id,
        door=document.door,
    )
    return same_file == document


def storage_of(source: str) -> str:
    """What may be away as a whole: scheme and host or bucket of a source's address."""
    try:
        parts = urlsplit(source)
    except ValueError:  # not an address; admission refuses it
        return source
    return f"{parts.scheme}://{parts.netloc}"
