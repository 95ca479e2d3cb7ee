"""`job.json`: what a document in our care is, and what a look at the provider would need if Redis were wiped."""

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
    """A `job.json` is there and cannot be understood; the document beside it must be left for a human."""


@dataclass(frozen=True, slots=True)
class JobFile:
    """`disk_name` is the document's name as it came, which may hold surrogate escapes; `file_name` is what we send.

    `round` counts how often the job has been taken up again after it had failed: an error file of an earlier round
    tells nothing about this one. `refused` is why the document was refused before the job was even opened.
    `committed`: the last block of `committed_step`'s request may have left. `record_id` is the record that the provider
    has made for the document before it was uploaded.
    """

    job_id: str
    account: str
    patient_id: str | None
    file_name: str
    disk_name: str
    size_bytes: int
    received_at: AwareDatetime
    door: Door = Door.INBOX
    content_type: str | None = None
    description: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    callback_url: str | None = None
    round: int = 0
    refused: Failure | None = None
    committed: bool = False
    committed_step: Step = Step.POST
    record_id: str | None = None
    unknown_since: AwareDatetime | None = None
    snapshot: tuple[str, ...] | None = None
    key: str | None = None
    provider_facts: Mapping[str, Any] = field(default_factory=dict)
    sent_at: AwareDatetime | None = None
    version: Literal[1] = 1

    def document(self, path: Path) -> Document:
        """The document as a job knows it, lying at `path`; its identity is for whoever locates it to add.

        A patient's folder whose name is no text becomes text that is no id either: it is refused by whoever checks it.
        """
        return Document(
            account=self.account,
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
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: object) -> JobFile:
        """Raises JobFileDamaged."""
        try:
            return _adapter.validate_python(values)
        except ValidationError as error:
            faults = ", ".join(sorted({str(fault["loc"][0]) if fault["loc"] else "it" for fault in error.errors()}))
            raise JobFileDamaged(f"job.json is not what we write: {faults} cannot be understood") from None


def to_bytes(values: Mapping[str, Any]) -> bytes:
    """JSON for people to read. A byte of a name that is not UTF-8 becomes the escape of its surrogate."""
    return json.dumps(values, ensure_ascii=False, indent=2, default=_plain).encode("utf-8", "backslashreplace") + b"\n"


def from_bytes(content: bytes) -> dict[str, Any]:
    """What `to_bytes` wrote. Raises JobFileDamaged."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise JobFileDamaged("The file does not hold JSON") from error
    if not isinstance(values, dict):
        raise JobFileDamaged("The file does not hold a JSON object")
    return values


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


_adapter = TypeAdapter(JobFile)


def _known_by(error: Mapping[str, Any]) -> JobFile | None:
    """What an error file knows of its job, unless somebody has written another one."""
    with suppress(JobFileDamaged):
        return JobFile.from_json(error.get("job_file"))
    return None
