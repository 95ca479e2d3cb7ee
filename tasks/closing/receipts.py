"""What a finished document leaves behind for people and programs: the receipt, or the error file."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from tasks.errors import Code
from tasks.job import Assurance, Job, Stage

_WITHOUT_RECORD_YET = (Code.NOT_CONFIRMED, Code.OUTCOME_UNKNOWN)


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
        "final": not still_looking(job),
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


def outcome_open(job: Job) -> bool:
    """Whether nobody knows what became of a failed job: its name stays its own, and its document continues it."""
    return job.stage is Stage.FAILED and job.code in _WITHOUT_RECORD_YET and job.unknown_since is not None


def still_looking(job: Job) -> bool:
    """Whether the failure may yet turn into a delivery by itself."""
    return outcome_open(job) and not job.held


def reached(job: Job) -> str:
    """The last stage that a failed job had reached before it ended."""
    passed = [
        stage for stage in (Stage.RECEIVED, Stage.PRESIGNED, Stage.STORED, Stage.REGISTERED) if stage in job.times
    ]
    return str(passed[-1]) if passed else str(Stage.RECEIVED)


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds, as everything that we print."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None
