"""`job.json`: what a document in our care is, and what a search at the provider needs if Redis is wiped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, TypeAdapter, ValidationError

from config.version import own_version, written_by_newer
from tasks.model.document import Document, Door, Place
from tasks.model.job import Failure
from tasks.model.route import Step
from tasks.sources.entries import one_name


class JobFileDamaged(OSError):
    """A `job.json` that cannot be understood. Leave the document beside it to a person.

    An OSError, since callers treat it as any other file that cannot be read.
    """


class JobFileTooNew(OSError):
    """A `job.json` of a newer version. Leave everything as it is: that version goes on with it.

    An OSError for the same reason. Not a JobFileDamaged: nothing may be done without what it says.
    """


SCHEMA: Final = 1
"""Of job.json. Raise it when an earlier version would misread a field, or must not go on without a new one.

A new field that earlier versions may leave out needs no other number. Absent: a version before the numbers wrote it.
"""


@dataclass(frozen=True, slots=True)
class Commit:
    """The last commit, as written before the last block of a creating request leaves: what a search for it needs.

    In the file its fields stand among the others, some under other names: `_NAMES_IN_THE_FILE`.
    """

    # The last block of the request of `step` may have left: the provider may have the document.
    stands: bool = False
    step: Step = Step.POST
    # The record that the provider made for this document before it was uploaded.
    record_id: str | None = None
    # When the commit was noted, or the last one that was searched for.
    noted_at: AwareDatetime | None = None
    # As in the job's `Facts`: the records that the patient had before, the S3 key, and what the provider itself needs.
    snapshot: tuple[str, ...] | None = None
    key: str | None = None
    provider_facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobFile:
    """What `job.json` says. In the file all of it is flat: `_NAMES_IN_THE_FILE`.

    Unknown fields are ignored when it is read: earlier versions wrote others.
    """

    job_id: str
    # What must be delivered; `document_at` adds where it lies. Its patient_id is the name of the patient's folder as it
    # was found, which may not be UTF-8; then it holds surrogate escapes. Its home is set in a staged copy alone.
    document: Document
    # The name as it came, which the file keeps in delivered/ or failed/. It may hold surrogate escapes, too. A path of
    # several parts is not one: what was written by someone else must not lead to another folder.
    disk_name: Annotated[str, AfterValidator(one_name)]
    received_at: AwareDatetime
    # The document's name in the chart as the account's name pattern found it in the name of the file.
    name_by_pattern: str | None = None
    # The file lay in inbox/<account>/ itself, though its name told the patient: its sidecar belongs there too.
    in_account_folder: bool = False
    # Why the document was refused even before its job was opened.
    refused: Failure | None = None
    # The document changed after it was sent, and becomes a job of its own: `set_aside`.
    set_aside: bool = False

    # --- what was sent ---
    commit: Commit = Commit()
    # The document's identity when it was sent; None if it may have another one since, and be the same.
    sent_identity: str | None = None
    # As in the job's `Facts`: what the receipt says of the content.
    content_remarks: tuple[str, ...] = ()

    # The number of SCHEMA, under the name that it has always had in the file.
    version: Literal[1] = SCHEMA

    @property
    def committed(self) -> bool:
        """True if the document may have been sent."""
        return self.commit.stands

    def with_document(self, **changes: Any) -> JobFile:
        """The same with a document of which these fields are changed."""
        return replace(self, document=replace(self.document, **changes))

    def with_commit(self, **changes: Any) -> JobFile:
        """The same with a commit of which these fields are changed."""
        return replace(self, commit=replace(self.commit, **changes))

    def document_at(self, path: Path) -> Document:
        """The document as a job knows it, for a file at `path`. Its identity is empty until it is located."""
        patient_id = self.document.patient_id
        return replace(
            self.document,
            # A name that is not UTF-8 becomes text that no patient's id matches, and so is refused when it is checked.
            patient_id=patient_id and os.fsencode(patient_id).decode(errors="replace"),
            source=path.absolute().as_uri(),
            place=Place.FOLDER,
        )

    def to_json(self) -> dict[str, Any]:
        """As `to_bytes` takes it."""
        values: dict[str, Any] = {}
        for name, value in asdict(self).items():
            names = _NAMES_IN_THE_FILE.get(name)
            values |= {written: value[inner] for inner, written in names.items()} if names else {name: value}
        return {**values, "written_by": own_version()}

    @classmethod
    def from_json(cls, values: object) -> JobFile:
        """Raises JobFileTooNew; and JobFileDamaged, which names the fields and not their values."""
        if isinstance(values, dict) and isinstance(schema := values.get("version"), int) and schema > SCHEMA:
            raise JobFileTooNew(written_by_newer("job.json", schema, SCHEMA, values.get("written_by")))
        try:
            return _adapter.validate_python(_in_parts(values) if isinstance(values, dict) else values)
        except ValidationError as error:
            faults = ", ".join(sorted({_field(fault["loc"]) for fault in error.errors()}))
            # Without the cause: its words hold the values, which may be a patient's.
            raise JobFileDamaged(f"job.json is not what we write: {faults} cannot be understood") from None


_OF_THE_DOCUMENT = (
    "account",
    "patient_id",
    "file_name",
    "size_bytes",
    "door",
    "content_type",
    "description",
    "options",
    "idempotency_key",
    "callback_url",
    "as_it_is",
    "round",
    "home",
)
_RENAMED_OF_THE_COMMIT = {"stands": "committed", "step": "committed_step", "noted_at": "unknown_since"}

_NAMES_IN_THE_FILE: Final[Mapping[str, Mapping[str, str]]] = {
    "document": {name: name for name in _OF_THE_DOCUMENT},
    "commit": {each.name: _RENAMED_OF_THE_COMMIT.get(each.name, each.name) for each in fields(Commit)},
}
"""The parts of a JobFile, whose fields stand in the file among its own: field -> its name there.

Earlier versions read and wrote these names. The document's other fields are neither written nor read: a file that
others may have edited must not name another source or producer.
"""
_IF_ABSENT: Final = {"source": "", "door": Door.INBOX}
"""What the document has where the file says nothing of it."""

_adapter = TypeAdapter(JobFile)


def _in_parts(values: Mapping[str, Any]) -> dict[str, Any]:
    """The flat values of the file, and beside them the parts that a JobFile has. It ignores what it does not know."""
    parts = {
        part: {name: values[written] for name, written in names.items() if written in values}
        for part, names in _NAMES_IN_THE_FILE.items()
    }
    return {**values, **parts, "document": {**_IF_ABSENT, **parts["document"]}}


def _field(path: tuple[int | str, ...]) -> str:
    """The name in the file of the field where pydantic has found a fault."""
    outer, inner = (*path, "", "")[:2]
    return _NAMES_IN_THE_FILE.get(str(outer), {}).get(str(inner), str(outer)) or "it"


def is_job_id(text: object) -> bool:
    """True for a UUID in lower case and with hyphens, as we write them."""
    with suppress(ValueError):
        return isinstance(text, str) and str(UUID(text)) == text
    return False


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
    """The job.json that an error file carries; None if it was edited or replaced by hand. Raises JobFileTooNew."""
    with suppress(JobFileDamaged):
        return JobFile.from_json(error_file.get("job_file"))
    return None


def round_of(companion: Mapping[str, Any]) -> int:
    """The round of its job that a receipt or an error file tells of; receipts do not carry it, and count as 0."""
    job_file = companion.get("job_file")
    number = job_file.get("round") if isinstance(job_file, dict) else 0
    return number if isinstance(number, int) else 0
