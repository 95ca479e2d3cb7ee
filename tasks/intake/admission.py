"""Where documents come in: a call, a stream message, a file in our care. Each opens a job in the ledger, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import structlog

from tasks.intake.requests import Request, name_of, read_request
from tasks.ledger.ledger import Opened
from tasks.model.document import Document, Door
from tasks.model.errors import Code, DocumentRefused
from tasks.model.job import Failure, Job, outcome_open
from tasks.model.route import Step
from tasks.runtime import Runtime

log = structlog.get_logger()


def open_call(runtime: Runtime, job_id: str, fields: Mapping[str, Any]) -> None:
    """Open the job of a Celery call. Raises DocumentRefused where not even a failed job can be opened."""
    request = read_request(fields)
    try:
        document = admit(runtime, request, Door.CELERY)
    except DocumentRefused as refusal:
        open_refused(runtime, job_id, unadmitted(request, Door.CELERY), refusal)
        return
    open_admitted(runtime, job_id, document)


def open_admitted(runtime: Runtime, job_id: str, document: Document) -> None:
    """Open the job of a call whose document is admitted. Raises DocumentRefused for a used idempotency key."""
    opened = open_document(runtime, job_id, document)
    if opened.kind == "same":
        show_outcome(runtime, job_id, opened.job_id)


def open_document(runtime: Runtime, job_id: str, document: Document) -> Opened:
    """Open a job. Raises DocumentRefused when its idempotency key was used for something else."""
    earlier = continues(runtime, document)
    if earlier and earlier.id != job_id:
        return _continued(runtime, job_id, earlier, document)
    provider = runtime.accounts[document.account].provider
    opened = runtime.ledger.open(job_id, document, provider.kind, route=provider.route(document))
    if opened.kind == "conflict":
        raise DocumentRefused(
            Code.INVALID_REQUEST,
            "This idempotency key was used for another document.",
            hint="Use one key for one document only.",
        )
    if opened.kind == "opened":
        log.info("job_opened", job=job_id, account=document.account, door=document.door, size=document.size_bytes)
    return opened


def continues(runtime: Runtime, document: Document) -> Job | None:
    """The failed job whose outcome is still open and whose document this is: same bytes, name and patient."""
    holder = runtime.ledger.name_holder(document)
    job = runtime.ledger.get(holder) if holder else None
    if job is None or not outcome_open(job) or _asked(job.document) != _asked(document):
        return None
    if job.sha256 and job.sha256 != runtime.care.digest(document.source):
        return None
    return job


def _asked(document: Document) -> tuple[object, ...]:
    """What two documents have in common that may be the same."""
    return document.patient_id, document.file_name, document.size_bytes


def _continued(runtime: Runtime, job_id: str, earlier: Job, document: Document) -> Opened:
    """The earlier job goes on, with this call's copy of the document; this call's id becomes another name for it."""
    again = replace(earlier.document, source=document.source, identity=document.identity)
    runtime.ledger.adopt_alias(job_id, earlier.id)
    why = runtime.ledger.retry_reconciling(earlier, again, first=runtime.route(again).first)
    log.info("job_continued", job=earlier.id, account=document.account, asked_by=job_id, why=why)
    return Opened("same", earlier.id)


def open_refused(runtime: Runtime, job_id: str, document: Document, refusal: DocumentRefused) -> None:
    """Open a job that is refused at the door: it fails at once, and is closed like any other."""
    failure = Failure(refusal.code, refusal.message, refusal.hint, refusal.detail)
    account = runtime.settings.accounts.get(document.account)
    opened = runtime.ledger.open(job_id, document, account.provider if account else "", failure=failure)
    if opened.kind == "opened":
        log.warning("document_refused", job=job_id, account=document.account, code=refusal.code, reason=refusal.message)
        runtime.send_step(job_id, Step.NOTIFY)


def admit(runtime: Runtime, request: Request, door: Door, stream_id: str | None = None) -> Document:
    """The document that a request asks for, checked as far as it can be without its provider.

    Raises DocumentRefused with the code that the public contract names.
    """
    account = runtime.accounts.get(request.account)
    if account is None:
        raise unknown_account(runtime)
    check_callback(runtime, request.callback_url)
    located = runtime.sources.locate(request.source)
    document = replace(
        unadmitted(request, door),
        size_bytes=located.size_bytes,
        identity=located.identity,
        stream_id=stream_id,
    )
    account.provider.check(document)
    return document


def unadmitted(request: Request, door: Door) -> Document:
    """The document as it was asked for, before anybody has looked at its source."""
    return Document(
        account=request.account,
        patient_id=request.patient_id,
        source=request.source,
        file_name=name_of(request),
        size_bytes=0,
        door=door,
        content_type=request.content_type,
        description=request.description,
        options=request.options or {},
        idempotency_key=request.idempotency_key,
        callback_url=request.callback_url,
        delete_source=request.delete_source,
    )


def show_outcome(runtime: Runtime, task_id: str, job_id: str) -> None:
    """A call that asks for what was asked before shows the earlier job's outcome, at once if there is one."""
    earlier = runtime.ledger.get(job_id)
    if earlier and earlier.stage.final:
        runtime.results.outcome(task_id, earlier)


def check_callback(runtime: Runtime, url: str | None) -> None:
    """Raises DocumentRefused for an address to which the settings let no callback go."""
    if url is None:
        return
    try:
        parts = urlsplit(url)
        allowed = parts.scheme == "https" and parts.hostname in runtime.settings.callback_hosts and not parts.username
    except ValueError:
        allowed = False
    if not allowed:
        raise DocumentRefused(
            Code.INVALID_REQUEST,
            "The callback_url is not https to one of the callback_hosts in the settings.",
            hint="Add its host to callback_hosts, or leave callback_url out.",
        )


def unknown_account(runtime: Runtime) -> DocumentRefused:
    """The error for an account that the settings do not name."""
    known = ", ".join(runtime.accounts) or "none"
    return DocumentRefused(
        Code.UNKNOWN_ACCOUNT, f"No such account; the settings know: {known}.", hint="Correct the account's name."
    )
