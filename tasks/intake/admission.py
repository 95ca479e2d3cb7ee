"""From a request to an open job, or to a refusal with a reason. Every door uses it.

A document that was delivered before is not found here, but by its first step: `pipeline.preflight`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import structlog

from tasks.accounts.account import Account, Accounts
from tasks.closing.results import Results
from tasks.intake.requests import Request, file_name_of, read_request
from tasks.ledger.ledger import Ledger, Opened
from tasks.model.document import Document, Door
from tasks.model.errors import Code, DocumentRefused, invalid_request
from tasks.model.job import Failure, Job, outcome_open
from tasks.sources.documents import Documents
from tasks.sources.sources import Sources

log = structlog.get_logger()


class Admission:
    """Opens jobs in the ledger, each once. Every call may be repeated under the same id.

    `sources` are those that callers may name. `send_closing` sends the closing step of a refused job.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        accounts: Accounts,
        sources: Sources,
        documents: Documents,
        results: Results,
        callback_hosts: Collection[str],
        send_closing: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._sources = sources
        self._documents = documents
        self._results = results
        self._callback_hosts = callback_hosts
        self._send_closing = send_closing

    # --- Celery calls ------------------------------------------------------------------------------------------

    def open_call(self, job_id: str, fields: Mapping[str, Any]) -> None:
        """Open the job of a Celery call. Raises DocumentRefused where not even a failed job can be opened."""
        # A request that is not understood may lack an account, so no job can be opened: only the result tells why.
        request = read_request(fields)
        try:
            document = self.admit(request, Door.CELERY)
        except DocumentRefused as refusal:
            self.open_refused(job_id, unadmitted(request, Door.CELERY), refusal)
            return
        self.open_admitted(job_id, document)

    def open_admitted(self, job_id: str, document: Document) -> Opened:
        """Open the job of a call whose document is admitted.

        Raises DocumentRefused if its idempotency key was used for another document.
        """
        opened = self.open_document(job_id, document)
        if opened.kind == "same":
            # Closing shows the outcome to all who ask for the same. An earlier job that is closed does so no more.
            earlier = self._ledger.get(opened.job_id)
            if earlier and earlier.stage.final:
                self._results.outcome(job_id, earlier)
        return opened

    # --- any door ----------------------------------------------------------------------------------------------

    def admit(self, request: Request, door: Door, stream_id: str | None = None) -> Document:
        """The document that a request asks for. It is checked as far as possible without a call to the provider.

        Raises DocumentRefused with the code that the public contract names, and RetryLater.
        """
        account = self.account(request.account)
        self.check_callback(request.callback_url)
        located = self._sources.locate(request.source)
        document = replace(
            unadmitted(request, door),
            size_bytes=located.size_bytes,
            identity=located.identity,
            stream_id=stream_id,
        )
        account.provider.check(document)
        return document

    def open_document(self, job_id: str, document: Document) -> Opened:
        """Open a job. Raises DocumentRefused if its idempotency key was used for another document."""
        earlier = self.continued_job(document)
        if earlier and earlier.id != job_id:
            return self._continue(earlier, job_id, document)
        provider = self._accounts[document.account].provider
        opened = self._ledger.open(job_id, document, provider.kind, route=provider.route(document))
        if opened.kind == "conflict":
            message = "This idempotency key was used for another document."
            raise invalid_request(message, "Use one key for one document only.")
        if opened.kind == "opened":
            log.info("job_opened", job=job_id, account=document.account, door=document.door, size=document.size_bytes)
        return opened

    def open_refused(self, job_id: str, document: Document, refusal: DocumentRefused) -> None:
        """Open a job that has failed already, so that a refusal is listed, closed and shown like any other failure."""
        failure = Failure(refusal.code, refusal.message, refusal.hint, refusal.detail)
        account = self._accounts.get(document.account)
        opened = self._ledger.open(job_id, document, account.provider.kind if account else "", failure=failure)
        if opened.kind == "opened":
            log.warning(
                "document_refused", job=job_id, account=document.account, code=refusal.code, reason=refusal.message
            )
            self._send_closing(job_id)

    def continued_job(self, document: Document) -> Job | None:
        """The failed job of unknown outcome that this document continues: the same bytes, name and patient."""
        # A job whose outcome is open keeps its name, so it is the holder.
        holder = self._ledger.name_holder(document)
        job = self._ledger.get(holder) if holder else None
        if job is None or not outcome_open(job):
            return None
        before = job.document
        if (before.patient_id, before.file_name, before.size_bytes) != (
            document.patient_id,
            document.file_name,
            document.size_bytes,
        ):
            return None
        # Last, since it reads the whole document.
        if job.sha256 and job.sha256 != self._documents.sha256_at(document.source):
            return None
        return job

    def account(self, name: str) -> Account:
        """The account of this name. Raises DocumentRefused if the settings do not name it."""
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
            parts = urlsplit(url)
            # No user name: an address is kept and shown, so it is not a place for credentials.
            allowed = parts.scheme == "https" and parts.hostname in self._callback_hosts and not parts.username
        except ValueError:
            allowed = False
        if not allowed:
            message = "The callback_url is not https to one of the callback_hosts in the settings."
            raise invalid_request(message, "Add its host to callback_hosts, or leave callback_url out.")

    def _continue(self, earlier: Job, job_id: str, document: Document) -> Opened:
        """Let the earlier job go on with this copy of the document; `job_id` becomes another name for it."""
        again = replace(earlier.document, source=document.source, identity=document.identity)
        # The alias first. A call that is repeated after a kill in between then continues the job. The other way round,
        # it would find a job that is continued already, and open a second one.
        self._ledger.adopt_alias(job_id, earlier.id)
        first = self._accounts[again.account].provider.route(again).first
        why = self._ledger.retry_reconciling(earlier, again, first=first)
        log.info("job_continued", job=earlier.id, account=document.account, asked_by=job_id, why=why)
        return Opened("same", earlier.id)


def unadmitted(request: Request, door: Door) -> Document:
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
    )
