"""Documents to put into folders, and where they are afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.folders.claims import Claims
from tasks.folders.disk_names import clean
from tasks.folders.evidence import Evidence
from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.ledger.seal import Seal
from tasks.model.document import Document, Door
from tests.harness.keys import SEAL

JOB = "11111111-2222-4333-8444-555555555555"
OTHER_JOB = "99999999-2222-4333-8444-555555555555"
ACCOUNT, PATIENT = "north_clinic", "4711"
CONTENT = b"a referral"


def drop(folders: Folders, name: str = "referral.pdf", content: bytes = CONTENT) -> Path:
    """Put a file into the patient's inbox."""
    folder = folders.inbox / ACCOUNT / PATIENT
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def job_file(path: Path, job_id: str = JOB, **fields: Any) -> JobFile:
    """The job.json of a document of the inbox. `fields` are its own, or those of the document."""
    document = Document(ACCOUNT, PATIENT, "", clean(path.name), path.lstat().st_size, door=Door.INBOX)
    of_the_document = {name: fields.pop(name) for name in [*fields] if hasattr(document, name)}
    document = replace(document, **of_the_document)
    own: dict[str, Any] = {"job_id": job_id, "disk_name": path.name, "received_at": datetime.now(UTC)} | fields
    return JobFile(document=document, **own)


def claim(folders: Folders, path: Path, job_id: str = JOB, **fields: Any) -> Path:
    return Claims(folders).claim(path, job_id, job_file(path, job_id, **fields))


def receipt(job_id: str = JOB, name: str = "referral.pdf") -> dict[str, Any]:
    return {"job_id": job_id, "account": ACCOUNT, "patient_id": PATIENT, "file_name": name}


def error(job_id: str = JOB, name: str = "referral.pdf", **fields: str | bool) -> dict[str, Any]:
    return {**receipt(job_id, name), "state": "failed", "code": "refused_by_provider", "final": True, **fields}


def said(companion: Path) -> dict[str, Any]:
    """What a companion file says."""
    values = json.loads(companion.read_bytes())
    assert isinstance(values, dict)
    return values


def opened(companion: Path, seal: Seal = SEAL) -> dict[str, Any]:
    """What an error file says, with job.json as an object, as earlier versions wrote it."""
    return Evidence(seal).opened(said(companion))


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too: name -> content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def copies(folders: Folders, content: bytes = CONTENT) -> list[Path]:
    """Where the document lies, under whatever name."""
    trees = (folders.inbox, folders.processing, folders.delivered, folders.failed)
    # rglob does not enter a folder that is itself a link
    found = (path for tree in trees for path in tree.resolve().rglob("*"))
    return [path for path in found if path.is_file() and path.read_bytes() == content]
