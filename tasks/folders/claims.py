"""TODO"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any

from tasks.folders.companions import Place, round_of
from tasks.folders.disk_names import clean
from tasks.folders.durable import ChangedMeanwhile, FileIdentity
from tasks.folders.job_json import JobFile, _known_by
from tasks.model.errors import Code


class AlreadyInCare(Exception):
    """The job has a document in our care already."""


@dataclass(frozen=True, slots=True)
class ClaimedDocument:
    """A document in our care, and the sidecar that came with it."""

    job_id: str
    job_file: JobFile
    document: Path
    sidecar: Path | None


@dataclass(frozen=True, slots=True)
class Damaged:
    """A folder in our care that cannot be understood or settled; it is left for a human. `reason` is safe for logs."""

    job_id: str
    reason: str


def _same_file(path: Path, seen: FileIdentity | None) -> FileIdentity:
    """The file's identity. Raises ChangedMeanwhile if it is another than was seen, or no regular file."""
    status = path.lstat()
    identity = FileIdentity.of(status)
    if not S_ISREG(status.st_mode) or identity != (seen or identity):
        raise ChangedMeanwhile("Under this name there is another file than was looked at.")
    return identity


def _carried_over(job_file: JobFile, error: Mapping[str, Any]) -> JobFile:
    """With what the error file of an earlier round knows of what was sent."""
    earlier = _known_by(error)
    if earlier is None:
        return replace(job_file, round=round_of(error) + 1, committed=_perhaps_sent(error)) if error else job_file
    return replace(
        job_file,
        round=earlier.round + 1,
        committed=earlier.committed,
        committed_step=earlier.committed_step,
        record_id=earlier.record_id,
        unknown_since=earlier.unknown_since,
        snapshot=earlier.snapshot,
        key=earlier.key,
        provider_facts=earlier.provider_facts,
        sent_at=earlier.sent_at,
    )


def _reopened(job_id: str, account: str, patient_id: str | None, failed: Place, error: Mapping[str, Any]) -> JobFile:
    """A failed document's job.json of the next round; made anew if its error file does not hold one."""
    name, size_bytes = failed.document.name, failed.document.stat().st_size
    earlier = _known_by(error)
    if earlier:
        return replace(earlier, job_id=job_id, size_bytes=size_bytes, round=earlier.round + 1, refused=None)
    file_name = str(error.get("file_name") or clean(name))
    made = JobFile(job_id, account, patient_id, file_name, name, size_bytes, received_at=datetime.now(UTC))
    return replace(made, round=round_of(error) + 1, committed=_perhaps_sent(error))


def _perhaps_sent(error: Mapping[str, Any]) -> bool:
    return error.get("code") in (Code.NOT_CONFIRMED, Code.OUTCOME_UNKNOWN)


def _with_size(job_file: JobFile, document: Path) -> JobFile:
    """With the size on disk, unless a document of the noted size may have been sent already."""
    return job_file if job_file.committed else replace(job_file, size_bytes=document.stat().st_size)


def _inbox_path(inbox: Path, job_file: JobFile, ending: str) -> Path:
    folder = inbox / job_file.account
    return (folder / job_file.patient_id if job_file.patient_id else folder) / (job_file.disk_name + ending)


def _reason(error: Exception) -> str:
    """What is wrong, without the paths that an OSError tells."""
    if isinstance(error, FileNotFoundError):
        return "job.json is missing"
    if isinstance(error, OSError) and error.errno:
        return errno.errorcode.get(error.errno, "OSError")
    return str(error)
