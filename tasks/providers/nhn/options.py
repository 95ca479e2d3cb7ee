"""What a document's options ask of NHN beyond its metadata, checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, field_validator

from tasks.model.document import Document
from tasks.model.errors import DocumentRefused, invalid_request
from tasks.providers.fhir import holds_text

# FHIR's dateTime (https://hl7.org/fhir/R4/datatypes.html#dateTime), from the day on: NHN's registry wants no less.
_CREATED = re.compile(r"\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:\d{2}))?")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_LONGEST_TITLE = 200
_KNOWN = ("metadata", "patient", "created", "title", "replaces", "appends")
# Clocks differ, and a day that has begun in another zone is no mistake.
_AHEAD = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Options:
    """What one document asks for; None and () where it asks for nothing."""

    # Name, birth date and gender of the patient, as elements of a FHIR Patient. NHN's registry keeps them beside the
    # document (sourcePatientInfo).
    patient: Mapping[str, Any] = field(default_factory=dict)
    # When the document itself was made, as FHIR writes it: a day, or a time with its zone.
    created: str | None = None
    # Instead of the file's name.
    title: str | None = None
    # How it relates to a document that NHN has: a code of FHIR's (replaces or appends), and that document's id.
    relates_to: tuple[tuple[str, str], ...] = ()


def options_of(document: Document, now: datetime) -> Options:
    """The options of a document; `now` is aware. Raises DocumentRefused (`invalid_request`)."""
    given = document.options
    if set(given) - set(_KNOWN):
        raise invalid_request(f"The options hold something that NHN does not take: it takes {', '.join(_KNOWN)}.")
    relations = [(code, _target(code, given[code])) for code in ("replaces", "appends") if given.get(code) is not None]
    if len(relations) > 1:
        # The reference implementation refuses both together, and so does IHE's model.
        raise invalid_request("A document cannot both replace a document and append to one.")
    return Options(
        {} if given.get("patient") is None else _patient(given["patient"]),
        None if given.get("created") is None else _created(given["created"], now),
        None if given.get("title") is None else _title(given["title"]),
        tuple(relations),
    )


class _Name(BaseModel, extra="forbid", strict=True):
    family: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    given: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] = []


class _Patient(BaseModel, extra="forbid", strict=True):
    """The elements of a FHIR Patient (https://hl7.org/fhir/R4/patient.html) that NHN's registry reads."""

    name: list[_Name] = Field(default=[], max_length=1)
    birthDate: str = ""  # noqa: N815, as FHIR writes it
    gender: Literal["male", "female", "other", "unknown"] | None = None

    @field_validator("birthDate")
    @classmethod
    def _a_day(cls, value: str) -> str:
        if value and (len(value) != 10 or date.fromisoformat(value).year < 1850):
            raise ValueError("not a day")
        return value


def _patient(value: Any) -> Mapping[str, Any]:
    try:
        elements = _Patient.model_validate(value).model_dump()
        if not holds_text(elements):
            raise ValueError("characters that are not text")
    except ValueError:  # a ValidationError is one
        raise invalid_request(
            "options.patient is not understood: NHN takes its name, birthDate and gender.",
            'Write it as in {"name": [{"family": "…", "given": ["…"]}], "birthDate": "1980-12-31", "gender": "male"}.',
        ) from None
    names = [{key: part for key, part in name.items() if part} for name in elements.pop("name")]
    return {key: element for key, element in {"name": names, **elements}.items() if element}


def _created(value: Any, now: datetime) -> str:
    refusal = invalid_request(
        "options.created is not a day or a time with its zone.", "Write it as 2026-11-30, or 2026-11-30T08:15:00+01:00."
    )
    if not isinstance(value, str) or not _CREATED.fullmatch(value):
        raise refusal
    try:
        at = date.fromisoformat(value) if "T" not in value else datetime.fromisoformat(value)
    except ValueError:  # the 31st of November
        raise refusal from None
    moment = at if isinstance(at, datetime) else datetime(at.year, at.month, at.day, tzinfo=UTC)
    if moment > now + _AHEAD:
        raise invalid_request("options.created lies in the future.", "Say when the document was made, or leave it out.")
    # FHIR's times have seconds.
    return at.isoformat(timespec="seconds") if isinstance(at, datetime) else value


def _title(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > _LONGEST_TITLE:
        raise invalid_request(f"options.title is not a line of 1 to {_LONGEST_TITLE} characters.")
    return value.strip()


def _target(code: str, value: Any) -> str:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise _no_document(code)
    return value.lower()


def _no_document(code: str) -> DocumentRefused:
    return invalid_request(
        f"options.{code} is not the id of a document at NHN, which is a UUID.",
        "Give the record's id as the receipt of that document has it.",
    )
