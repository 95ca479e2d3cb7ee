"""Finding the job that an argument names: in the ledger, among rejected messages, or in delivered/ and failed/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from tasks.ledger.ledger import Ledger
from tasks.model.job import Job
from tasks.model.route import Stage
from worker.stream.messages import former_job_id_of
from worker.stream.rejected import RejectedStream

if TYPE_CHECKING:  # what is on disk is looked at last, and seldom
    from tasks.folders.outcomes import Outcomes

# An entry of the shared stream, or of a producer's own: 1763711999000-0, or lab:1763711999000-0.
_STREAM_ENTRY = re.compile(r"([a-z][a-z0-9_]*:)?(\d+-\d+)")

# The fields of a job in the order of the public contract, for those of which only a part is known.
_UNKNOWN_FIELDS: Mapping[str, Any] = dict.fromkeys(
    (
        *(
            "id",
            "account",
            "producer",
            "provider",
            "state",
            "code",
            "message",
            "patient_id",
            "file_name",
            "size_bytes",
            "sha256",
        ),
        *("attempts", "created_at", "updated_at", "next_at", "record_id", "assurance"),
    )
)


@dataclass(frozen=True, slots=True)
class JobOnDisk:
    """A job that has left Redis, by what its receipt or error file says."""

    job_id: str
    content: Mapping[str, Any]
    # It bears our signature. What does not was edited, moved, written by someone else or by an earlier version.
    believed: bool = True

    @property
    def delivered(self) -> bool:
        """True if it is a receipt; of one that is not believed, that somebody says so."""
        return "record" in self.content

    def fields(self) -> dict[str, Any]:
        """As the public contract lists a job; what neither file holds is None."""
        content, times = self.content, self.content.get("times") or {}
        job_file = content.get("job_file")  # an error file holds job.json too
        job_file = job_file if isinstance(job_file, dict) else {}
        record = content.get("record")
        times = times if isinstance(times, dict) else {}
        same_name = {name: content[name] for name in _UNKNOWN_FIELDS if name in content}
        return {
            **_UNKNOWN_FIELDS,
            "size_bytes": job_file.get("size_bytes"),
            **same_name,
            "id": self.job_id,
            "state": (Stage.DELIVERED if self.believed else None) if self.delivered else content.get("state"),
            "created_at": times.get(Stage.RECEIVED, job_file.get("received_at")),
            "updated_at": times.get(Stage.DELIVERED) if self.delivered else content.get("at"),
            "record_id": record.get("id") if isinstance(record, dict) else None,
        }


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """A message of the intake stream that became no job."""

    job_id: str
    entry_id: str
    code: str
    reason: str
    # Its beginning; the size and SHA-256 of the whole, empty if an earlier version has rejected it.
    message: str
    size_bytes: str
    sha256: str

    def fields(self) -> dict[str, Any]:
        """As the public contract lists a job."""
        known = {"id": self.job_id, "state": Stage.FAILED, "code": self.code, "message": self.reason}
        return {**_UNKNOWN_FIELDS, **known}


def find_job(ledger: Ledger, name: str) -> Job | None:
    """`name` is a job's id, the id of a Celery call, or that of a stream entry."""
    entry = _STREAM_ENTRY.fullmatch(name)
    if not entry:
        # A caller may have written its task's id in capitals, which is another id then.
        return ledger.get(name) or ledger.get(as_job_id(name))
    # A message without a job_id opens the job of this id. One that gives a job_id has its entry's name as an alias.
    for job_id in (name, ledger.seal.entry_job_id(name)):
        if job := ledger.get(job_id):
            return job
    former = None if entry[1] else ledger.get(former_job_id_of(name))
    # Everybody could tell that id, and give it to another message.
    return former if former and former.document.stream_id == name else None


def find_rejected(rejected: RejectedStream, name: str) -> RejectedMessage | None:
    entry = _STREAM_ENTRY.fullmatch(name)
    ids = [rejected.seal.entry_job_id(name), former_job_id_of(name)] if entry else [name, as_job_id(name)]
    for job_id in ids:
        found = rejected.find(job_id)
        if found and (not entry or found["id"] == entry[2]):
            kept = found["id"], found["code"], found["reason"], found["message"]
            return RejectedMessage(job_id, *kept, found.get("size_bytes", ""), found.get("sha256", ""))
    return None


def find_on_disk(outcomes: Outcomes, name: str) -> JobOnDisk | None:
    """Searched in failed/ first: of a job that failed and was then resolved, a kill may have left both files.

    A file that is not believed is given only if there is no other.
    """
    job_id, not_believed = as_job_id(name), None
    for closed in chain(outcomes.error_files(), outcomes.receipts()):
        if closed.content["job_id"] in (name, job_id):
            found = JobOnDisk(closed.content["job_id"], closed.content, closed.believed)
            if closed.believed:
                return found
            not_believed = not_believed or found
    return not_believed


class JobNotFound(click.ClickException):
    """No job fits an argument."""


def not_found(name: str) -> JobNotFound:
    search = "search with `chartpost jobs`, or among the files in delivered/ and failed/."
    if re.fullmatch(r"\d+-\d+", name):
        search = f"if it is an entry of a producer's own stream, write NAME:{name}; else {search}"
    return JobNotFound(f"No job is known as {name}: {search}")


def as_job_id(name: str) -> str:
    """A job's id as the ledger writes it."""
    with suppress(ValueError):
        return str(UUID(name))
    return name
