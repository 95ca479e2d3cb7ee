"""What a document's options may say to Redox, checked before any call: each refusal names the option and what it takes.

The elements are those of FHIR R4: https://hl7.org/fhir/R4/documentreference.html, .../patient.html.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from config.accounts import Author
from tasks.model.document import Document
from tasks.model.errors import DocumentRefused, invalid_request

DocStatus = Literal["preliminary", "final", "amended", "entered-in-error"]
"""https://hl7.org/fhir/R4/valueset-composition-status.html"""

_PATIENT_CHARACTERS = 50_000  # an address and some telephone numbers, but no photograph
_ID = r"[A-Za-z0-9.-]{1,64}"  # https://hl7.org/fhir/R4/datatypes.html#id


@dataclass(frozen=True, slots=True)
class Target:
    """What a reference means: a resource at the destination (`path`, as "Encounter/17"), or whatever has `identifier`.

    `identifier` is written "system|value". One of the two is empty. `name` is how people call it.
    """

    path: str = ""
    identifier: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """All options but `metadata`, which `fhir.metadata_of` reads. What is not given is empty."""

    # Elements of a FHIR Patient.
    patient: Mapping[str, Any] = field(default_factory=dict)
    # "Patient/<id>", which the destination has already.
    patient_reference: str = ""
    encounter: Target | None = None
    authenticator: Target | None = None
    doc_status: str = ""
    # A FHIR Period: `start`, `end` or both.
    period: Mapping[str, str] = field(default_factory=dict)
    title: str = ""


def options_of(document: Document) -> Options:
    """Raises DocumentRefused that names the option which is wrong, and says what it takes. No value is repeated."""
    given = document.options
    if set(given) - _KNOWN:
        raise invalid_request(
            f"The options hold something that Redox does not take: it takes {', '.join(sorted(_KNOWN))}."
        )
    try:
        simple = _Simple.model_validate({name: given[name] for name in _Simple.model_fields if name in given})
    except ValidationError as error:
        raise _refusal(error) from None
    return Options(
        patient=_patient_in(given),
        patient_reference=simple.patient_reference or "",
        encounter=_target(simple.encounter),
        authenticator=_target(simple.authenticator),
        doc_status=simple.doc_status or "",
        period=simple.period.model_dump(exclude_none=True) if simple.period else {},
        title=simple.title or "",
    )


# --- the simple ones -------------------------------------------------------------------------------------------------


def _moment(value: str) -> str:
    """A FHIR dateTime (https://hl7.org/fhir/R4/datatypes.html#dateTime): as exact as it is known."""
    if "T" not in value:
        return _calendar_date(value)
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})", value):
        raise ValueError("not a moment")
    datetime.fromisoformat(value)
    return value


def _calendar_date(value: str) -> str:
    """A year, a month or a day (https://hl7.org/fhir/R4/datatypes.html#date) that the calendar has."""
    if not re.fullmatch(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?", value):
        raise ValueError("not a date")
    date.fromisoformat(value + "-01-01"[len(value) - 4 :] if len(value) < 10 else value)
    return value


class _Period(BaseModel, extra="forbid", strict=True):
    start: Annotated[str, AfterValidator(_moment)] | None = None
    end: Annotated[str, AfterValidator(_moment)] | None = None


def _not_empty(period: _Period) -> _Period:
    """Nor one that ends before it starts, as far as both of its ends are exact."""
    start, end = period.start, period.end
    if not (start or end):
        raise ValueError("neither start nor end")
    if start and end:
        if "T" in start and "T" in end:
            backwards = datetime.fromisoformat(end) < datetime.fromisoformat(start)
        else:
            backwards = end[:10] < start[:10][: len(end)]
        if backwards:
            raise ValueError("ends before it starts")
    return period


def _no_control_characters(value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise ValueError("control characters, or only spaces")
    return value


def _named(author: Author) -> Author:
    if not (author.name or author.identifier):
        raise ValueError("neither name nor identifier")
    return author


_IDENTIFIER = r"[^|\s]{1,500}\|[^|\s][^|]{0,500}"


def _reference(*types: str) -> StringConstraints:
    return StringConstraints(strict=True, pattern=rf"^(({'|'.join(types)})/{_ID}|{_IDENTIFIER})$")


_PatientReference = Annotated[str, StringConstraints(strict=True, pattern=rf"^Patient/{_ID}$")]
_Encounter = Annotated[str, _reference("Encounter")]
_Authenticator = Annotated[str, _reference("Practitioner", "PractitionerRole", "Organization")]
_NamedAuthenticator = Annotated[Author, AfterValidator(_named)]
_Title = Annotated[str, StringConstraints(strict=True, max_length=255), AfterValidator(_no_control_characters)]


class _Simple(BaseModel):
    patient_reference: _PatientReference | None = None
    encounter: _Encounter | None = None
    authenticator: _Authenticator | _NamedAuthenticator | None = None
    doc_status: DocStatus | None = None
    period: Annotated[_Period, AfterValidator(_not_empty)] | None = None
    title: _Title | None = None


_KNOWN = {*_Simple.model_fields, "patient", "metadata"}
_TAKES = {
    "patient_reference": 'the Patient that the destination has already, as "Patient/17".',
    "encounter": 'the visit: its number as "system|value", or the destination\'s own resource as "Encounter/17".',
    "authenticator": 'who answers for it: "Practitioner/17", "system|value", or an object of name and identifier.',
    "doc_status": f"one of {', '.join(get_args(DocStatus))}.",
    "period": 'an object of start and end, or one of them, each as in "2026-11-21" or "2026-11-21T10:00:00Z".',
    "title": "text of at most 255 characters without line breaks.",
}


def _refusal(error: ValidationError) -> DocumentRefused:
    name = next(str(fault["loc"][0]) for fault in error.errors(include_url=False, include_input=False))
    return invalid_request(f"options.{name} is not understood.", hint=f"{name} takes {_TAKES[name]}")


def _target(given: str | Author | None) -> Target | None:
    if given is None:
        return None
    if isinstance(given, Author):
        return Target(identifier=given.identifier, name=given.name)
    return Target(identifier=given) if "|" in given else Target(path=given)


# --- the patient -----------------------------------------------------------------------------------------------------


class _Name(BaseModel, extra="forbid", strict=True):
    """A HumanName."""

    use: str | None = None
    text: str | None = None
    family: str | None = None
    given: list[str] | None = None
    prefix: list[str] | None = None
    suffix: list[str] | None = None
    period: dict[str, JsonValue] | None = None


def _with_a_family(names: Sequence[_Name]) -> Sequence[_Name]:
    if not any(name.family or name.text for name in names):
        raise ValueError("no family name")
    return names


_More = list[dict[str, JsonValue]] | None


class _Patient(BaseModel):
    """options.patient: elements of a FHIR R4 Patient (https://hl7.org/fhir/R4/patient.html)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[list[_Name], Field(min_length=1), AfterValidator(_with_a_family)]
    birthDate: Annotated[str, AfterValidator(_calendar_date)]  # noqa: N815, as FHIR writes it
    gender: Literal["male", "female", "other", "unknown"] | None = None
    resourceType: Literal["Patient"] | None = None  # noqa: N815
    identifier: _More = None
    telecom: _More = None
    address: _More = None
    contact: _More = None
    communication: _More = None
    generalPractitioner: _More = None  # noqa: N815
    managingOrganization: dict[str, JsonValue] | None = None  # noqa: N815
    maritalStatus: dict[str, JsonValue] | None = None  # noqa: N815
    active: bool | None = None
    deceasedBoolean: bool | None = None  # noqa: N815
    deceasedDateTime: str | None = None  # noqa: N815
    multipleBirthBoolean: bool | None = None  # noqa: N815
    multipleBirthInteger: int | None = None  # noqa: N815
    extension: _More = None


def _patient_in(options: Mapping[str, Any]) -> dict[str, Any]:
    """The Patient's elements in the options, if there are any. Raises DocumentRefused that names what is wrong."""
    given = options.get("patient")
    if given is None:
        return {}
    try:
        patient = _Patient.model_validate(given).model_dump(exclude_none=True, exclude={"resourceType"})
    except ValidationError as error:
        raise invalid_request(f"options.patient is not understood: {_faults(error)}.", hint=_PATIENT_HINT) from None
    if len(json.dumps(patient)) > _PATIENT_CHARACTERS:
        raise invalid_request(f"options.patient has more than {_PATIENT_CHARACTERS} characters.")
    return patient


_PATIENT_HINT = (
    'Give FHIR\'s elements, as in {"name": [{"family": "…", "given": ["…"]}], "birthDate": "1980-12-31"}, or leave '
    "patient out: then its id alone says who it is."
)


def _faults(error: ValidationError) -> str:
    """Which of our own fields are missing or wrong. No other name is repeated: it may be the patient's."""
    missing: set[str] = set()
    wrong: set[str] = set()
    unknown = False
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        if not fault["loc"]:
            continue
        name = str(fault["loc"][0])
        if name not in _Patient.model_fields:
            unknown = True
        elif fault["type"] == "missing":
            missing.add(name)
        else:
            wrong.add(name)
    parts = [f"{', '.join(sorted(missing))} missing"] if missing else []
    parts += [f"{', '.join(sorted(wrong - missing))} wrong"] if wrong - missing else []
    parts += ["a field that is not known"] if unknown else []
    return "; ".join(parts) or "it is not an object"
