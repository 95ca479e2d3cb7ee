"""What Ovok answers: forms, the list of documents, and what each status means.

Vendor pages: https://docs.ovok.com/dev/api/high-level/document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel, FailFast, StrictStr, StringConstraints

from tasks.http.exchange import Answer
from tasks.http.json_values import moment
from tasks.model.errors import Code, DocumentRefused
from tasks.model.names import composed
from tasks.providers.statuses import Meaning, StatusTable, blocked, locked_out, refused

NAME = "Ovok"

_SAME_MOMENT = timedelta(seconds=2)

_Id = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200)]


class UploadOptions(BaseModel):
    url: StrictStr
    fields: dict[StrictStr, StrictStr]


class Presigned(BaseModel):
    """A FileEntryDto as create and replace answer it. Its publicToken, which lets anyone read the file, is not read."""

    id: _Id
    uploadOptions: UploadOptions  # noqa: N815 (Ovok's name)


class Entry(BaseModel):
    """A FileEntryDto as the list has it. Any field but the id may be missing."""

    id: _Id
    fileName: Any = None  # noqa: N815 (Ovok's names)
    contentType: Any = None  # noqa: N815
    meta: Any = None
    lastUpdated: Any = None  # noqa: N815

    def is_of(self, name: str, media_type: str) -> bool:
        """Whether it has this file name and this media type, which is without parameters."""
        if not isinstance(self.fileName, str) or not isinstance(self.contentType, str):
            return False
        without_parameters = self.contentType.partition(";")[0].strip().lower()
        return composed(self.fileName) == composed(name) and without_parameters == media_type

    @property
    def changed_at(self) -> datetime | None:
        """The vendor's schema has it in `meta`, its example beside it."""
        inside = self.meta.get("lastUpdated") if isinstance(self.meta, dict) else None
        return moment(inside) or moment(self.lastUpdated)


class EntryList(BaseModel):
    # Not every fault of every entry: each costs more memory than the entry.
    resources: Annotated[list[Entry], FailFast()]
    total: Any = None

    @property
    def latest_first(self) -> bool:
        """Whether the entries that say when they were changed come in this order, give or take a moment."""
        return all(later <= earlier + _SAME_MOMENT for earlier, later in pairwise(self._changes))

    @property
    def tells_time(self) -> bool:
        """Whether any entry says when it was changed, so that `reaches` can tell; also if there is no entry."""
        return bool(self._changes) or not self.resources

    def reaches(self, since: datetime) -> bool:
        """Whether its last entries are older than that."""
        return bool(self._changes) and self._changes[-1] < since

    @property
    def _changes(self) -> Sequence[datetime]:
        return [entry.changed_at for entry in self.resources if entry.changed_at is not None]


# --- errors ----------------------------------------------------------------------------------------------------------


def no_such_document() -> DocumentRefused:
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER,
        "Ovok knows no document of the id that document_id gives.",
        hint="Check the id, and that this account may see the document; or leave document_id out to make a new one.",
    )


def words(answer: Answer) -> str:
    """Ovok's own words, for the error file only, without the tokens that may be among them."""
    return _TOKENS.sub("…", _PUBLIC_TOKEN.sub("…", answer.body[:65_536].decode(errors="replace")))


# It lets anyone read the file, whatever form it has.
_PUBLIC_TOKEN = re.compile(r'(?<="publicToken")\s*:\s*"[^"]*"?')
# A JWT (RFC 7519), and the query of a signed address.
_TOKENS = re.compile(r"[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*|(?<=\?)[A-Za-z0-9_%.~-]+=[^\s\"<>]*")

_UNACCEPTABLE = refused(
    "Ovok does not accept the file name or the media type.",
    "Check both; then send it again with a better name or content_type.",
    words,
)
# The pages name 200, 400, 401, 404, 422 and 500.
_LOCKED_OUT: Mapping[int, Meaning] = {
    401: locked_out("Ovok refused the token (401): check login, email, password and client_id of this account."),
    403: locked_out("Ovok refused access (403): check what the account's user may do, and base_url."),
}
_PRESIGN: Mapping[int, Meaning] = {
    **_LOCKED_OUT,
    400: _UNACCEPTABLE,
    422: _UNACCEPTABLE,
    413: refused("Ovok finds the document too large.", "Make the file smaller, or split it.", words),
}
CREATE_STATUSES = StatusTable(NAME, {**_PRESIGN, 404: blocked("Ovok answered 404 to a new document: check base_url.")})
REPLACE_STATUSES = StatusTable(NAME, {**_PRESIGN, 404: lambda _: no_such_document()})
READ_STATUSES = StatusTable(NAME, _LOCKED_OUT)
FHIR_STATUSES = StatusTable(
    f"{NAME}'s FHIR API",
    {
        **_LOCKED_OUT,
        403: locked_out(
            "Ovok does not let this account's user read patients and documents by its FHIR API (403): allow it, or set "
            "set_patient = false, and documents get no patient."
        ),
        404: blocked(
            "There is no FHIR API where it was asked (404), so documents could get no patient: check base_url and "
            "fhir_version of this account, or set set_patient = false."
        ),
    },
)
WRITE_STATUSES = StatusTable(
    f"{NAME}'s FHIR API",
    {
        **_LOCKED_OUT,
        403: locked_out(
            "Ovok does not let this account's user give documents their patient (403): allow its user to change "
            "DocumentReference, or set set_patient = false."
        ),
    },
)
