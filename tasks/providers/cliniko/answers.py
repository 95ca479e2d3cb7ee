"""What Cliniko answers: its records, what a processed one must be, and what each status means.

Vendor page: https://docs.api.cliniko.com/openapi/reference/tag/Patient-Attachment/. Nearly every field may be null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, FailFast, StrictBool, StrictStr, ValidationError

from tasks.http.api import not_understood, parse_answer
from tasks.http.exchange import Answer
from tasks.http.json_values import whole_number
from tasks.model.errors import About, Code, DocumentRefused
from tasks.model.job import Form, Job
from tasks.model.names import composed
from tasks.model.route import Stage
from tasks.providers.cliniko.naming import sent_name
from tasks.providers.pages import RecordId
from tasks.providers.statuses import StatusTable, blocked, locked_out, refused

NAME = "Cliniko"

_THROTTLED_SECONDS = 60.0  # the limit is one of a minute
_UNKNOWN_TYPE = "invalid/invalid"  # https://github.com/redguava/cliniko-api/issues/348


class Presigned(BaseModel):
    url: StrictStr | None
    fields: dict[StrictStr, StrictStr] | None = {}


def form_in(answer: Answer) -> Form | None:
    """The upload form; None if there is none yet.

    The reference has the whole answer as nullable, and `url` and `fields` too
    (https://docs.api.cliniko.com/openapi/reference/tag/Patient-Attachment/, AttachmentPresignedPost).
    """
    if answer.body.strip() == b"null":
        return None
    presigned = parse_answer(answer, Presigned, NAME)
    if not presigned.url or presigned.fields is None:
        return None
    if not presigned.fields:
        raise not_understood(NAME, "an upload form without fields")
    return Form(presigned.url, presigned.fields)


# --- records ---------------------------------------------------------------------------------------------------------


class Attachment(BaseModel):
    """A record. Until it is processed, nothing is known of its file."""

    # Text in the current reference, a number in older examples (https://github.com/redguava/cliniko-api).
    id_: RecordId
    processing_completed: StrictBool | None = None
    filename: Any = None
    size: Any = None
    content_type: Any = None
    description: Any = None
    created_at: Any = None
    updated_at: Any = None
    processed_at: Any = None
    pinned_at: Any = None
    archived_at: Any = None
    patient: Any = None
    user: Any = None
    content: Any = None
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


class AttachmentList(BaseModel):
    # Not every fault of every record: each costs more memory than the record.
    patient_attachments: Annotated[list[Attachment], FailFast()]
    total_entries: Any = None
    links: Any = None


def remarks(job: Job, attachment: Attachment, copies: int = 1) -> tuple[str, ...]:
    """What a person should check in the chart, though the document has arrived."""
    sentences = []
    if attachment.content_type == _UNKNOWN_TYPE:
        sentences.append("Cliniko could not tell the file's type (invalid/invalid): check that it opens there.")
    if isinstance(attachment.filename, str) and composed(attachment.filename) != composed(sent_name(job.document)):
        sentences.append("Cliniko shows the document under another file name than it was sent with.")
    if attachment.processing_completed and whole_number(attachment.size) is None:
        sentences.append("Cliniko does not say how large the document is.")
    if copies > 1:
        sentences.append(f"Cliniko has {copies} records of this document: archive all but this one.")
    return tuple(sentences)


def fault(job: Job, attachment: Attachment) -> DocumentRefused | None:
    """A processed record of another size is not what was sent."""
    size = whole_number(attachment.size)
    if not attachment.processing_completed or size in (None, job.document.size_bytes):
        return None
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER,
        f"Cliniko's record has {size} bytes, and {job.document.size_bytes} were sent.",
        hint=f"Look at record {attachment.id} in the chart, archive it if it is damaged, then send the document again.",
    )


# --- errors ----------------------------------------------------------------------------------------------------------


class _ErrorBody(BaseModel):
    message: Any = ""
    errors: Any = None

    @classmethod
    def of(cls, answer: Answer) -> _ErrorBody:
        try:
            return cls.model_validate_json(answer.body[:65_536])
        except ValidationError:
            return cls()

    @property
    def by_field(self) -> Mapping[str, object]:
        return self.errors if isinstance(self.errors, dict) else {}


def words(answer: Answer) -> str:
    """Cliniko's own words, for the error file only."""
    body = _ErrorBody.of(answer)
    by_field = [f"{name} {what}" for name, what in body.by_field.items()]
    return "; ".join(filter(None, [str(body.message or ""), *by_field]))


def refused_fields(answer: Answer) -> set[str]:
    """The fields that a 422 finds at fault."""
    return set(_ErrorBody.of(answer).by_field) if answer.status == 422 else set()


def no_such_record() -> DocumentRefused:
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER,
        "Cliniko knows no such record.",
        hint="Check the id: it is the one in the document's receipt; and whether it is this account's.",
    )


def upload_not_found(answer: Answer) -> DocumentRefused:
    """It refuses the upload alone, a second one too: neither the patient nor the description is at fault."""
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER,
        "Cliniko does not find the uploaded file, though the storage said twice that it has stored it.",
        hint="Check whether a web filter or proxy stands between chartpost and the storage, then retry.",
        detail=words(answer)[:2000],
    )


_UNACCEPTABLE = refused(
    "Cliniko does not accept the document.",
    "Read Cliniko's own words in the detail; check the patient id and the description, then retry.",
    words,
)
_MEANINGS = {
    400: _UNACCEPTABLE,
    409: _UNACCEPTABLE,
    413: _UNACCEPTABLE,
    422: _UNACCEPTABLE,
    401: locked_out("Cliniko refused the key (401): check api_key, and that its user is still active."),
    402: blocked("Cliniko asks for payment (402): check the subscription of this account."),
    # Callers without a mail address in User-Agent may be blocked: https://docs.api.cliniko.com/developer-portal
    403: locked_out(
        "Cliniko refused access (403): check what the key's user may do, and that contact is a name and a mail address."
    ),
}
ACCOUNT_STATUSES = StatusTable(NAME, _MEANINGS, throttled_seconds=_THROTTLED_SECONDS)
"""For calls that name no patient."""
PATIENT_STATUSES = StatusTable(
    NAME,
    {
        **_MEANINGS,
        404: refused(
            "Cliniko knows no such patient.",
            "Check the patient id: it must be the one that Cliniko's addresses show, and of this account's shard.",
            words,
            About.PATIENT,
        ),
    },
    throttled_seconds=_THROTTLED_SECONDS,
)
