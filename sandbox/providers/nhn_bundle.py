"""The transaction Bundle of ITI-65, Provide Document Bundle, as NHN takes it.

After https://profiles.ihe.net/ITI/MHD/ITI-65.html, NHN's page about the endpoint and the reference implementation
(https://github.com/timmo-nhn/XcaDocumentSource). What is missing is fatal, an error, a warning or information; the
first two refuse the whole Bundle.
"""

import base64
import hashlib
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
    codings,
    decode_base64,
    dig,
    error,
    objects,
    refers_to,
    text,
)

MHD = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/"
PROFILE = MHD + "IHE.MHD.Comprehensive.ProvideBundle"
SUBMISSION_SET = "submissionset"
NATIONAL_ID = "urn:oid:2.16.578.1.12.4.1.4.1"
ORGANIZATION_ID = "urn:oid:2.16.578.1.12.4.1.4.101"
DOCUMENT_TYPE = "urn:oid:2.16.578.1.12.4.1.1.9602"
FACILITY_TYPE = "urn:oid:2.16.578.1.12.4.1.1.1303"
PRACTICE_SETTING = "urn:oid:2.16.578.1.12.4.1.1.8651"
MAX_DOCUMENT_BYTES = 60_000_000
# BusinessLogicFiltersRegistry of the reference implementation. It also wants the bytes to be of that type; those that
# show no type are let pass here, since most tests send a few words as a PDF.
MIME_TYPES = (
    "application/pdf",
    "image/jpeg",
    "image/png",
    "image/tiff",
    "image/gif",
    "application/xml",
    "text/xml",
    "text/plain",
    "text/rtf",
)
BEGINNINGS = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
    b"%PDF": "application/pdf",
    b"{\\rtf": "text/rtf",
    b"PK\x03\x04": "application/zip",
}
RELATIONS = ("replaces", "transforms", "appends", "signs")
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True)
class Provided:
    """One document: its metadata and its bytes."""

    unique_id: str
    binary_id: str
    title: str
    resource: Resource
    content: bytes
    replaces: str  # the id of a document; empty: none


@dataclass(frozen=True)
class Submission:
    """What an accepted Bundle provides."""

    patient_id: str
    unique_id: str
    documents: list[Provided]
    remarks: list[Issue]  # warnings and information


@dataclass(frozen=True)
class Parts:
    """The entries of a Bundle that has all of them."""

    submission_set: Resource
    patient: Resource
    documents: list[Resource]
    contents: dict[str, bytes]  # a Binary's fullUrl → its bytes
    content_types: dict[str, str]  # a Binary's fullUrl → its MIME type
    binary_ids: dict[str, str]  # a Binary's fullUrl → its id


def submission_in(bundle: Bundle, community: str) -> Submission:
    """Raises Refused with all issues, whatever their severity."""
    # In three steps, since later checks need what the earlier ones have found.
    issues = [*transaction_issues(bundle), *missing_parts(bundle)]
    refuse_if_grave(issues)
    issues += binary_issues(bundle)
    refuse_if_grave(issues)
    parts = parts_of(bundle)
    issues += [*set_issues(parts), *patient_issues(parts), *unused_binaries(parts)]
    for document in parts.documents:
        issues += document_issues(document["resource"], parts, community)
    refuse_if_grave(issues)
    return Submission(
        national_id(parts.patient["resource"]),
        identifier(parts.submission_set["resource"], "official"),
        [provided(each["resource"], parts) for each in parts.documents],
        issues,
    )


def refuse_if_grave(issues: list[Issue]) -> None:
    if any(issue.refuses for issue in issues):
        raise Refused(400, *issues)


def parts_of(bundle: Bundle) -> Parts:
    binaries = bundle.entries_of("Binary")
    return Parts(
        submission_sets(bundle)[0],
        bundle.entries_of("Patient")[0],
        bundle.entries_of("DocumentReference"),
        {text(each, "fullUrl"): decode_base64(text(each, "resource", "data")) for each in binaries},
        {text(each, "fullUrl"): text(each, "resource", "contentType") for each in binaries},
        {text(each, "fullUrl"): text(each, "resource", "id") or text(each, "fullUrl") for each in binaries},
    )


def provided(document: Resource, parts: Parts) -> Provided:
    attachment = dig(document, "content", 0, "attachment")
    url = text(attachment, "url")
    replaced = [each for each in objects(document.get("relatesTo")) if each.get("code") == "replaces"]
    return Provided(
        text(document, "masterIdentifier", "value"),
        parts.binary_ids[url],
        text(attachment, "title"),
        document,
        parts.contents[url],
        text(replaced, 0, "target", "reference").rpartition("/")[2],
    )


def transaction_issues(bundle: Bundle) -> Iterator[Issue]:
    if bundle.itself.get("type") != "transaction":
        yield fatal("Bundle.type is not transaction")
    profiles = dig(bundle.itself, "meta", "profile")
    if not isinstance(profiles, list) or PROFILE not in profiles:
        yield error("required", f"Bundle.meta.profile is not {PROFILE}")
    addresses = [text(entry, "fullUrl") for entry in bundle.entries]
    if len(set(addresses)) != len(addresses) or not all(each.startswith("urn:uuid:") for each in addresses):
        yield error("value", "the entries' fullUrl are not different urn:uuid:…")
    for entry in bundle.entries:
        kind = text(entry, "resource", "resourceType")
        if dig(entry, "request") != {"method": "POST", "url": kind}:
            yield error("value", f"request of the entry with a {kind} is not to POST {kind}")


def missing_parts(bundle: Bundle) -> Iterator[Issue]:
    if len(submission_sets(bundle)) != 1:
        yield fatal("there is not exactly one List with code submissionset")
    if len(bundle.entries_of("Patient")) != 1:
        yield fatal("there is not exactly one Patient")
    for kind in ("DocumentReference", "Binary"):
        if not bundle.entries_of(kind):
            yield fatal(f"there is no {kind}")


def binary_issues(bundle: Bundle) -> Iterator[Issue]:
    for binary in bundle.resources("Binary"):
        try:
            content = decode_base64(text(binary, "data"))
        except ValueError:
            yield error("value", "Binary.data is not base64")
        else:
            if not content:
                yield error("required", "Binary.data is empty")
            if len(content) > MAX_DOCUMENT_BYTES:
                yield error("too-long", f"a document has more than {MAX_DOCUMENT_BYTES} bytes")


def unused_binaries(parts: Parts) -> Iterator[Issue]:
    used = {text(each, "resource", "content", 0, "attachment", "url") for each in parts.documents}
    if parts.contents.keys() - used:
        yield error("value", "XDSMissingDocumentMetadata: no DocumentReference has the url of a Binary")


def set_issues(parts: Parts) -> Iterator[Issue]:
    """The List that is the submission set."""
    itself = parts.submission_set["resource"]
    if not text(extension(itself, "ihe-sourceId"), "valueIdentifier", "value").startswith("urn:oid:"):
        yield fatal("List has no ihe-sourceId")
    if not codings(dig(extension(itself, "ihe-designationType"), "valueCodeableConcept")):
        yield error("required", "List has no ihe-designationType")
    if not identifier(itself, "usual").startswith("urn:oid:"):
        yield error("required", "List.identifier has no usual urn:oid:…")
    if not identifier(itself, "official").startswith("urn:uuid:"):
        yield error("required", "List.identifier has no official urn:uuid:…")
    if (itself.get("status"), itself.get("mode")) != ("current", "working"):
        yield error("value", "List is not current and working")
    if not text(itself, "date"):
        yield error("required", "List.date, the submission time, is missing")
    if not refers_to(itself.get("subject"), parts.patient):
        yield error("value", "List.subject is not the Patient in the Bundle")
    yield from set_source_issues(itself)
    listed = [each.get("item") for each in objects(itself.get("entry"))]
    if not all(any(refers_to(item, document) for item in listed) for document in parts.documents):
        yield error("value", "List.entry does not hold every DocumentReference")


def set_source_issues(itself: Resource) -> Iterator[Issue]:
    source = itself.get("source")
    if contained(itself, source).get("resourceType") != "Practitioner":
        yield error("required", "List.source is not a contained Practitioner")
    author = dig(extension(source, "ihe-authorOrg"), "valueReference")
    if contained(itself, author).get("resourceType") != "Organization":
        yield error("required", "List.source has no ihe-authorOrg")


def patient_issues(parts: Parts) -> Iterator[Issue]:
    if not national_id(parts.patient["resource"]):
        yield error("required", f"Patient.identifier has none of {NATIONAL_ID}")


def document_issues(document: Resource, parts: Parts, community: str) -> Iterator[Issue]:
    """One DocumentReference."""
    if not text(document, "masterIdentifier", "value").startswith("urn:uuid:"):
        yield error("required", "DocumentReference.masterIdentifier, the unique id, is no urn:uuid:…")
    if document.get("status") != "current":
        yield error("value", "DocumentReference.status is not current")
    if not refers_to(document.get("subject"), parts.patient):
        yield error("value", "DocumentReference.subject is not the Patient in the Bundle")
    if not text(document, "date"):
        yield warning("DocumentReference.date is missing")
    yield from coding_issues("type", document.get("type"), DOCUMENT_TYPE)
    yield from coding_issues("category", dig(document, "category", 0), DOCUMENT_TYPE)
    if not is_label_list(document.get("securityLabel")):
        yield error("required", "DocumentReference.securityLabel, the confidentiality, is missing")
    yield from author_issues(document)
    yield from relation_issues(document)
    if len(objects(document.get("content"))) != 1:
        yield error("required", "DocumentReference.content is not one item")
    if not text(document, "content", 0, "format", "code"):
        yield error("required", "DocumentReference.content.format is missing")
    yield from attachment_issues(dig(document, "content", 0, "attachment"), parts, community)
    yield from context_issues(document, parts)


def author_issues(document: Resource) -> Iterator[Issue]:
    authors = [contained(document, each) for each in objects(document.get("author"))]
    roles = [each for each in authors if each.get("resourceType") == "PractitionerRole"]
    authors += [contained(document, role.get(name)) for role in roles for name in ("practitioner", "organization")]
    if not any(each.get("resourceType") == "Practitioner" and each.get("name") for each in authors):
        yield error("required", "DocumentReference.author has no person")
    organizations = [each for each in authors if each.get("resourceType") == "Organization"]
    known = [each for each in organizations if ORGANIZATION_ID in systems(each.get("identifier"))]
    if not known:
        yield error("required", f"DocumentReference.author has no organization with one of {ORGANIZATION_ID}")
    if not any(role.get("code") for role in roles) or not any(role.get("specialty") for role in roles):
        yield warning("DocumentReference.author has no role or no specialty")
    if len({text(each, "id") for each in organizations}) < 2:
        yield Issue("information", "informational", "DocumentReference.author has no department")


def relation_issues(document: Resource) -> Iterator[Issue]:
    """As the reference implementation checks `relatesTo` (ValidateDocumentRelations)."""
    relations = objects(document.get("relatesTo"))
    codes = [text(each, "code") for each in relations]
    for each in relations:
        target = text(each, "target", "reference").removeprefix("DocumentReference/").removeprefix("urn:uuid:")
        if text(each, "code") not in RELATIONS or not UUID.fullmatch(target):
            yield error("invalid", "relatesTo needs a code, and a target that is a DocumentReference's UUID")
    if len(set(codes)) < len(codes):
        yield error("invalid", "several relations of one kind are not allowed")
    if {"replaces", "appends"} <= set(codes):
        yield error("invalid", "A document cannot both replace and append to another document.")


def attachment_issues(attachment: Json, parts: Parts, community: str) -> Iterator[Issue]:
    home = text(extension(attachment, "ihe-homeCommunityId"), "valueUri")
    if not home:
        yield fatal("attachment has no ihe-homeCommunityId")
    elif home != f"urn:oid:{community}":
        yield error("code-invalid", "ihe-homeCommunityId is of another community")
    url = text(attachment, "url")
    if url not in parts.contents:
        yield fatal("attachment.url is not the fullUrl of a Binary")
    else:
        yield from content_issues(attachment, parts.contents[url], parts.content_types[url])
    for name in ("title", "creation"):
        if not text(attachment, name):
            yield warning(f"attachment.{name} is missing")


def content_issues(attachment: Json, content: bytes, content_type: str) -> Iterator[Issue]:
    if not MIME_TYPE.fullmatch(content_type) or text(attachment, "contentType") != content_type:
        yield error("value", "attachment.contentType is not a MIME type, or not the Binary's")
    bare = content_type.partition(";")[0].strip().lower()
    if bare not in MIME_TYPES:
        yield error("value", "XDSError_Code: XDSRegistryError, XDSError_CodeContext: Unsupported MimeType")
    shown = next((kind for beginning, kind in BEGINNINGS.items() if content.startswith(beginning)), bare)
    if shown != bare:
        yield error(
            "value", "XDSError_Code: XDSRegistryError, XDSError_CodeContext: MimeType does not match the document"
        )
    if dig(attachment, "size") != len(content):
        yield error("value", "attachment.size is not that of the Binary")
    if text(attachment, "hash") != base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode():
        yield error("value", "attachment.hash is not the SHA-1 of the Binary")


def context_issues(document: Resource, parts: Parts) -> Iterator[Issue]:
    context = document.get("context")
    yield from coding_issues("context.facilityType", dig(context, "facilityType"), FACILITY_TYPE)
    yield from coding_issues("context.practiceSetting", dig(context, "practiceSetting"), PRACTICE_SETTING)
    # Contained, as IHE's profile has it, or the Bundle's, as NHN's own examples have it.
    source = dig(context, "sourcePatientInfo")
    itself = contained(document, source)
    same = itself.get("resourceType") == "Patient" and national_id(itself) == national_id(parts.patient["resource"])
    if not same and not refers_to(source, parts.patient):
        yield error("value", "context.sourcePatientInfo is not the Patient in the Bundle")
    if not text(context, "period", "start") or not text(context, "period", "end"):
        yield warning("context.period, start and stop of the service, is missing")


def coding_issues(name: str, concept: Json, system: str) -> Iterator[Issue]:
    """A missing code is an error. A code that is not of the national code system is a warning."""
    given = codings(concept)
    if not given:
        yield error("required", f"DocumentReference.{name} is missing")
    elif system not in {text(each, "system") for each in given}:
        yield warning(f"DocumentReference.{name} is not of {system}")


def is_label_list(labels: Json) -> bool:
    """Whether these are security labels, each with a code."""
    return isinstance(labels, list) and bool(labels) and all(codings(each) for each in labels)


def submission_sets(bundle: Bundle) -> list[Resource]:
    def codes(entry: Resource) -> set[str]:
        return {text(each, "code") for each in codings(dig(entry, "resource", "code"))}

    return [entry for entry in bundle.entries_of("List") if SUBMISSION_SET in codes(entry)]


def national_id(patient: Resource) -> str:
    matches = [each for each in objects(patient.get("identifier")) if each.get("system") == NATIONAL_ID]
    return text(matches, 0, "value")


def identifier(resource: Resource, use: str) -> str:
    matches = [each for each in objects(resource.get("identifier")) if each.get("use") == use]
    return text(matches, 0, "value")


def systems(identifiers: Json) -> set[str]:
    return {text(each, "system") for each in objects(identifiers) if text(each, "value")}


def extension(element: Json, name: str) -> Json:
    """IHE's extension with this name, or None."""
    return next((each for each in objects(dig(element, "extension")) if each.get("url") == MHD + name), None)


def contained(resource: Resource, reference: Json) -> Resource:
    """The contained resource that a `#…` reference means, or an empty one."""
    local_id = text(reference, "reference")
    return next((each for each in objects(resource.get("contained")) if local_id == f"#{text(each, 'id')}"), {})


def fatal(text: str) -> Issue:
    return Issue("fatal", "required", text)


def warning(text: str) -> Issue:
    return Issue("warning", "business-rule", text)
