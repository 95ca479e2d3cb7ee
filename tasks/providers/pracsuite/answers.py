"""What PracSuite answers: forms, lists, records, and what each status means.

Vendor pages: https://docs.api.pracsuite.com/openapi/patient-attachment. What they leave open (the name of the list's
array, ids as numbers or text, a record's name) is tolerated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, StrictStr, ValidationError

from tasks.http.api import not_understood, parse_answer
from tasks.http.exchange import Answer
from tasks.http.json_values import whole_number
from tasks.model.errors import About
from tasks.providers.pages import RecordId
from tasks.providers.statuses import StatusTable, locked_out, refused

NAME = "PracSuite"


class Presigned(BaseModel):
    url: StrictStr
    fields: dict[StrictStr, StrictStr]


class Download(BaseModel):
    """Where a record's file lies for some minutes, and its name. The address opens the file for whoever has it."""

    file_name: StrictStr | None
    url: Any = None


class AttachmentPage(BaseModel, extra="allow"):
    """A page of a list; its records are in one of the extra fields."""

    total_entries: Any = None
    links: Any = None


class Attachment(BaseModel):
    """A Patient Attachment record. Any field but the id may be missing or of an unexpected type."""

    attachment_client_id: RecordId
    file_size: Any = None
    file_name: Any = None
    name: Any = None
    client_id: Any = None
    user_id: Any = None
    file_date: Any = None
    file_type: Any = None
    description: Any = None
    links: Any = None

    @property
    def id(self) -> str:
        return str(self.attachment_client_id)

    @property
    def size(self) -> int | None:
        """In bytes; None where the record does not say, in digits."""
        return whole_number(self.file_size)


def bare(record_id: str, size: int | None) -> Attachment:
    """A record that was listed before: only this is kept of it."""
    return Attachment(attachment_client_id=record_id, file_size=size)


def attachments_in(fields: Mapping[str, object]) -> Sequence[Attachment]:
    """The one top-level value that is a list of objects, whatever its name.

    The reference has another name for each list (`attachment_client_folders`, `items`) and none for this one.
    """
    arrays = [value for value in fields.values() if isinstance(value, list)]
    filled = [array for array in arrays if array and all(isinstance(item, dict) for item in array)]
    if len(filled) > 1 or not arrays or (not filled and any(arrays)):
        raise not_understood(NAME, f"{len(filled) or 'no'} lists of records in one answer")
    try:
        return [Attachment.model_validate(item) for item in (filled[0] if filled else ())]
    except ValidationError:
        raise not_understood(NAME, "records without attachment_client_id") from None


class ErrorBody(BaseModel):
    """As the reference has it for every error: `{"error": {"status", "code", "detail"}, "request_id"}`."""

    class Error(BaseModel):
        code: Any = ""
        detail: Any = ""

    error: Error
    request_id: Any = ""


def check_error(answer: Answer) -> None:
    """Raises AccountBlocked unless it is an error in PracSuite's form: every server answers 404 to some address."""
    if not parse_answer(answer, ErrorBody, NAME).error.code:
        raise not_understood(NAME, "an error without a code", never_the_document=True)


def words(answer: Answer) -> str:
    """PracSuite's own words, for the error file only."""
    try:
        body = ErrorBody.model_validate_json(answer.body[:65_536])
    except ValidationError:
        return ""
    return f"{body.error.code}: {body.error.detail} {body.request_id}".strip()


_UNACCEPTABLE = refused(
    "PracSuite does not accept the patient id or the file name.",
    "Check both, then send it again with a better one.",
    words,
)

# By the status alone: in the example of a 401 at https://docs.api.pracsuite.com the body says 403.
_MEANINGS = {
    400: _UNACCEPTABLE,
    409: _UNACCEPTABLE,
    413: _UNACCEPTABLE,
    422: _UNACCEPTABLE,
    401: locked_out("PracSuite refused the keys (401): check vendor_api_key and api_key of this account."),
    # As AWS words a wrong path too: "the requested endpoint does not exist".
    403: locked_out(
        "PracSuite refused access (403): check the keys, the permissions of the clinic's key, and base_url."
    ),
}
STATUSES = StatusTable(
    NAME,
    {
        **_MEANINGS,
        404: refused(
            "PracSuite knows no such patient.",
            "Check the patient id: it must be the one that PracSuite's addresses show.",
            words,
            About.PATIENT,
        ),
    },
)
_NO_SUCH_RECORD = refused(
    "PracSuite knows no such record, or it has no file.",
    "Check the id: it is the one in the document's receipt; and whether it is this account's.",
    words,
)
RECORD_STATUSES = StatusTable(NAME, {**_MEANINGS, 400: _NO_SUCH_RECORD, 404: _NO_SUCH_RECORD})
"""For calls that name a record and no patient."""
