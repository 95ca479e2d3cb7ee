"""TODO"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tasks.folders.job_folder import JobFolder
from tasks.folders.job_json import JobFile


def _readable(job: JobFolder) -> JobFile | None:
    with suppress(OSError):
        return job.read()
    return None


def _folder_of(job: JobFolder, patient_id: str | None) -> str | None:
    """The patient's folder as it was found: it may be no text, and then the job knows another."""
    job_file = _readable(job)
    return job_file.patient_id if job_file else patient_id


def _existing(path: Path | None) -> Path | None:
    return path if path is not None and path.exists() else None
