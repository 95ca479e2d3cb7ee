"""What a document's `options` may say of it, for a FHIR server."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from config.types import OptionalReference
from tasks.model.document import Document
from tasks.model.errors import About, DocumentRefused, invalid_request
from tasks.providers.fhir import is_text

_METADATA = "metadata"


def _moment(value: str) -> str:
    if not re.fullmatch(r"\d{4}(-\d\d(-\d\d(T.+)?)?)?", value):
        raise ValueError("not a date")
    if "T" in value and datetime.fromisoformat(value).tzinfo is None:
        raise ValueError("a time without its zone")
    datetime.fromisoformat(value if len(value) > 7 else value + "-01-01"[len(value) - 4 :])
    return value


def _text(value: str) -> str:
    if not is_text(value):
        raise ValueError("no text")
    return value


_Moment = Annotated[str, AfterValidator(_moment)]
"""A dateTime (https://hl7.org/fhir/R4/datatypes.html#dateTime)."""
_Title = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_text)]


class Period(BaseModel, extra="forbid", strict=True):
    """When the service took place that the document tells of."""

    start: _Moment | None = None
    end: _Moment | None = None


class DocumentOptions(BaseModel):
    """All but `metadata`. References are written "Type/id"."""

    model_config = ConfigDict(extra="forbid", strict=True)

    patient: Annotated[OptionalReference, Field(pattern=r"^(Patient/.+)?$")] = ""
    author: OptionalReference = ""
    authenticator: OptionalReference = ""
    custodian: OptionalReference = ""
    encounter: Annotated[OptionalReference, Field(pattern=r"^(Encounter/.+)?$")] = ""
    doc_status: Literal["", "preliminary", "final", "amended"] = ""
    title: _Title | None = None
    period: Period | None = None


def options_of(document: Document) -> DocumentOptions:
    """The document's options. Raises DocumentRefused that names what is wrong, never its value."""
    given = {name: value for name, value in document.options.items() if name != _METADATA}
    try:
        return DocumentOptions.model_validate(given)
    except (ValidationError, UnicodeEncodeError) as error:
        raise _not_understood(error) from None


def _not_understood(error: Exception) -> DocumentRefused:
    faults = error.errors(include_url=False, include_input=False) if isinstance(error, ValidationError) else []
    said = {str(fault["loc"][0]) for fault in faults if fault["loc"]}
    known = sorted(said & set(DocumentOptions.model_fields))
    about = About.PATIENT if known == ["patient"] else None
    if said - set(DocumentOptions.model_fields) and not known:
        takes = ", ".join([*DocumentOptions.model_fields, _METADATA])
        return invalid_request(f"The options hold something that a FHIR server is not told: it is told {takes}.")
    return invalid_request(
        f"The options are not understood: {', '.join(known)} wrong.",
        hint='Write references as "Practitioner/123", the patient as "Patient/123", times with their zone.',
        about=about,
    )
