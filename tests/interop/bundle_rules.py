"""Rules of R4 and of IHE for Bundles that no validator at hand checks, written down from their published texts."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Resource = Mapping[str, Any]

_MHD = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/"
_LIST_TYPES = "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes"
_URIS = "urn:ietf:rfc:3986"


def resources(bundle: Resource, kind: str = "") -> list[Resource]:
    """The Bundle's resources, of one kind if it is given."""
    found = [entry["resource"] for entry in bundle["entry"]]
    return [each for each in found if kind in ("", each["resourceType"])]


# --- references ------------------------------------------------------------------------------------------------------


def unresolved_references(bundle: Resource) -> list[str]:
    """The references that lead to nothing (https://hl7.org/fhir/R4/bundle.html#references).

    A relative one is completed by the address that the entry's own fullUrl begins with, so under a urn: it leads
    nowhere; in a transaction, the server's own address completes it. A fragment names a contained resource.
    """
    places = {entry["fullUrl"] for entry in bundle["entry"]}
    return [
        f"{entry['resource']['resourceType']} {reference}"
        for entry in bundle["entry"]
        for reference in _references(entry["resource"])
        if not _resolves(reference, entry, places, transaction=bundle["type"] == "transaction")
    ]


def _resolves(reference: str, entry: Resource, places: set[str], *, transaction: bool) -> bool:
    if reference.startswith("#"):
        contained = entry["resource"].get("contained", [])
        return reference == "#" or reference[1:] in {each["id"] for each in contained}
    if re.match(r"https?://", reference):
        return True
    if reference.startswith("urn:"):
        return reference in places
    base = re.match(r"(https?://.*/)[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}$", entry["fullUrl"])
    return transaction or (base is not None and base[1] + reference in places)


def _references(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _references(each)


# --- MHD -------------------------------------------------------------------------------------------------------------


def faults_by_mhd(bundle: Resource) -> list[str]:
    """What keeps a Bundle of ITI-65 with one patient's documents from being what "Comprehensive" means in MHD.

    By version 4.2.3 (https://profiles.ihe.net/ITI/MHD/StructureDefinition-IHE.MHD.Comprehensive.ProvideBundle.html, and
    there IHE.MHD.Comprehensive.DocumentReference with the two that it is derived from, IHE.MHD.UniqueIdIdentifier and
    IHE.MHD.Comprehensive.SubmissionSet) and https://profiles.ihe.net/ITI/MHD/ITI-65.html, 2:3.65.4.1.2.
    """
    return [
        *_faults_of_bundle(bundle),
        *(fault for each in resources(bundle, "List") for fault in _faults_of_submission_set(each)),
        *(fault for each in resources(bundle, "DocumentReference") for fault in _faults_of_document(each, bundle)),
    ]


def _faults_of_bundle(bundle: Resource) -> Iterator[str]:
    kinds = [each["resourceType"] for each in resources(bundle)]
    if _MHD + "IHE.MHD.Comprehensive.ProvideBundle" not in bundle.get("meta", {}).get("profile", ()):
        yield "Bundle.meta.profile does not name the profile"
    if bundle["type"] != "transaction":
        yield "Bundle.type is not transaction"
    if kinds.count("List") != 1:  # this project makes no folders
        yield "there is not one SubmissionSet"
    if kinds.count("Patient") > 1:
        yield "there is more than one Patient"
    if set(kinds) - {"List", "DocumentReference", "Binary", "Patient"}:
        yield "there is a resource that is not part of ITI-65"
    for entry in bundle["entry"]:
        allowed = ("POST", "GET", "PUT") if entry["resource"]["resourceType"] == "Patient" else ("POST",)
        if entry["request"]["method"] not in allowed:
            yield f"{entry['resource']['resourceType']} is sent by {entry['request']['method']}"


def _faults_of_submission_set(submission: Resource) -> Iterator[str]:
    yield from _missing(submission, "List", "subject", "date", "source", "code", "identifier")
    yield from _forbidden(submission, "List", "modifierExtension", "encounter", "orderedBy", "emptyReason")
    if (submission["status"], submission["mode"]) != ("current", "working"):
        yield "List is not current and working"
    if {"system": _LIST_TYPES, "code": "submissionset"} not in submission["code"]["coding"]:
        yield "List.code is not submissionset"
    for name in ("ihe-designationType", "ihe-sourceId"):
        if [each["url"] for each in submission.get("extension", ())].count(_MHD + name) != 1:
            yield f"List has not one extension {name}"
    for source in _extensions(submission, "ihe-sourceId"):
        if not re.fullmatch(r"urn:oid:[0-2](\.[0-9]+)+", source["valueIdentifier"]["value"]):
            yield "List's sourceId is no OID"
    unique = [each for each in submission["identifier"] if each.get("use") == "usual"]
    if len(unique) != 1 or not unique[0]["value"].startswith("urn:oid:"):
        yield "List has not one usual identifier that is an OID"
    yield from (fault for each in unique for fault in _faults_of_identifier(each, "List.identifier", "uniqueId"))
    for each in submission["identifier"]:
        if each.get("use") == "official":
            yield from _faults_of_identifier(each, "List.identifier", "entryUUID")
    if not _is_contained(submission["source"], submission, "Practitioner", "PractitionerRole", "Device", "Patient"):
        yield "List.source is not contained"
    for each in _extensions(submission["source"], "ihe-authorOrg"):
        if not _is_contained(each["valueReference"], submission, "Organization"):
            yield "List.source's authorOrg is not a contained Organization"
    for entry in submission.get("entry", ()):
        yield from _forbidden(entry, "List.entry", "flag", "deleted", "date")
        yield from _missing(entry, "List.entry", "item")


def _faults_of_document(document: Resource, bundle: Resource) -> Iterator[str]:
    name, context = "DocumentReference", document.get("context", {})
    (content, *others), attachment = document["content"], document["content"][0]["attachment"]
    yield from _missing(document, name, "masterIdentifier", "type", "category", "subject", "securityLabel", "context")
    yield from _forbidden(document, name, "modifierExtension", "docStatus")
    yield from _missing(content, f"{name}.content", "format")
    yield from _missing(attachment, f"{name}.content.attachment", "contentType", "language", "creation", "url")
    yield from _forbidden(attachment, f"{name}.content.attachment", "data")
    yield from _missing(context, f"{name}.context", "facilityType", "practiceSetting", "sourcePatientInfo")
    if others or len(document.get("category", ())) != 1:
        yield f"{name} has more than one content, or not one category"
    if document["status"] not in ("current", "superseded"):
        yield f"{name}.status is neither current nor superseded"
    yield from _faults_of_identifier(document.get("masterIdentifier", {}), f"{name}.masterIdentifier", "uniqueId")
    for each in document.get("author", ()):
        if not _is_contained(each, document):
            yield f"{name}.author is not contained"
    if "sourcePatientInfo" in context and not _is_contained(context["sourcePatientInfo"], document, "Patient"):
        yield f"{name}.context.sourcePatientInfo is not a contained Patient"
    yield from _faults_of_bytes(attachment, bundle)


def _faults_of_identifier(identifier: Resource, name: str, kind: str) -> Iterator[str]:
    """`use` tells the kinds apart. From 4.2.4 on, `type` must do so (CP-ITI-1328), which 4.2.3 allows."""
    if identifier.get("system") != _URIS or not identifier.get("value"):
        yield f"{name} has no system or value"
    if identifier.get("use") != {"uniqueId": "usual", "entryUUID": "official"}[kind]:
        yield f"{name}.use does not say that it is the {kind}"
    if kind == "entryUUID" and not str(identifier.get("value")).startswith("urn:uuid:"):
        yield f"{name} is no UUID"


def _faults_of_bytes(attachment: Resource, bundle: Resource) -> Iterator[str]:
    """The document is in the Bundle, and size and hash are those of its raw bytes (2:3.65.4.1.2.1)."""
    found = [entry["resource"] for entry in bundle["entry"] if entry["fullUrl"] == attachment.get("url")]
    if [each["resourceType"] for each in found] != ["Binary"]:
        yield "the attachment's url leads to no Binary in the Bundle"
        return
    content = base64.b64decode(found[0]["data"])
    if attachment["size"] != len(content):
        yield "the attachment's size is not that of the bytes"
    if base64.b64decode(attachment["hash"]) != hashlib.sha1(content, usedforsecurity=False).digest():
        yield "the attachment's hash is not the SHA-1 of the bytes"


def _is_contained(reference: Resource, resource: Resource, *kinds: str) -> bool:
    found = [each for each in resource.get("contained", ()) if "#" + each["id"] == reference.get("reference")]
    return bool(found) and (not kinds or found[0]["resourceType"] in kinds)


def _extensions(resource: Resource, name: str) -> Sequence[Resource]:
    return [each for each in resource.get("extension", ()) if each["url"] == _MHD + name]


def _missing(resource: Resource, path: str, *names: str) -> Iterator[str]:
    return (f"{path}.{name} is missing" for name in names if not resource.get(name))


def _forbidden(resource: Resource, path: str, *names: str) -> Iterator[str]:
    return (f"{path}.{name} is there" for name in names if name in resource)
