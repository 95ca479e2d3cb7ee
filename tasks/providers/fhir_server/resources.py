"""The resources that are sent: a DocumentReference, or a transaction of a Binary and a DocumentReference.

https://hl7.org/fhir/R4/documentreference.html, and US Core's "Writing Clinical Notes"
(https://build.fhir.org/ig/HL7/US-Core/writing-clinical-notes.html): status, type, category, subject, date, author and
the attachment. All ids follow from the job's, so that a document that is sent again is the same document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.accounts import FhirAccount, Metadata
from tasks.model.document import Document
from tasks.model.errors import invalid_request
from tasks.model.job import Job
from tasks.providers.digests import Digests
from tasks.providers.fhir import check_text, coding, concept, fixed_id, identifier, metadata_of
from tasks.providers.fhir_server.document_options import options_of
from tasks.providers.media_types import media_type

URIS = "urn:ietf:rfc:3986"
_CLINICAL_NOTE = "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category|clinical-note|Clinical Note"

Resource = dict[str, Any]


def check_parts(document: Document, account: FhirAccount) -> None:
    """Refuse a document of which no DocumentReference can be made. Raises DocumentRefused that says why."""
    media_type(document)
    check_text(document)
    options_of(document)
    if not metadata_of(document, account.metadata).type:
        raise invalid_request(
            "metadata.type is missing: a chart needs to know what kind of document it is.",
            hint='Give the account, or the document in options.metadata, a type such as "http://loinc.org|34133-9".',
        )


def document_identifier(job: Job) -> str:
    """The value of the DocumentReference's identifier, whose system is `URIS`."""
    return f"urn:uuid:{fixed_id('fhir', 'document', job.id)}"


def identifier_query(job: Job) -> str:
    """The search that finds this document's record, as If-None-Exist and conditional updates have it."""
    return f"identifier={URIS}|{document_identifier(job)}"


def binary_id(job: Job) -> str:
    """The Binary's id, where the server lets us choose it."""
    return fixed_id("fhir", "binary", job.id)


def document_reference(
    job: Job, account: FhirAccount, patient: str, digests: Digests, payload: Mapping[str, str]
) -> Resource:
    """The DocumentReference; `payload` is the attachment's `data` or `url`."""
    document = job.document
    metadata, options = metadata_of(document, account.metadata), options_of(document)
    at = job.created_at.isoformat(timespec="milliseconds")
    custodian = options.custodian or account.custodian
    attachment = {
        "contentType": media_type(document),
        **payload,
        "size": document.size_bytes,
        "hash": digests.attachment_hash,
        "title": options.title or document.file_name,
        "creation": at,
    }
    return _filled(
        resourceType="DocumentReference",
        identifier=[{"system": URIS, "value": document_identifier(job)}],
        status="current",
        docStatus=options.doc_status or account.doc_status,
        type=concept(metadata.type),
        # US Core requires it of every note; other profiles take any category.
        category=[concept(metadata.category or _CLINICAL_NOTE)],
        subject={"reference": patient},
        date=at,
        author=_author(metadata, options.author or account.author),
        authenticator=_reference(options.authenticator),
        custodian=_reference(custodian),
        description=document.description,
        securityLabel=[concept(metadata.security_label)] if metadata.security_label else None,
        content=[_filled(attachment=attachment, format=coding(metadata.format) if metadata.format else None)],
        context=_filled(
            encounter=[{"reference": options.encounter}] if options.encounter else None,
            period=options.period.model_dump(exclude_none=True) if options.period else None,
            facilityType=concept(metadata.facility_type) if metadata.facility_type else None,
            practiceSetting=concept(metadata.practice_setting) if metadata.practice_setting else None,
        ),
    )


def transaction(
    job: Job, account: FhirAccount, patient: str, digests: Digests, data: str, *, put: bool, once: bool
) -> Resource:
    """The Bundle that makes Binary and DocumentReference at once; `data` is the document in base64.

    `put`: the Binary has an id of ours, and is the same one each time. `once`: the server offers conditional create
    (https://hl7.org/fhir/R4/http.html#transaction).
    """
    # Servers replace every text that equals a fullUrl, also the identifier's value: the ids of entries are their own.
    binary, document = (f"urn:uuid:{fixed_id('fhir', 'entry', part, job.id)}" for part in ("binary", "document"))
    own_id = binary_id(job)
    resource = {
        "resourceType": "Binary",
        **({"id": own_id} if put else {}),
        "contentType": media_type(job.document),
        "securityContext": {"reference": patient},
        "data": data,
    }
    sending = {"method": "PUT", "url": f"Binary/{own_id}"} if put else {"method": "POST", "url": "Binary"}
    reference = document_reference(job, account, patient, digests, {"url": binary})
    creating = {"method": "POST", "url": "DocumentReference"}
    if account.conditional == "update":
        creating = {"method": "PUT", "url": f"DocumentReference?{identifier_query(job)}"}
    elif account.conditional == "create" and once:
        creating["ifNoneExist"] = identifier_query(job)
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"fullUrl": binary, "resource": resource, "request": sending},
            {"fullUrl": document, "resource": reference, "request": creating},
        ],
    }


def _author(metadata: Metadata, reference: str) -> list[Resource] | None:
    """The author by reference, by name and by identifier, as far as they are known."""
    author = metadata.author
    known = _filled(
        reference=reference,
        display=author.name,
        identifier=identifier(author.identifier) if author.identifier else None,
    )
    return [known] if known else None


def _reference(text: str) -> Resource | None:
    return {"reference": text} if text else None


def _filled(**fields: Any) -> Resource:
    """The fields that are not empty: FHIR does not allow empty ones."""
    return {name: value for name, value in fields.items() if value}
