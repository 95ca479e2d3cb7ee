"""The message that Redox's $documentreference-create takes: a Bundle of MessageHeader, DocumentReference and Patient.

Vendor page: https://docs.redoxengine.com/permalink/3GhpEsXocZLwS50DXzyQaR/ ("Send a file via the Redox FHIR API"). It
leaves the Bundle's own parts out; they follow FHIR R4's messages (https://hl7.org/fhir/R4/messaging.html). All ids
follow from the job's, so that a message that is sent again is the same message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from config.accounts import RedoxAccount
from tasks.model.document import Document
from tasks.model.errors import invalid_request
from tasks.model.job import Job
from tasks.providers.fhir import coding, concept, fixed_id, identifier, metadata_of
from tasks.providers.media_types import media_type

CONTENT_TYPE = "application/fhir+json"
EVENT = "https://fhir.redoxengine.com/EventDefinition/DocumentReferenceCreate"
_OPTIONS = {"patient", "metadata"}
_PATIENT_CHARACTERS = 50_000  # an address and some telephone numbers, but no photograph
_URI_SYSTEM = "urn:ietf:rfc:3986"


def check_parts(document: Document, account: RedoxAccount) -> None:
    """Refuse a document of which no message can be made. Raises DocumentRefused that names what is missing or wrong."""
    media_type(document)
    if set(document.options) - _OPTIONS:
        raise invalid_request("The options hold something that Redox does not take: it takes patient and metadata.")
    _patient_in(document)
    if not metadata_of(document, account.metadata).type:
        raise invalid_request(
            "metadata.type is missing: Redox needs to know what kind of document it is.",
            hint='Give the account, or the document in options.metadata, a type such as "http://loinc.org|34133-9".',
        )


# --- the message -----------------------------------------------------------------------------------------------------


def referring_message(job: Job, account: RedoxAccount, url: str) -> bytes:
    """The message whose document lies at `url`. Raises DocumentRefused as `check_parts` does."""
    return json.dumps(_bundle(job, account, {"url": url})).encode()


def embedding_message(job: Job, account: RedoxAccount, data: str) -> dict[str, Any]:
    """The message that holds the document in base64. Raises DocumentRefused as `check_parts` does."""
    return _bundle(job, account, {"data": data})


def _bundle(job: Job, account: RedoxAccount, payload: Mapping[str, str]) -> dict[str, Any]:
    # Either `url` or `data` in the attachment: the page shows each alone.
    header, document, patient = (fixed_id(job.id, kind) for kind in ("MessageHeader", "DocumentReference", "Patient"))
    return {
        "resourceType": "Bundle",
        "id": fixed_id(job.id, "Bundle"),
        "type": "message",
        "timestamp": job.created_at.isoformat(timespec="milliseconds"),
        "entry": [
            _entry(_header(header, document, account)),
            _entry(_document_reference(job, account, document, patient, payload)),
            _entry(_patient(job.document, account, patient)),
        ],
    }


def document_identifier(job: Job) -> str:
    """The value of the DocumentReference's identifier, by which the receiver can know the document again."""
    return _urn(fixed_id(job.id, "DocumentReference"))


def _urn(id_: str) -> str:
    return f"urn:uuid:{id_}"


def _entry(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {"fullUrl": _urn(resource["id"]), "resource": resource}


def _header(header: str, document: str, account: RedoxAccount) -> dict[str, Any]:
    return {
        "resourceType": "MessageHeader",
        "id": header,
        "eventUri": EVENT,
        # R4 requires an endpoint; we have no address of our own.
        "source": {"name": "chartpost", "endpoint": _urn(fixed_id("redox", account.client_id))},
        "focus": [{"reference": f"DocumentReference/{document}"}],
    }


def _document_reference(
    job: Job, account: RedoxAccount, document: str, patient: str, payload: Mapping[str, str]
) -> dict[str, Any]:
    metadata = metadata_of(job.document, account.metadata)
    author = _filled(
        display=metadata.author.name,
        identifier=identifier(metadata.author.identifier) if metadata.author.identifier else None,
    )
    context = {"facilityType": metadata.facility_type, "practiceSetting": metadata.practice_setting}
    return _filled(
        resourceType="DocumentReference",
        id=document,
        identifier=[{"system": _URI_SYSTEM, "value": document_identifier(job)}],
        status="current",
        type=concept(metadata.type),
        category=[concept(metadata.category)] if metadata.category else None,
        subject={"reference": f"Patient/{patient}"},
        date=job.created_at.isoformat(timespec="milliseconds"),
        author=[author] if author else None,
        description=job.document.description,
        securityLabel=[concept(metadata.security_label)] if metadata.security_label else None,
        content=[
            _filled(
                attachment={
                    "contentType": media_type(job.document),
                    **payload,
                    "title": job.document.file_name,
                },
                format=coding(metadata.format) if metadata.format else None,
            )
        ],
        context=_filled(**{name: concept(text) for name, text in context.items() if text}),
    )


def _patient(document: Document, account: RedoxAccount, patient: str) -> dict[str, Any]:
    elements = _patient_in(document)
    own = {"system": account.patient_system, "value": document.patient_id}
    others = elements.pop("identifier", [])
    return {"resourceType": "Patient", "id": patient, "identifier": [own, *others], **elements}


def _filled(**fields: Any) -> dict[str, Any]:
    """The fields that are not empty: FHIR does not allow empty ones."""
    return {name: value for name, value in fields.items() if value}


# --- the patient in the options --------------------------------------------------------------------------------------


def _calendar_date(value: str) -> str:
    """A year, a month or a day (https://hl7.org/fhir/R4/datatypes.html#date) that the calendar has."""
    if not re.fullmatch(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?", value):
        raise ValueError("not a date")
    date.fromisoformat(value + "-01-01"[len(value) - 4 :] if len(value) < 10 else value)
    return value


class _Name(BaseModel, extra="forbid", strict=True):
    """A HumanName."""

    use: str | None = None
    text: str | None = None
    family: str | None = None
    given: list[str] | None = None
    prefix: list[str] | None = None
    suffix: list[str] | None = None
    period: dict[str, JsonValue] | None = None


def _named(names: Sequence[_Name]) -> Sequence[_Name]:
    if not any(name.family or name.text for name in names):
        raise ValueError("no family name")
    return names


_More = list[dict[str, JsonValue]] | None


class _Patient(BaseModel):
    """options.patient: elements of a FHIR R4 Patient (https://hl7.org/fhir/R4/patient.html)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[list[_Name], Field(min_length=1), AfterValidator(_named)]
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


def _patient_in(document: Document) -> dict[str, Any]:
    """The Patient's elements in the options, if there are any. Raises DocumentRefused that names what is wrong."""
    given = document.options.get("patient")
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
