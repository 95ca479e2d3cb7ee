"""The message that Redox's $documentreference-create takes: a Bundle of MessageHeader, DocumentReference and Patient.

Vendor page: https://docs.redoxengine.com/permalink/3GhpEsXocZLwS50DXzyQaR/ ("Send a file via the Redox FHIR API"). It
leaves the Bundle's own parts out; they follow FHIR R4's messages (https://hl7.org/fhir/R4/messaging.html). All ids
follow from the job's, so that a message that is sent again is the same message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from config.accounts import RedoxAccount
from tasks.model.document import Document
from tasks.model.errors import invalid_request
from tasks.model.job import Job
from tasks.providers.fhir import check_text, coding, concept, fixed_id, identifier, metadata_of
from tasks.providers.media_types import media_type
from tasks.providers.redox.options import Options, Target, options_of

CONTENT_TYPE = "application/fhir+json"
EVENT = "https://fhir.redoxengine.com/EventDefinition/DocumentReferenceCreate"
_URI_SYSTEM = "urn:ietf:rfc:3986"
# R4 requires an endpoint, and we have no address of our own. Redox reads the id of its source in an endpoint that is a
# UUID (https://docs.redoxengine.com/permalink/6JuW9m4kL8FiiSa6YE1gLY), so without that id it must not look like one.
_NO_ENDPOINT = "https://chartpost.invalid"


def check_parts(document: Document, account: RedoxAccount) -> None:
    """Refuse a document of which no message can be made. Raises DocumentRefused that names what is missing or wrong."""
    media_type(document)
    check_text(document)
    options_of(document)
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
    options = options_of(job.document)
    header, document, patient = (fixed_id(job.id, kind) for kind in ("MessageHeader", "DocumentReference", "Patient"))
    if options.patient_reference:
        patient = options.patient_reference.partition("/")[2]
        patient_url = _at_destination(account, options.patient_reference)
    else:
        patient_url = _urn(patient)
    return {
        "resourceType": "Bundle",
        "id": fixed_id(job.id, "Bundle"),
        "type": "message",
        "timestamp": job.created_at.isoformat(timespec="milliseconds"),
        "entry": [
            _entry(_urn(header), _header(header, document, account)),
            _entry(_urn(document), _document_reference(job, account, options, document, patient_url, payload)),
            _entry(patient_url, _patient(job.document, account, options, patient)),
        ],
    }


def document_identifier(job: Job) -> str:
    """The value of the DocumentReference's identifier, by which the receiver can know the document again."""
    return _urn(fixed_id(job.id, "DocumentReference"))


def _urn(id_: str) -> str:
    return f"urn:uuid:{id_}"


def _at_destination(account: RedoxAccount, path: str) -> str:
    """The whole address of a resource that the destination has: a relative one means nothing beside urn:uuid."""
    return "/".join((account.base_url.rstrip("/"), account.destination, account.environment, path))


def _entry(full_url: str, resource: Mapping[str, Any]) -> dict[str, Any]:
    return {"fullUrl": full_url, "resource": resource}


def _header(header: str, document: str, account: RedoxAccount) -> dict[str, Any]:
    return {
        "resourceType": "MessageHeader",
        "id": header,
        "eventUri": EVENT,
        "source": {"name": "chartpost", "endpoint": _urn(account.source_id) if account.source_id else _NO_ENDPOINT},
        # References are the fullUrl of their entry: a relative one would not resolve, since no entry that holds one has
        # the address of a FHIR server (https://hl7.org/fhir/R4/bundle.html#references).
        "focus": [{"reference": _urn(document)}],
    }


def _document_reference(
    job: Job, account: RedoxAccount, options: Options, document: str, patient_url: str, payload: Mapping[str, str]
) -> dict[str, Any]:
    metadata = metadata_of(job.document, account.metadata)
    author = _reference(account, Target(identifier=metadata.author.identifier, name=metadata.author.name))
    concepts = {"facilityType": metadata.facility_type, "practiceSetting": metadata.practice_setting}
    return _filled(
        resourceType="DocumentReference",
        id=document,
        identifier=[{"system": _URI_SYSTEM, "value": document_identifier(job)}],
        status="current",
        docStatus=options.doc_status,
        type=concept(metadata.type),
        category=[concept(metadata.category)] if metadata.category else None,
        subject={"reference": patient_url},
        date=job.created_at.isoformat(timespec="milliseconds"),
        author=[author] if author else None,
        authenticator=_reference(account, options.authenticator),
        description=job.document.description,
        securityLabel=[concept(metadata.security_label)] if metadata.security_label else None,
        content=[
            _filled(
                attachment={
                    "contentType": media_type(job.document),
                    **payload,
                    "title": options.title or job.document.file_name,
                },
                format=coding(metadata.format) if metadata.format else None,
            )
        ],
        context=_filled(
            # A visit's number alone does not tell the status and class that an Encounter in the Bundle would need.
            encounter=[_reference(account, options.encounter, "Encounter")] if options.encounter else None,
            period=options.period,
            **{name: concept(text) for name, text in concepts.items() if text},
        ),
    )


def _reference(account: RedoxAccount, target: Target | None, kind: str = "") -> dict[str, Any]:
    """A Reference (https://hl7.org/fhir/R4/references.html), by address or else by identifier; empty for no target."""
    if target is None:
        return {}
    return _filled(
        reference=_at_destination(account, target.path) if target.path else None,
        type=kind,
        identifier=identifier(target.identifier) if target.identifier else None,
        display=target.name,
    )


def _patient(document: Document, account: RedoxAccount, options: Options, patient: str) -> dict[str, Any]:
    elements = dict(options.patient)
    own = {"system": account.patient_system, "value": document.patient_id}
    others = elements.pop("identifier", [])
    return {"resourceType": "Patient", "id": patient, "identifier": [own, *others], **elements}


def _filled(**fields: Any) -> dict[str, Any]:
    """The fields that are not empty: FHIR does not allow empty ones."""
    return {name: value for name, value in fields.items() if value}
