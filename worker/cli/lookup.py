"""Finding the job that somebody names: in the ledger, or by what it left on disk once it has left Redis."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, UUID, uuid5

import click

from tasks.folders.companions import Place
from tasks.model.job import Job
from tasks.model.route import Stage

if TYPE_CHECKING:
    from tasks.folders.layout import Folders
    from tasks.runtime import Runtime

_ENTRY = re.compile(r"\d+-\d+")


@dataclass(frozen=True, slots=True)
class Departed:
    """A job that has left Redis: its receipt or error file, and where that lies."""

    job_id: str
    place: Place | None
    content: Mapping[str, Any]

    @property
    def delivered(self) -> bool:
        return "record" in self.content

    def fields(self) -> dict[str, Any]:
        """As the public contract lists a job, as far as is known."""
        said, times = self.content, self.content.get("times") or {}
        ended_at = times.get(Stage.DELIVERED) if self.delivered else said.get("at")
        kept = said.get("job_file") or {}
        return {
            "id": self.job_id,
            "account": said.get("account"),
            "provider": said.get("provider"),
            "state": Stage.DELIVERED if self.delivered else said.get("state"),
            "code": said.get("code"),
            "message": said.get("message"),
            "patient_id": said.get("patient_id"),
            "file_name": said.get("file_name"),
            "size_bytes": said.get("size_bytes", kept.get("size_bytes")),
            "sha256": said.get("sha256"),
            "attempts": said.get("attempts"),
            "created_at": times.get(Stage.RECEIVED, kept.get("received_at")),
            "updated_at": ended_at,
            "next_at": None,
            "record_id": (said.get("record") or {}).get("id"),
            "assurance": said.get("assurance"),
        }


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message of the intake stream that became no job."""

    job_id: str
    entry: str
    code: str
    reason: str
    message: str

    def fields(self) -> dict[str, Any]:
        """As the public contract lists a job, as far as is known."""
        known = {"id": self.job_id, "state": Stage.FAILED, "code": self.code, "message": self.reason}
        return dict.fromkeys(Departed(self.job_id, None, {}).fields()) | known


def ids_of(name: str) -> list[str]:
    """The ids under which the ledger may know a job: a job's or call's id, or an entry of the intake stream."""
    if _ENTRY.fullmatch(name):
        return [name, str(uuid5(NAMESPACE_OID, name))]
    with suppress(ValueError):
        return [str(UUID(name))]
    return [name]


def find_job(runtime: Runtime, name: str) -> Job | None:
    found = (runtime.ledger.get(job_id) for job_id in ids_of(name))
    return next((job for job in found if job), None)


def find_rejected(runtime: Runtime, name: str) -> Rejected | None:
    """What the stream's rejected messages tell of it."""
    from worker.stream.build import rejected_stream

    rejected = rejected_stream(runtime)
    for job_id in ids_of(name):
        said = rejected.find(job_id)
        if said:
            return Rejected(job_id, said["id"], said["code"], said["reason"], said["message"])
    return None


def find_departed(folders: Folders, name: str) -> Departed | None:
    ids = ids_of(name)
    return next((departed for departed in all_departed(folders) if departed.job_id in ids), None)


def all_departed(folders: Folders) -> Iterator[Departed]:
    """What stands in failed/, then in delivered/; also of jobs that Redis still knows."""
    for place, content in folders.error_companions.all():
        yield Departed(content["job_id"], place, content)
    for place, content in folders.receipt_companions.all():
        yield Departed(content["job_id"], place, content)


def not_found(name: str) -> click.ClickException:
    return click.ClickException(
        f"No job is known as {name}: look with `chartpost jobs`, or among the files in delivered/ and failed/."
    )
