"""`job.json`: what a document in our care is, and what a search at the provider needs if Redis is wiped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from tasks.model.document import Document, Door
from tasks.model.job import Failure
from tasks.model.route import Step


class JobFileDamaged(OSError):
    """A `job.json` that cannot be understood. Leave the document beside it to a person.

    An OSError, since callers treat it as any other file that cannot be read.
    """


@dataclass(frozen=True, slots=True)
class JobFile:
    """The fields of `job.json`. Unknown ones are ignored when it is read: earlier versions wrote others."""

    job_id: str
    account: str
    # The name of the patient's folder as it was found. It may not be UTF-8; then it holds surrogate escapes.
    patient_id: str | None
    # The name that the provider is given.
    file_name: str
    # The name as it came, which the file keeps in delivered/ or failed/. It may hold surrogate escapes, too.
    disk_name: str
    size_bytes: int
    received_at: AwareDatetime
    door: Door = Door.INBOX
    content_type: str | None = None
    description: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    callback_url: str | None = None
    as_it_is: bool = False
    # How often the job was taken up again after it had failed. An error file of an earlier round does not end this one.
    round: int = 0
    # In a staged copy: the machine that has staged it.
    home: str | None = None
    # The document's name in the chart as the account's name pattern found it in the name of the file.
    name_by_pattern: str | None = None
    # The file lay in inbox/<account>/ itself, though its name told the patient: its sidecar belongs there too.
    in_account_folder: bool = False
    # Why the document was refused even before its job was opened.
    refused: Failure | None = None
    # The document changed after it was sent, and becomes a job of its own: `set_aside`.
    set_aside: bool = False

    # --- the commit: written before the last block of a creating request leaves ---

    # The last block of the request of `committed_step` may have left: the provider may have the document.
    committed: bool = False
    committed_step: Step = Step.POST
    # The document's identity when it was sent; None if it may have another one since, and be the same.
    sent_identity: str | None = None
    # The record that the provider made for this document before it was uploaded.
    record_id: str | None = None
    # When the commit was noted, or the last one that was searched for.
    unknown_since: AwareDatetime | None = None
    # As in the job's `Facts`: the records that the patient had before, the S3 key, what the provider itself needs, and
    # what the receipt says of the content.
    snapshot: tuple[str, ...] | None = None
    key: str | None = None
    provider_facts: Mapping[str, Any] = field(default_factory=dict)
    content_remarks: tuple[str, ...] = ()

    # Of the format. A version that is not known here may mean something else by the same fields: the file is damaged.
    version: Literal[1] = 1

    def document(self, path: Path) -> Document:
        """The document as a job knows it, for a file at `path`. Its identity is empty until it is located."""
        return Document(
            account=self.account,
            # A name that is not UTF-8 becomes text that no patient's id matches, and so is refused when it is checked.
            patient_id=self.patient_id and os.fsencode(self.patient_id).decode(errors="replace"),
            source=path.absolute().as_uri(),
            file_name=self.file_name,
            size_bytes=self.size_bytes,
            door=self.door,
            content_type=self.content_type,
            description=self.description,
            options=self.options,
            idempotency_key=self.idempotency_key,
            callback_url=self.callback_url,
            as_it_is=self.as_it_is,
            round=self.round,
        )

    def to_json(self) -> dict[str, Any]:
        """As `to_bytes` takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> JobFile:
        """Raises JobFileDamaged, which names the fields and not their values."""
        try:
            return _adapter.validate_python(values)
        except ValidationError as error:
            faults = ", ".join(sorted({str(fault["loc"][0]) if fault["loc"] else "it" for fault in error.errors()}))
            # Without the cause: its words hold the values, which may be a patient's.
            raise JobFileDamaged(f"job.json is not what we write: {faults} cannot be understood") from None


COMMIT_FIELDS = (
    *("committed", "committed_step", "record_id", "unknown_since"),
    *("snapshot", "key", "provider_facts"),
)
"""What job.json tells of the last commit."""

_adapter = TypeAdapter(JobFile)


def to_bytes(values: Mapping[str, Any]) -> bytes:
    """The JSON of a job.json, a receipt or an error file, indented for people."""
    text = json.dumps(values, ensure_ascii=False, indent=2, default=datetime.isoformat)
    # Bytes of a name that are not UTF-8 are surrogates here; as \udcXX, which JSON knows, any program can read them.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def from_bytes(content: bytes) -> dict[str, Any]:
    """What `to_bytes` wrote. Raises JobFileDamaged."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise JobFileDamaged("The file does not hold JSON") from error
    if not isinstance(values, dict):
        raise JobFileDamaged("The file does not hold a JSON object")
    return values


def job_file_in(error_file: Mapping[str, Any]) -> JobFile | None:
    """The job.json that an error file carries; None if it was edited or replaced by hand."""
    with suppress(JobFileDamaged):
        return JobFile.from_json(error_file.get("job_file"))
    return None


def round_of(companion: Mapping[str, Any]) -> int:
    """The round of its job that a receipt or an error file tells of; receipts do not carry it, and count as 0."""
    job_file = companion.get("job_file")
    number = job_file.get("round") if isinstance(job_file, dict) else 0
    return number if isinstance(number, int) else 0
