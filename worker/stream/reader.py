"""`chartpost intake`: reads documents from the Redis streams, which any language can write to.

Each stream has a reader of its own: a producer whose messages are many, or whose storage does not answer, holds up no
other.

A message leaves the stream when its job is in the ledger, or when it stands among the rejected. Until then it is
pending: after a kill, or an outage of its storage, a reader takes it over after a lease.

Messages that plainly become new jobs are opened together; the others one after the other, in their order. What a kill
leaves of each:

1.  Before the job is opened: the pending message, and nothing else.
2.  After that: the job and the pending message. The next reader finds the job under its id, and removes the message.
3.  Between the opening of a failed job and the rejection: the next reader finds the announcement, and only rejects.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import redis
import structlog

from config.redaction import crash_site
from tasks.intake.admission import Admission, AnothersJob, unadmitted
from tasks.intake.producers import Producer
from tasks.intake.requests import Request, read_request
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import REDIS_ERRORS, RedisTrouble, is_outage
from tasks.ledger.seal import SealBroken
from tasks.model.document import Document, Door, same_producer
from tasks.model.errors import Code, DocumentRefused, RetryLater, StepError
from tasks.model.job import Job
from tasks.sources.base import StorageAway
from worker.stream.group import ConsumerGroup
from worker.stream.messages import CORRECT_AND_RESEND, Message, ParsedMessage, former_job_id_of, parse_message
from worker.stream.rejected import RejectedStream

log = structlog.get_logger()

_AWAY_SECONDS = 1.0
_TOGETHER_LEASES = 0.1  # what is opened together waits no longer for the rest of its batch
FAULT_OF_CHARTPOST = "A fault in chartpost: it could not read the message. The log names the place."


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A message whose document is admitted, and has no job yet."""

    message: Message
    job_id: str
    document: Document

    @property
    def id_was_given(self) -> bool:
        return self.job_id != self.message.job_id


class StreamReader:
    """One reader of one stream; any number may run side by side. It reads until `stop` is set.

    `producer` gives what messages of this stream may ask for, or raises DocumentRefused if they may nothing.
    """

    def __init__(
        self,
        *,
        group: ConsumerGroup,
        rejected: RejectedStream,
        ledger: Ledger,
        admission: Admission,
        producer: Callable[[], Producer],
        accounts: Collection[str],
        lease_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._group = group
        self._rejected = rejected
        self._ledger = ledger
        self._admission = admission
        self._producer = producer
        self._accounts = accounts
        self._lease_seconds = lease_seconds
        self._stop = stop
        self._take_over_at = time.monotonic()
        self._storage_away_until: dict[str, float] = {}

    def run(self) -> None:
        """Read until told to stop. An outage of Redis is logged once and waited for. Raises LedgerRefused."""
        trouble = RedisTrouble(part="intake")
        log.info("intake_started", reader=self._group.reader, stream=self._group.stream.key)
        while not self._stop.is_set():
            try:
                self._ledger.identity.confirm()
                self.read_once()
                trouble.end()
            except REDIS_ERRORS as error:
                trouble.note(error)
                self._stop.wait(_AWAY_SECONDS)
        try:
            self._group.leave()
        except redis.RedisError as error:
            log.info("reader_not_removed", error=type(error).__name__)
        log.info("intake_stopped", reader=self._group.reader, stream=self._group.stream.key)

    def read_once(self) -> int:
        """Take over stale messages, then read new ones, waiting a moment for these. Returns how many were taken."""
        taken = 0
        try:
            for messages in self._messages():
                self._take_all(messages)
                taken += len(messages)
                if self._stop.is_set():
                    break
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._group.create()  # at the first start, and after a wipe
        return taken

    def _take_all(self, messages: Sequence[Message]) -> None:
        """Take messages in their order. Raises Redis's errors; of an error that is no outage, once all are taken."""
        alone: redis.ResponseError | None = None
        for message, why_not in self._not_plain(messages):
            try:
                self._take(message, why_not)
            except redis.ResponseError as error:
                if is_outage(error):
                    raise
                alone = alone or error
        if alone:
            raise alone

    def _not_plain(self, messages: Sequence[Message]) -> Iterator[tuple[Message, StepError | None]]:
        """Take together the messages that plainly become new jobs. Yields each other one after those before it.

        With it comes why its document was not admitted, if that is known already. If admission takes long, as with slow
        storage, what has no job by then is yielded too, or stays pending if the reader must stop.
        """
        plain, hurry_at = list[_Admitted](), time.monotonic() + self._lease_seconds * _TOGETHER_LEASES
        for message in messages:
            late = time.monotonic() >= hurry_at
            if late and self._stop.is_set():
                break
            admitted = None if late else self._admit_plain(message)
            if isinstance(admitted, _Admitted):
                plain.append(admitted)
                continue
            for left in self._open_together(plain):
                yield left, None
            plain = []
            yield message, admitted
        for left in self._open_together(plain):
            yield left, None

    def _admit_plain(self, message: Message) -> _Admitted | StepError | None:
        """The message with its admitted document, or why that is not admitted. None if `_take` must find out."""
        if message.given_before:  # its job may be open already, and its source gone
            return None
        try:
            parsed = parse_message(message)
            document = self._admit(read_request(parsed.fields), self._producer(), message.entry_id)
        except StepError as why_not:
            return why_not
        except Exception:  # noqa: BLE001, `_take` meets it again, and says where
            return None
        return _Admitted(message, parsed.job_id, document)

    def _open_together(self, plain: Sequence[_Admitted]) -> Iterator[Message]:
        """Open the jobs of messages, and remove these from the stream. Yields each that cannot be opened so."""
        if not plain:
            return
        try:
            opened = self._admission.open_together([(each.job_id, each.document) for each in plain])
        except (*REDIS_ERRORS, LedgerRefused):
            raise
        except Exception:  # noqa: BLE001, the fault of one message; `_take` finds out whose
            opened = [False] * len(plain)
        done = [each for each, is_open in zip(plain, opened, strict=True) if is_open]
        if done:
            # Before the messages are removed, as in `_accept`.
            self._ledger.alias_all({each.message.name: each.job_id for each in done if each.id_was_given})
            self._group.remove(*(each.message for each in done))
        yield from (each.message for each, is_open in zip(plain, opened, strict=True) if not is_open)

    def _take(self, message: Message, why_not: StepError | None = None) -> None:
        """Open a message's job, or reject it, or leave it pending. Raises Redis's errors.

        `why_not`: why its document was not admitted, if it was looked at already.
        """
        try:
            self._open(message, why_not)
        except DocumentRefused as refusal:
            self._reject(message, refusal)
        except (StepError, SealBroken) as error:
            # It stays pending. The reason passes without the sender: storage that is away, a wrong secret_key.
            log.warning("message_put_off", entry=message.name, reason=str(error))
        except (*REDIS_ERRORS, LedgerRefused):
            raise
        except Exception as error:  # noqa: BLE001, the outermost loop: one message must not stop all others
            # Not the error's words, in the log or among the rejected: they may name the patient.
            log.error("message_crashed", entry=message.name, **crash_site(error))
            # `invalid_request`: the public contract has no code for chartpost's own faults, so the message says whose
            # fault it is.
            self._reject(message, DocumentRefused(Code.INVALID_REQUEST, FAULT_OF_CHARTPOST))

    def _reject(self, message: Message, refusal: DocumentRefused) -> None:
        """Reject a message that has opened no job. Nothing is told under the id of a job that is there."""
        with suppress(DocumentRefused):
            if not self._ledger.named(parse_message(message).job_id):
                self._rejected.add(message, refusal)
                return
        # The id that it gives is that of another's job. Its own may be a job's too, of an earlier try: that one tells.
        self._rejected.add(message, refusal, job_id=message.job_id, event=not self._ledger.named(message.job_id))

    def _accept(self, message: Message, requested_id: str, job_id: str) -> None:
        """Remove a message whose job is in the ledger. Its entry's id will find the job, as callers expect."""
        if requested_id != message.job_id:
            self._ledger.alias(message.name, job_id)
        self._group.remove(message)

    def _messages(self) -> Iterator[Sequence[Message]]:
        # Twice in a lease: a dead reader's messages are stale after one, and then wait half a lease at most.
        if time.monotonic() >= self._take_over_at:
            yield from self._group.stale()
            self._group.forget_idle_readers()
            self._take_over_at = time.monotonic() + self._lease_seconds / 2
        yield self._group.new()

    def _open(self, message: Message, why_not: StepError | None) -> None:
        producer = self._producer()
        parsed = parse_message(message)
        request = read_request(parsed.fields)
        # Before admission: when a message is read again, its source may have been delivered and deleted.
        known = self._ledger.get(parsed.job_id)
        if known is None and (known := self._opened_before(message, parsed)):
            parsed = replace(parsed, job_id=known.id)
        if known:
            self._take_known_id(message, parsed, request, producer, known)
            return
        try:
            if why_not:
                raise why_not
            document = self._admit(request, producer, message.entry_id)
            opened = self._admission.open_document(parsed.job_id, document)
        except AnothersJob as refusal:
            self._rejected.add(message, refusal, job_id=message.job_id)
        except DocumentRefused as refusal:
            self._refuse(message, parsed, request, producer, refusal)
        else:
            self._accept(message, parsed.job_id, opened.job_id)

    def _opened_before(self, message: Message, parsed: ParsedMessage) -> Job | None:
        """The job that an earlier version has opened for this entry, and was killed before it removed it."""
        if not message.given_before or message.stream.producer or parsed.job_id != message.job_id:
            return None
        job = self._ledger.get(former_job_id_of(message.entry_id))
        # That id could be told by everybody, so another message may have given it. The entry's id is our own note.
        return job if job and job.document.stream_id == message.entry_id else None

    def _admit(self, request: Request, producer: Producer, entry: str) -> Document:
        """The admitted document. Storage that has just not answered is not asked again for a lease: others wait."""
        storage = storage_of(request.source)
        if self._storage_away_until.get(storage, 0.0) > time.monotonic():
            raise RetryLater("Its storage did not answer a moment ago.")
        try:
            return self._admission.admit(request, Door.STREAM, producer, stream_id=entry)
        except StorageAway:
            self._storage_away_until[storage] = time.monotonic() + self._lease_seconds
            raise

    def _take_known_id(
        self, message: Message, parsed: ParsedMessage, request: Request, producer: Producer, known: Job
    ) -> None:
        """A job has this id already: the message was read before, or sent twice, or uses another document's id."""
        asked_for = unadmitted(request, Door.STREAM, producer)
        own = same_producer(known.document, asked_for)
        read_before = own and known.document.stream_id == message.entry_id
        if read_before and known.failure and self._rejected.is_announced(parsed.job_id):
            refusal = DocumentRefused(known.failure.code, known.failure.message)
            self._rejected.add(
                message, refusal, job_id=parsed.job_id, event=False
            )  # its job's closing writes the event
        elif read_before or (own and is_same_request(asked_for, known.document)):
            self._accept(message, parsed.job_id, known.id)
        else:
            reason = "This job_id was used for another document."
            refusal = DocumentRefused(Code.INVALID_REQUEST, reason, hint=CORRECT_AND_RESEND)
            # Under the entry's own id: the given one shows the other document.
            self._rejected.add(message, refusal, job_id=message.job_id)

    def _refuse(
        self,
        message: Message,
        parsed: ParsedMessage,
        request: Request,
        producer: Producer,
        refusal: DocumentRefused,
    ) -> None:
        """Reject a message that is understood and cannot be sent. Where its account is known it gets a failed job too.

        The job can be listed and retried. Its closing calls back and writes the event.
        """
        job_id = parsed.job_id
        has_job = request.account in self._accounts and producer.may_send_to(request.account)
        if has_job:
            # Before the job is opened: a reader that finds this job after a kill then knows why it is there.
            self._rejected.announce(job_id)
            document = replace(unadmitted(request, Door.STREAM, producer), stream_id=message.entry_id)
            self._admission.open_refused(job_id, document, refusal)
            if job_id != message.job_id:
                self._ledger.alias(message.name, job_id)
        self._rejected.add(message, refusal, event=not has_job)


def is_same_request(asked_for: Document, document: Document) -> bool:
    """True if this is what the document was asked for with. The size and time of its file may have changed since."""
    same_file = replace(
        asked_for,
        size_bytes=document.size_bytes,
        identity=document.identity,
        stream_id=document.stream_id,
        door=document.door,
        # An earlier version noted neither.
        place=document.place,
        producer=document.producer,
    )
    return same_file == document


def storage_of(source: str) -> str:
    """What may be away as a whole: scheme and host or bucket of a source's address."""
    try:
        parts = urlsplit(source)
    except ValueError:  # not an address; admission refuses it
        return source
    return f"{parts.scheme}://{parts.netloc}"
