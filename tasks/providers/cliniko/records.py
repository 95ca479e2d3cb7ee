"""Cliniko's patient attachments as its API shows them, and what chartpost writes into them to know its own again.

Vendor page: https://docs.api.cliniko.com/openapi/reference/tag/Patient-Attachment/. Ids are text there and numbers in
older examples; nearly everything may be null.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, StrictBool

from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused
from tasks.model.job import Job
from tasks.model.route import Stage
from tasks.providers.pages import RecordId, whole

MAX_NAME = 100
MAX_DESCRIPTION = 255
_MAX_ORIGINAL = 120
_UNKNOWN_TYPE = "invalid/invalid"
_OF_NO_LETTER = "document"
_SENDABLE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")


class Attachment(BaseModel):
    """A record, as the API has it. Until it is processed, nothing is known of its file."""

    id_: RecordId
    processing_completed: StrictBool | None = None
    filename: Any = None
    size: Any = None
    content_type: Any = None
    description: Any = None
    created_at: Any = None
    processed_at: Any = None
    archived_at: Any = None
    links: Any = None

    model_config = {"alias_generator": lambda name: name.rstrip("_"), "populate_by_name": True}

    @property
    def id(self) -> str:
        return str(self.id_)

    @property
    def stage(self) -> Stage:
        """What it proves: only processing makes the upload a file in the chart."""
        return Stage.DELIVERED if self.processing_completed else Stage.REGISTERED

    def bears(self, token: str) -> bool:
        return isinstance(self.description, str) and token in self.description

    def shown(self, url: str, *, archived: bool) -> Mapping[str, Any]:
        """For people and programs: in our words, times as Cliniko writes them (ISO 8601, UTC), size in bytes."""
        return {
            "id": self.id,
            "file_name": self.filename,
            "description": self.description,
            "content_type": self.content_type,
            "size_bytes": whole(self.size),
            "created_at": self.created_at,
            "processed_at": self.processed_at,
            "processed": bool(self.processing_completed),
            "archived": archived,
            "url": url,
        }


# --- what chartpost writes -------------------------------------------------------------------------------------------


def sent_name(document: Document) -> str:
    """The name to upload under, which becomes the document's: letters without their accents, digits, `._-`.

    At most 100 characters, the ending kept. Cliniko's users have found spaces to break registering, and S3 puts the
    name into a key that must come back unchanged.
    """
    if _SENDABLE.fullmatch(document.file_name):
        return document.file_name
    plain = _plain(document.file_name)
    stem, _, ending = plain.rpartition(".")
    ending = ending.strip("_-")[: MAX_NAME // 2] if stem or plain.startswith(".") else ""
    stem = (stem if ending else plain).strip("._-") or _OF_NO_LETTER
    return f"{stem[: MAX_NAME - len(ending) - 1]}.{ending}" if ending else stem[:MAX_NAME]


def token(job: Job) -> str:
    """By what our record is known again: it follows from the job's id, so that it outlives every wipe."""
    return f"chartpost {sha256(job.id.encode()).hexdigest()[:12]}"


def description(job: Job) -> str:
    """The document's own description, its name where another had to be sent, and our token: 255 characters at most."""
    document, ours = job.document, f"({token(job)})"
    renamed = sent_name(document) != document.file_name
    name = _cut(_one_line(document.file_name), _MAX_ORIGINAL) if renamed else ""
    tail = " ".join(filter(None, (name, ours)))
    words = _one_line(document.description or "")
    room = MAX_DESCRIPTION - len(tail) - len(" · ")
    return f"{_cut(words, room)} · {tail}" if words else tail


def _plain(text: str) -> str:
    """Other characters become `_`, those next to each other one."""
    letters = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    bare = "".join(character for character in letters if not unicodedata.combining(character))
    return re.sub(r"[^A-Za-z0-9._-]+", "_", bare)


def _one_line(text: str) -> str:
    return " ".join("".join(" " if unicodedata.category(each)[0] == "C" else each for each in text).split())


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


# --- what a processed record must be ---------------------------------------------------------------------------------


def remarks(job: Job, attachment: Attachment, copies: int = 1) -> tuple[str, ...]:
    """What a person should look at, though the document has arrived."""
    said = []
    if attachment.content_type == _UNKNOWN_TYPE:
        said.append("Cliniko could not tell the file's type (invalid/invalid): check that it opens there.")
    if isinstance(attachment.filename, str) and _composed(attachment.filename) != _composed(sent_name(job.document)):
        said.append("Cliniko shows the document under another file name than it was sent with.")
    if attachment.processing_completed and whole(attachment.size) is None:
        said.append("Cliniko does not say how large the document is.")
    if copies > 1:
        said.append(f"Cliniko has {copies} records of this document: archive all but this one.")
    return tuple(said)


def fault(job: Job, attachment: Attachment) -> DocumentRefused | None:
    """A processed record of another size is not what was sent."""
    size = whole(attachment.size)
    if not attachment.processing_completed or size in (None, job.document.size_bytes):
        return None
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER,
        f"Cliniko's record has {size} bytes, and {job.document.size_bytes} were sent.",
        hint=f"Look at record {attachment.id} in the chart, archive it if it is damaged, then send the document again.",
    )


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
