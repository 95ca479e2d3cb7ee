"""What a finished document leaves behind for people and programs: the receipt, or the error file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tasks.model.errors import Code
from tasks.model.job import Assurance, Job, still_reconciling
from tasks.model.route import Stage
from tasks.model.times import iso
from tasks.providers.table import assurance_of


def receipt(job: Job, assurance: Assurance) -> dict[str, Any]:
    """The receipt of a delivered document, in the fields of the public contract."""
    document, stored, record = job.document, job.facts.stored, job.facts.record
    made: dict[str, Any] = {
        "job_id": job.id,
        "account": job.account,
        "provider": job.provider,
        "patient_id": document.patient_id,
        "file_name": document.file_name or None,
        "size_bytes": document.size_bytes,
        "sha256": job.sha256,
        "assurance": assurance,
        "record": {"id": record.id if record else None, "url": record.url if record else None},
        "stored": {
            "key": stored.key if stored else job.facts.key,
            "etag": stored.etag if stored else None,
            "etag_verified": stored.etag_verified if stored else False,
        },
        "attempts": job.attempts,
        "provider_calls": job.provider_calls,
        "times": {
            str(stage): iso(job.times.get(stage))
            for stage in (Stage.RECEIVED, Stage.PRESIGNED, Stage.STORED, Stage.REGISTERED, Stage.DELIVERED)
        },
    }
    if job.duplicate_of:
        made |= {"code": Code.DUPLICATE, "duplicate_of": job.duplicate_of}
    if job.resolved_by_human:
        made["resolved_by"] = "human"
    if job.facts.remarks:
        made["remarks"] = list(job.facts.remarks)
    if document.relabeling:
        made |= {"size_bytes": None, "labels": [asdict(label) for label in document.relabeling.labels]}
    return made


def error(job: Job) -> dict[str, Any]:
    """The error file of a document that failed or was cancelled."""
    failure, document = job.failure, job.document
    return {
        "job_id": job.id,
        "account": job.account,
        "provider": job.provider,
        "patient_id": document.patient_id,
        "file_name": document.file_name or None,
        "state": job.stage,
        "code": failure.code if failure else None,
        "message": words(job),
        "hint": failure.hint if failure else "",
        "attempts": job.attempts,
        "stage": reached(job),
        "at": iso(job.times.get(job.stage) or job.updated_at),
        "final": not still_reconciling(job),
    }


def words(job: Job) -> str:
    """Why a job failed, with the provider's words, which may name the patient: for the error file and the terminal."""
    failure = job.failure
    if failure is None:
        return "The job ended without a reason being known."
    return f"{failure.message} The provider's words: {failure.detail}" if failure.detail else failure.message


def public(job: Job, assurance: Assurance) -> dict[str, Any]:
    """The receipt without what may not stand in the clear in Redis; Celery's callers know it anyway."""
    made = receipt(job, assurance)
    for private in ("patient_id", "file_name"):
        del made[private]
    del made["stored"]["key"]
    return made


def reached(job: Job) -> str:
    """The last stage that a failed job had reached before it ended."""
    passed = [
        stage for stage in (Stage.RECEIVED, Stage.PRESIGNED, Stage.STORED, Stage.REGISTERED) if stage in job.times
    ]
    return str(passed[-1]) if passed else str(Stage.RECEIVED)


def written(job: Job) -> dict[str, Any]:
    """The receipt of a delivered job, else its error file."""
    return receipt(job, assurance_of(job.provider)) if job.stage is Stage.DELIVERED else error(job)


def event_of(job: Job) -> dict[str, str]:
    """The entry of the events stream, in the fields of the public contract."""
    return {
        "job": job.id,
        "account": job.account,
        "state": str(job.stage),
        "code": str(job.code or ""),
        "at": iso(job.times.get(job.stage)) or "",
        "stream_id": job.document.stream_id or "",
    }


def fields_of(job: Job) -> dict[str, Any]:
    """A job as the public contract lists it."""
    record = job.facts.record
    return {
        "id": job.id,
        "account": job.account,
        "provider": job.provider or None,
        "state": job.stage,
        "code": job.code,
        "message": words(job) if job.failure else None,
        "patient_id": job.document.patient_id,
        "file_name": job.document.file_name or None,
        "size_bytes": None if job.document.relabeling else job.document.size_bytes,
        "sha256": job.sha256,
        "attempts": job.attempts,
        "created_at": iso(job.created_at),
        "updated_at": iso(job.updated_at),
        "next_at": iso(job.next_at),
        "record_id": record.id if record else None,
        "assurance": assurance_of(job.provider) if job.stage is Stage.DELIVERED else None,
    }
