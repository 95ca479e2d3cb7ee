"""What is told of a job when it has ended: the receipt, the error file, and what events and lists show of it.

The fields are those of the public contract.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tasks.model.document import Label
from tasks.model.errors import Code
from tasks.model.job import Assurance, Job, Statement
from tasks.model.route import Stage
from tasks.model.times import iso
from tasks.providers.table import assurance_of

_BEFORE_THE_END = (Stage.RECEIVED, Stage.PRESIGNED, Stage.STORED, Stage.REGISTERED)


def receipt_or_error_file(job: Job) -> dict[str, Any]:
    """The receipt of a delivered job, else its error file."""
    return receipt(job) if job.stage is Stage.DELIVERED else error_file(job)


def receipt(job: Job) -> dict[str, Any]:
    """The receipt of a delivered document."""
    document, stored, record = job.document, job.facts.stored, job.facts.record
    content: dict[str, Any] = {
        "job_id": job.id,
        "account": job.account,
        "provider": job.provider,
        "patient_id": document.patient_id,
        "file_name": document.file_name or None,
        "size_bytes": document.size_bytes,
        "sha256": job.sha256,
        "assurance": _assurance(job),
        "record": {"id": record.id if record else None, "url": record.url if record else None},
        "stored": {
            # Without an upload's answer, as after a search that found the record, the form's key is all we know.
            "key": stored.key if stored else job.facts.key,
            "etag": stored.etag if stored else None,
            "etag_verified": stored.etag_verified if stored else False,
        },
        "attempts": job.counts.attempts,
        "provider_calls": job.counts.provider_calls,
        "times": {str(stage): iso(job.times.get(stage)) for stage in (*_BEFORE_THE_END, Stage.DELIVERED)},
    }
    # Only where they apply.
    if job.duplicate_of:
        content |= {"code": Code.DUPLICATE, "duplicate_of": None if job.duplicate_hidden else job.duplicate_of}
    if job.resolved_by_human:
        content["resolved_by"] = "human"
        if job.facts.resolution:
            content["resolution"] = _statement(job.facts.resolution)
    if remarks := [*job.facts.content_remarks, *job.facts.remarks]:
        content["remarks"] = remarks
    if document.relabeling:
        content |= {"size_bytes": None, "labels": [_label(label) for label in document.relabeling.labels]}
    return content


def _label(label: Label) -> dict[str, Any]:
    """In the fields of a relabel request; `further` only if there are any."""
    fields = asdict(label)
    further = fields.pop("further")
    return fields | ({"further": list(further)} if further else {})


def public_receipt(job: Job) -> dict[str, Any]:
    """The receipt without what must not be in the clear in Redis: patient, file name, storage key, a person's words."""
    content = receipt(job)
    content.pop("resolution", None)
    for private in ("patient_id", "file_name"):
        del content[private]
    del content["stored"]["key"]
    return content


def error_file(job: Job) -> dict[str, Any]:
    """The error file of a document that failed or was cancelled."""
    failure, document = job.failure, job.document
    stages = [stage for stage in _BEFORE_THE_END if stage in job.times]
    return {
        "job_id": job.id,
        "account": job.account,
        "provider": job.provider,
        "patient_id": document.patient_id,
        "file_name": document.file_name or None,
        "state": job.stage,
        "code": failure.code if failure else None,
        "message": _message(job),
        "hint": failure.hint if failure else "",
        "attempts": job.counts.attempts,
        "stage": str(stages[-1] if stages else Stage.RECEIVED),  # the last one that the job had reached
        "at": iso(job.times.get(job.stage) or job.updated_at),
        "final": not job.still_reconciling,  # false while a search may still turn it into a delivery
        **({"dismissed": _statement(job.dismissal)} if job.dismissal else {}),
    }


def _statement(statement: Statement) -> dict[str, Any]:
    return {"by": statement.by, "at": iso(statement.at), "note": statement.note}


def event_of(job: Job) -> dict[str, str]:
    """The entry of the events stream. Redis keeps it in the clear: nothing in it names patient or file."""
    return {
        "job": job.id,
        "account": job.account,
        "state": str(job.stage),
        "code": str(job.code or ""),
        "at": iso(job.times.get(job.stage)) or "",
        "stream_id": job.document.stream_id or "",
    }


def fields_of(job: Job) -> dict[str, Any]:
    """A job as the commands list it, whatever its stage."""
    record = job.facts.record
    return {
        "id": job.id,
        "account": job.account,
        "producer": job.document.producer,
        "provider": job.provider or None,
        "state": job.stage,
        "code": job.code,
        "message": _message(job) if job.failure else None,
        "patient_id": job.document.patient_id,
        "file_name": job.document.file_name or None,
        "size_bytes": None if job.document.relabeling else job.document.size_bytes,
        "sha256": job.sha256,
        "attempts": job.counts.attempts,
        "created_at": iso(job.created_at),
        "updated_at": iso(job.updated_at),
        "next_at": iso(job.next_at),
        "record_id": record.id if record else None,
        "assurance": _assurance(job) if job.stage is Stage.DELIVERED else None,
    }


def _assurance(job: Job) -> Assurance:
    return job.facts.assurance or assurance_of(job.provider)


def _message(job: Job) -> str:
    """Why the job failed, with the provider's words: these may name the patient, and go beside the file only."""
    failure = job.failure
    if failure is None:
        return "The job ended without a reason being known."
    return f"{failure.message} The provider's words: {failure.detail}" if failure.detail else failure.message
