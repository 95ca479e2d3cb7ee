"""From a request to an open job, or to a refusal with a reason. Every door uses it.

A document that was delivered before is not found here, but by its first step: `pipeline.preflight`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import structlog

from tasks.accounts.account import Account, Accounts
from tasks.closing.results import Results
from tasks.http.addresses import check_callback
from tasks.intake.locating_slots import LocatingSlots
from tasks.intake.producers import Producer, not_its_account
from tasks.intake.requests import Request, file_name_of, read_request
from tasks.ledger import moves
from tasks.ledger.ledger import Ledger, Opened
from tasks.model.document import Document, Door, Place, same_producer
from tasks.model.errors import Code, DocumentRefused, invalid_request
from tasks.model.job import Failure, Job
from tasks.sources.base import Located, StorageAway
from tasks.sources.documents import Documents

log = structlog.get_logger()


class Admission:
    """Opens jobs in the ledger, each once. Every call may be repeated under the same id.

    `send_closing` sends the closing step of a refused job.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        accounts: Accounts,
        documents: Documents,
        results: Results,
        callback_hosts: Collection[str],
        send_closing: Callable[[str], None],
        locating: LocatingSlots | None = None,
        remark: Callable[[str, str], None] = lambda account, sentence: None,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._documents = documents
        self._results = results
        self._callback_hosts = callback_hosts
        self._send_closing = send_closing
        self._locating = locating.slot if locating else nullcontext
        self._remark = remark

    # --- Celery calls ------------------------------------------------------------------------------------------

    def open_call(self, job_id: str, fields: Mapping[str, Any], producer: Producer) -> None:
        """Open the job of a Celery call. Raises DocumentRefused where not even a failed job can be opened."""
        # A request that is not understood may lack an account, so no job can be opened: only the result tells why.
        request = read_request(fields)
        try:
            document = self.admit(request, Door.CELERY, producer)
        except DocumentRefused as refusal:
            if not self.lists_refusals(request.account, producer):
                raise
            self.open_refused(job_id, unadmitted(request, Door.CELERY, producer), refusal)
            return
        self.open_admitted(job_id, document)

    def open_admitted(self, job_id: str, document: Document) -> Opened:
        """Open the job of a call whose document is admitted. A call under the id of another producer's job is ignored.

        Raises DocumentRefused if its idempotency key was used for another document.
        """
        try:
            opened = self.open_document(job_id, document)
        except AnothersJob as refusal:
            # Not as a result: under this id the other producer reads its own.
            log.warning("call_refused", job=job_id, code=refusal.code, reason=refusal.message)
            return Opened("exists", job_id)
        if opened.kind == "same":
            # Closing shows the outcome to all who ask for the same. An earlier job that is closed does so no more.
            earlier = self._ledger.get(opened.job_id)
            if earlier and earlier.stage.final:
                self._results.outcome(job_id, earlier)
        return opened

    # --- any door ----------------------------------------------------------------------------------------------

    def admit(self, request: Request, door: Door, producer: Producer, stream_id: str | None = None) -> Document:
        """The document that a request asks for. It is checked as far as possible without a call to the provider.

        Raises DocumentRefused with the code that the public contract names, and RetryLater.
        """
        account = self.account(request.account, producer)
        self.check_callback(request.callback_url)
        with self._locating():
            located = self._located(request, producer)
        producer.check_source(request.source, delete=request.delete_source)
        document = replace(
            unadmitted(request, door, producer),
            size_bytes=located.size_bytes,
            identity=located.identity,
            stream_id=stream_id,
        )
        account.provider.check(document)
        return document

    def _located(self, request: Request, producer: Producer) -> Located:
        try:
            return producer.sources.locate(request.source)
        except StorageAway as away:
            # No job is open yet, so nothing else tells an operator that something waits, and for what.
            self._remark(request.account, f"Calls or messages wait for their sources. {away}")
            raise

    def open_document(self, job_id: str, document: Document) -> Opened:
        """Open a job. Raises DocumentRefused if its idempotency key was used for another document, and AnothersJob."""
        earlier = self.continued_job(document, lambda: self._documents.sha256(job_id, document))
        # A call may come under the id of another's job, which keeps it.
        if earlier and earlier.id != job_id and not self._ledger.known(job_id):
            return self._continue(earlier, job_id, document)
        provider = self._accounts[document.account].provider
        opened = self._ledger.open(job_id, document, provider.kind, route=provider.route(document))
        if opened.kind == "conflict":
            message = "This idempotency key was used for another document."
            raise invalid_request(message, "Use one key for one document only.")
        if opened.kind != "opened":
            there = self._ledger.get(opened.job_id)
            if there and not same_producer(there.document, document):
                raise AnothersJob
        if opened.kind == "opened":
            _log_opened(job_id, document)
        return opened

    def open_together(self, wanted: Sequence[tuple[str, Document]]) -> list[bool]:
        """Open those of these documents (job id, document) that are plainly new, in a few round trips to Redis.

        True for each that is opened now. All others are left as they were, and must be opened one after the other, in
        their order, by `open_document`: an id, an idempotency key or a name is in use, or one before has the same.
        """
        names = [self._ledger.codec.name_key(document) for _, document in wanted]
        held, firsts = self._ledger.names_held(names), _firsts(wanted, names)
        plain = [place for place, first in enumerate(firsts) if first and not held[place]]
        openings = []
        for job_id, document in (wanted[place] for place in plain):
            provider = self._accounts[document.account].provider
            openings.append((job_id, document, provider.kind, provider.route(document)))
        opened = [False] * len(wanted)
        for place, answer in zip(plain, self._ledger.open_together(openings), strict=True):
            if answer and answer.kind == "opened":
                opened[place] = True
                _log_opened(*wanted[place])
        return opened

    def open_refused(self, job_id: str, document: Document, refusal: DocumentRefused) -> None:
        """Open a job that has failed already, so that a refusal is listed, closed and shown like any other failure."""
        failure = Failure(refusal.code, refusal.message, refusal.hint, refusal.detail, refusal.about)
        account = self._accounts.get(document.account)
        opened = self._ledger.open(job_id, document, account.provider.kind if account else "", failure=failure)
        if opened.kind == "opened":
            log.warning(
                "document_refused", job=job_id, account=document.account, code=refusal.code, reason=refusal.message
            )
            self._send_closing(job_id)

    def continued_job(self, document: Document, sha256: Callable[[], str]) -> Job | None:
        """The failed job of unknown outcome that this document continues: the same bytes, name and patient.

        `sha256` gives the document's digest. A producer continues no other's job: its document waits until that one's
        outcome is known, since it cannot have the name before. The operator continues any.
        """
        # A job whose outcome is open keeps its name, so it is the holder.
        holder = self._ledger.name_holder(document)
        job = self._ledger.get(holder) if holder else None
        if job is None or not job.outcome_open:
            return None
        before = job.document
        if (before.patient_id, before.file_name, before.size_bytes) != (
            document.patient_id,
            document.file_name,
            document.size_bytes,
        ):
            return None
        if not document.door.has_folder and not same_producer(before, document):
            return None
        # Last, since it reads the whole document.
        if job.sha256 and job.sha256 != sha256():
            return None
        return job

    def lists_refusals(self, account: str, producer: Producer) -> bool:
        """Whether what is refused to this producer becomes a failed job of the account."""
        # Among the jobs of another's account it would be another's. And a name that the settings do not know may be
        # anything, a patient's too: jobs, logs, events and metrics would repeat it, and keep each for ever.
        return producer.may_send_to(account) and account in self._accounts

    def account(self, name: str, producer: Producer) -> Account:
        """The account of this name. Raises DocumentRefused if the settings do not name it, or not for this producer."""
        if not producer.may_send_to(name):
            raise not_its_account(producer)
        account = self._accounts.get(name)
        if account is None:
            known = ", ".join(self._accounts) or "none"
            raise DocumentRefused(
                Code.UNKNOWN_ACCOUNT,
                f"No such account; the settings know: {known}.",
                hint="Correct the account's name.",
            )
        return account

    def check_callback(self, url: str | None) -> None:
        """Raises DocumentRefused for an address that the settings do not allow."""
        if url is None:
            return
        try:
            check_callback(url, self._callback_hosts)
        except ValueError as error:
            raise invalid_request(
                f"The callback_url cannot be called: {error}.",
                "Name an https address whose host is one of callback_hosts, or leave callback_url out.",
            ) from None

    def _continue(self, earlier: Job, job_id: str, document: Document) -> Opened:
        """Let the earlier job go on with this copy of the document; `job_id` becomes another name for it."""
        again = replace(
            earlier.document,
            source=document.source,
            identity=document.identity,
            place=document.place,
            # Whether a source may be removed is for the one to say who has sent it.
            delete_source=document.delete_source,
            producer=document.producer,
        )
        # The alias first. A call that is repeated after a kill in between then continues the job. The other way round,
        # it would find a job that is continued already, and open a second one.
        self._ledger.adopt_alias(job_id, earlier.id)
        first = self._accounts[again.account].provider.route(again).first
        why = self._ledger.take_over(earlier, moves.retry_reconciling(earlier, again, first=first))
        log.info("job_continued", job=earlier.id, account=document.account, asked_by=job_id, why=why)
        return Opened("same", earlier.id)


class AnothersJob(DocumentRefused):
    """The id that a caller gives is that of another producer's job. Nothing of that job may change or be told."""

    def __init__(self) -> None:
        super().__init__(Code.INVALID_REQUEST, "This id was used for another document.", hint="Use an id of its own.")


def _firsts(wanted: Sequence[tuple[str, Document]], names: Sequence[str]) -> list[bool]:
    """For each, whether none before it has its id, its idempotency key or its name: then their order means nothing."""
    firsts, seen = [], set[tuple[str | None, ...]]()
    for (job_id, document), name in zip(wanted, names, strict=True):
        own: set[tuple[str | None, ...]] = {("id", job_id), ("name", name)}
        if document.idempotency_key:
            own.add(("key", document.account, document.idempotency_key))
        firsts.append(own.isdisjoint(seen))
        seen |= own
    return firsts


def _log_opened(job_id: str, document: Document) -> None:
    log.info("job_opened", job=job_id, account=document.account, door=document.door, size=document.size_bytes)


def unadmitted(request: Request, door: Door, producer: Producer) -> Document:
    """The document as the caller asks for it: its source was not located yet, so it has no size."""
    return Document(
        account=request.account,
        patient_id=request.patient_id,
        source=request.source,
        file_name=file_name_of(request),
        size_bytes=0,
        door=door,
        content_type=request.content_type,
        description=request.description,
        options=request.options or {},
        idempotency_key=request.idempotency_key,
        callback_url=request.callback_url,
        as_it_is=request.as_it_is,
        delete_source=request.delete_source,
        place=Place.SENDER,
        producer=producer.name,
    )
