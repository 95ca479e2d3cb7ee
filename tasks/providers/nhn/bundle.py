"""The transaction Bundle of ITI-65, Provide Document Bundle: one document, its metadata, and its bytes.

After https://profiles.ihe.net/ITI/MHD/ITI-65.html (Comprehensive), NHN's page on the endpoint and, where that says
nothing, the reference implementation (https://github.com/timmo-nhn/XcaDocumentSource).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from config.accounts import NhnAccount, NhnMetadata
from tasks.model.job import Job
from tasks.providers.digests import Digests
from tasks.providers.fhir import coding, concept, fixed_id, identifier
from tasks.providers.nhn.options import Options

CONTENT_TYPE = "application/fhir+json"
_MHD = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/"
_LIST_TYPES = "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes"
_URIS = "urn:ietf:rfc:3986"
_ORGANIZATIONS = "urn:oid:2.16.578.1.12.4.1.4.101"
_REQUIRED_CODINGS = ("type", "category", "format", "facility_type", "practice_setting", "security_label")

Resource = dict[str, Any]


def missing_metadata(account: NhnAccount, metadata: NhnMetadata) -> list[str]:
    """What NHN requires of a document and its account lacks, as settings name it.

    Codes and the author are errors of the reference implementation. The number of the author's organization is what
    NHN's page tells organizations by.
    """
    names = [f"metadata.{name}" for name in _REQUIRED_CODINGS if not getattr(metadata, name)]
    if not metadata.author.name.strip():
        names.append("metadata.author.name")
    return names if account.organization.documents_number else [*names, "organization.number"]


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids in the Bundle, UUIDs. They follow from the job and its bytes, so that a second sending has the same."""

    document: str
    submission: str
    patient: str
    binary: str

    @classmethod
    def of(cls, job: Job, sha256: str) -> Ids:
        about = (job.id, job.account, job.document.patient_id or "", sha256)
        return cls(*(fixed_id("nhn", part, *about) for part in ("document", "submission", "patient", "binary")))


@dataclass(frozen=True, slots=True)
class Bundle:
    """One document as it is provided, after IHE's profile for comprehensive metadata.

    https://profiles.ihe.net/ITI/MHD/StructureDefinition-IHE.MHD.Comprehensive.DocumentReference.html: the attachment
    has a language, and author and sourcePatientInfo are contained. `at` is when it was first tried (ISO 8601, UTC).
    """

    job: Job
    account: NhnAccount
    metadata: NhnMetadata
    options: Options
    media_type: str
    digests: Digests
    ids: Ids
    at: str

    def resource(self, data: str) -> Resource:
        """The Bundle; `data` is the document in base64."""
        ids = self.ids
        binary = {"resourceType": "Binary", "contentType": self.media_type, "data": data}
        return {
            "resourceType": "Bundle",
            "meta": {"profile": [_MHD + "IHE.MHD.Comprehensive.ProvideBundle"]},
            "type": "transaction",
            "entry": [
                _entry(ids.submission, self._submission_set()),
                _entry(ids.patient, self._patient()),
                _entry(ids.binary, binary),
                _entry(ids.document, self._document()),
            ],
        }

    def _submission_set(self) -> Resource:
        usual = f"urn:oid:2.25.{UUID(self.ids.submission).int}"
        author = _extension("ihe-authorOrg", "valueReference", {"reference": "#organization"})
        return {
            "resourceType": "List",
            "contained": [self._person(), self._organization()],
            "extension": [
                _extension("ihe-designationType", "valueCodeableConcept", concept(self.metadata.type)),
                _extension("ihe-sourceId", "valueIdentifier", {"value": self._community}),
            ],
            "identifier": [
                {"use": "usual", "system": _URIS, "value": usual},
                {"use": "official", "system": _URIS, "value": _urn(self.ids.submission)},
            ],
            "status": "current",
            "mode": "working",
            "code": {"coding": [{"system": _LIST_TYPES, "code": "submissionset"}]},
            "subject": {"reference": _urn(self.ids.patient)},
            "date": self.at,
            "source": {"reference": "#person", "extension": [author]},
            "entry": [{"item": {"reference": _urn(self.ids.document)}}],
        }

    def _document(self) -> Resource:
        metadata, description = self.metadata, self.job.document.description
        relations = [
            {"code": code, "target": {"reference": f"DocumentReference/{target}"}}
            for code, target in self.options.relates_to
        ]
        return {
            "resourceType": "DocumentReference",
            "contained": [self._person(), self._organization(), _ROLE, {**self._patient(), "id": "patient"}],
            "masterIdentifier": {"use": "usual", "system": _URIS, "value": _urn(self.ids.document)},
            "status": "current",
            "type": concept(metadata.type),
            "category": [concept(metadata.category)],
            "subject": {"reference": _urn(self.ids.patient)},
            "date": self.at,
            "author": [{"reference": each} for each in ("#person", "#role", "#organization")],
            **({"relatesTo": relations} if relations else {}),
            **({"description": description} if description else {}),
            "securityLabel": [concept(metadata.security_label)],
            "content": [{"attachment": self._attachment(), "format": coding(metadata.format)}],
            "context": {
                "facilityType": concept(metadata.facility_type),
                "practiceSetting": concept(metadata.practice_setting),
                "sourcePatientInfo": {"reference": "#patient"},
            },
        }

    def _attachment(self) -> Resource:
        return {
            "extension": [_extension("ihe-homeCommunityId", "valueUri", self._community)],
            "contentType": self.media_type,
            "language": self.metadata.language,
            "url": _urn(self.ids.binary),
            "size": self.job.document.size_bytes,
            # SHA-1 of the raw bytes, as FHIR's Attachment has it.
            "hash": self.digests.attachment_hash,
            "title": self.options.title or self.job.document.file_name,
            "creation": self.options.created or self.at,
        }

    def _person(self) -> Resource:
        author = self.metadata.author
        # One name in the settings, two kinds of name in FHIR: the last word is the family's.
        given, _, family = author.name.strip().rpartition(" ")
        name = {"text": author.name, "family": family} | ({"given": given.split()} if given else {})
        known = {"identifier": [identifier(author.identifier)]} if author.identifier else {}
        return {"resourceType": "Practitioner", "id": "person", "name": [name], **known}

    def _organization(self) -> Resource:
        organization = self.account.organization
        number = {"system": _ORGANIZATIONS, "value": organization.documents_number}
        name = {"name": organization.name} if organization.name else {}
        return {"resourceType": "Organization", "id": "organization", "identifier": [number], **name}

    def _patient(self) -> Resource:
        national_id = {"system": self.account.patient_system, "value": self.job.document.patient_id}
        return {"resourceType": "Patient", "identifier": [national_id], **self.options.patient}

    @property
    def _community(self) -> str:
        return f"urn:oid:{self.account.home_community_id}"


_ROLE = {
    "resourceType": "PractitionerRole",
    "id": "role",
    "practitioner": {"reference": "#person"},
    "organization": {"reference": "#organization"},
}


def _entry(id_: str, resource: Resource) -> Resource:
    kind = resource["resourceType"]
    return {"fullUrl": _urn(id_), "resource": {"id": id_, **resource}, "request": {"method": "POST", "url": kind}}


def _extension(name: str, kind: str, value: object) -> Resource:
    return {"url": _MHD + name, kind: value}


def _urn(id_: str) -> str:
    return f"urn:uuid:{id_}"
