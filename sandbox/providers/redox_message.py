"""The message that Redox's $documentreference-create takes: a Bundle of MessageHeader, DocumentReference and Patient.

After the vendor's page "Send a file via the Redox FHIR API" (the attachment, the 10 MB) and FHIR R4's messages
(https://hl7.org/fhir/R4/messaging.html: the header comes first and has a source endpoint). References must resolve
within the Bundle as FHIR says: https://hl7.org/fhir/R4/bundle.html#references.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.providers.fhir import (
    MIME_TYPE,
    Bundle,
    Issue,
    Json,
    Refused,
    Resource,
    decode_base64,
    dig,
    error,
    objects,
    text,
)

EVENT = "https://fhir.redoxengine.com/EventDefinition/DocumentReferenceCreate"
DOC_STATUSES = ("preliminary", "final", "amended", "entered-in-error")
TARGETS = (("reference",), ("identifier", "value"), ("display",))  # of https://hl7.org/fhir/R4/references.html
RELATIVE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")
RESTFUL = re.compile(r"(https?://.+/)[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")
TOO_LONG_EMBEDDED = 10_000_000  # of base64


@dataclass(frozen=True)
class Message:
    """One document as it was sent."""

    patient_id: str  # the value of the Patient's first identifier
    title: str
    content: bytes | None  # None: the bytes are at `url`
    url: str | None
    identifiers: frozenset[str]  # of the DocumentReference, each `system|value`


def message_in(bundle: Bundle, source_id: str) -> Message:
    """Raises Refused with everything that is wrong. `source_id` is the UUID of the organization's source."""
    issues = list(shape_issues(bundle)) or list(content_issues(bundle, source_id))
    if issues:
        raise Refused(413 if issues[0].code == "too-long" else 400, *issues)
    (document,), (patient,) = bundle.resources("DocumentReference"), bundle.resources("Patient")
    attachment = the_attachment(document)
    data, url = attachment.get("data"), attachment.get("url")
    return Message(
        text(patient, "identifier", 0, "value"),
        text(attachment, "title"),
        None if data is None else decode_base64(data),
        url,
        frozenset(f"{text(each, 'system')}|{text(each, 'value')}" for each in objects(document.get("identifier"))),
    )


def shape_issues(bundle: Bundle) -> Iterator[Issue]:
    """What is wrong with the Bundle as a message."""
    if bundle.itself.get("type") != "message":
        yield error("value", "Bundle.type is not message")
    if bundle.entries[0]["resource"].get("resourceType") != "MessageHeader":
        yield error("structure", "the first entry is not a MessageHeader")
    for kind in ("MessageHeader", "DocumentReference", "Patient"):
        if len(bundle.resources(kind)) != 1:
            yield error("required", f"there is not exactly one {kind}")


def content_issues(bundle: Bundle, source_id: str) -> Iterator[Issue]:
    """What is wrong with the three resources, once they are there."""
    (header,), (patient,) = bundle.entries_of("MessageHeader"), bundle.resources("Patient")
    (document,) = bundle.entries_of("DocumentReference")
    yield from header_issues(header, document, source_id)
    if not text(patient, "identifier", 0, "system") or not text(patient, "identifier", 0, "value"):
        yield error("required", "Patient.identifier has no system and value")
    if not resolves(document, document["resource"].get("subject"), bundle.entries_of("Patient")[0]):
        yield error("value", "DocumentReference.subject is not the Patient in the Bundle")
    if document["resource"].get("status") != "current":
        yield error("value", "DocumentReference.status is not current")
    if document["resource"].get("docStatus", "final") not in DOC_STATUSES:
        yield error("code-invalid", "DocumentReference.docStatus is not one of FHIR's")
    for name in ("encounter", "authenticator"):
        given = dig(document["resource"], "context", name, 0) if name == "encounter" else document["resource"].get(name)
        if given is not None and not any(text(given, *path) for path in TARGETS):
            yield error("value", f"DocumentReference's {name} names nothing")
    if len(objects(document["resource"].get("content"))) != 1:
        yield error("required", "DocumentReference.content is not one item")
    yield from attachment_issues(the_attachment(document["resource"]))


def header_issues(header: Resource, document: Resource, source_id: str) -> Iterator[Issue]:
    """`header` and `document` are entries. A source endpoint that is a UUID is the id of a source at Redox."""
    if header["resource"].get("eventUri") != EVENT:
        yield error("value", f"MessageHeader.eventUri is not {EVENT}")
    endpoint = text(header["resource"], "source", "endpoint")
    if not endpoint:
        yield error("required", "MessageHeader.source.endpoint is missing")
    elif endpoint.lower().startswith("urn:uuid:") and endpoint.lower() != f"urn:uuid:{source_id}":
        yield error("value", "MessageHeader.source.endpoint is not a source of this organization")
    if not any(resolves(header, each, document) for each in objects(header["resource"].get("focus"))):
        yield error("required", "MessageHeader.focus is not the DocumentReference")


def resolves(holder: Resource, reference: Json, entry: Resource) -> bool:
    """Whether a Reference in the entry `holder` means `entry`. A relative one is resolved against a RESTful fullUrl."""
    url = text(reference, "reference")
    if RELATIVE.fullmatch(url):
        base = RESTFUL.fullmatch(text(holder, "fullUrl"))
        url = base[1] + url if base else ""
    return bool(url) and url == text(entry, "fullUrl")


def attachment_issues(attachment: Resource) -> Iterator[Issue]:
    if not MIME_TYPE.fullmatch(text(attachment, "contentType")):
        yield error("value", "attachment.contentType is not a MIME type")
    data, url = attachment.get("data"), attachment.get("url")
    if (data is None) == (url is None):
        yield error("invalid", "attachment has not exactly one of data and url")
    elif url is not None and not isinstance(url, str):
        yield error("value", "attachment.url is not text")
    elif data is not None:
        yield from data_issues(data)


def data_issues(data: Json) -> Iterator[Issue]:
    if not isinstance(data, str) or not data:
        yield error("value", "attachment.data is empty")
    elif len(data) >= TOO_LONG_EMBEDDED:
        yield error("too-long", "a file of 10 MB or more must be uploaded as a Binary")
    else:
        try:
            decode_base64(data)
        except ValueError:
            yield error("value", "attachment.data is not base64")


def the_attachment(document: Resource) -> Resource:
    attachment = dig(document, "content", 0, "attachment")
    return attachment if isinstance(attachment, dict) else {}
