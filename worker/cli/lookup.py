"""Finding the job that an argument names: in the ledger, among rejected messages, or in delivered/ and failed/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any
from uuid import UUID

import click

from tasks.folders.outcomes import Outcomes
from tasks.ledger.ledger import Ledger
from tasks.model.job import Job
from tasks.model.route import Stage
from worker.stream.messages import job_id_of
from worker.stream.rejected import RejectedStream

_STREAM_ENTRY = re.compile(r"\d+-\d+")

# The fields of a job in the order of the public contract, for those of which only a part is known.
_UNKNOWN_FIELDS: Mapping[str, Any] = dict.fromkeys(
    (
        *("id", "account", "provider", "state", "code", "message", "patient_id", "file_name", "size_bytes", "sha256"),
        *("attempts", "created_at", "updated_at", "next_at", "record_id", "assurance"),
    )
)


@dataclass(frozen=True, slots=True)
class JobOnDisk:
    """A job that has left Redis, by what its receipt or error file says."""

    job_id: str
    content: Mapping[str, Any]

    @property
    def delivered(self) -> bool:
        return "record" in self.content

    def fields(self) -> dict[str, Any]:
        """As the public contract lists a job; what neither file holds is None."""
        content, times = self.content, self.content.get("times") or {}
        job_file = content.get("job_file") or {}  # an error file holds job.json too
        same_name = {name: content[name] for name in _UNKNOWN_FIELDS if name in content}
        return {
            **_UNKNOWN_FIELDS,
            "size_bytes": job_file.get("size_bytes"),
            **same_name,
            "id": self.job_id,
            "state": Stage.DELIVERED if self.delivered else content.get("state"),
            "created_at": times.get(Stage.RECEIVED, job_file.get("received_at")),
            "updated_at": times.get(Stage.DELIVERED) if self.delivered else content.get("at"),
            "record_id": (content.get("record") or {}).get("id"),
        }


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """A message of the intake stream that became no job."""

    job_id: str
    entry_id: str
    code: str
    reason: str
    message: str

    def fields(self) -> dict[str, Any]:
        """As the public contract lists a job."""
        known = {"id": self.job_id, "state": Stage.FAILED, "code": self.code, "message": self.reason}
        return {**_UNKNOWN_FIELDS, **known}


def find_job(ledger: Ledger, name: str) -> Job | None:
    """`name` is a job's id, the id of a Celery call, or that of a stream entry."""
    return next((job for job_id in _ids(name) if (job := ledger.get(job_id))), None)


def require_job(ledger: Ledger, name: str) -> Job:
    """Raises ClickException if the ledger does not know it."""
    job = find_job(ledger, name)
    if job is None:
        raise not_found(name)
    return job


def find_rejected(rejected: RejectedStream, name: str) -> RejectedMessage | None:
    for job_id in _ids(name):
        found = rejected.find(job_id)
        if found:
            return RejectedMessage(job_id, found["id"], found["code"], found["reason"], found["message"])
    return None


def find_on_disk(outcomes: Outcomes, name: str) -> JobOnDisk | None:
    """Searched in failed/ first: of a job that failed and was then resolved, a kill may have left both files."""
    ids = _ids(name)
    for _, content in chain(outcomes.error_files(), outcomes.receipts()):
        if content["job_id"] in ids:
            return JobOnDisk(content["job_id"], content)
    return None


def not_found(name: str) -> click.ClickException:
    return click.ClickException(
        f"No job is known as {name}: search with `chartpost jobs`, or among the files in delivered/ and failed/."
    )


def _ids(name: str) -> list[str]:
    """The ids under which the ledger may know a job."""
    if _STREAM_ENTRY.fullmatch(name):
        # A message without a job_id opens the job of this UUID. One that gives a job_id has its entry's id as an alias.
        return [name, job_id_of(name)]
    with suppress(ValueError):
        return [str(UUID(name))]
    return [name]
