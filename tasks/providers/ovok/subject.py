"""Whose Ovok document it is: its `subject`, which Ovok's document API does not set and its FHIR API does.

Ovok documents are DocumentReferences of the Medplum behind Ovok, and the same token opens its FHIR API
(https://docs.ovok.com/platform/architecture). FHIR R4: https://hl7.org/fhir/R4/http.html#patch and #concurrency. R5
has the same `subject`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.http.api import not_understood, parse_answer
from tasks.http.exchange import Answer
from tasks.http.json_values import moment
from tasks.model.document import Document
from tasks.model.errors import About, Code, DocumentRefused, RetryLater, invalid_request
from tasks.providers.auth.bearer import BearerApi
from tasks.providers.connection import Cache
from tasks.providers.ovok.answers import FHIR_STATUSES, NAME, WRITE_STATUSES

_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")  # https://hl7.org/fhir/R4/datatypes.html#id
_PATIENT = re.compile(r"(?:^|/)Patient/([A-Za-z0-9.-]{1,64})(?:/_history/.*)?$")
_KNOWN_SECONDS = 600.0
_GONE = (404, 410)
# What a server may answer to a PATCH that it does not offer in this form. Then the whole resource goes, by PUT.
_NO_PATCH = (400, 404, 405, 415, 422, 501)


class DocumentReference(BaseModel):
    """An Ovok document as the FHIR API shows it. All of it is kept: by PUT it goes back. It holds the publicToken."""

    model_config = ConfigDict(extra="allow")

    resourceType: str  # noqa: N815, as FHIR writes it
    id: str
    meta: Any = None
    subject: Any = None

    @property
    def patient(self) -> str:
        """The id of the patient whom it belongs to; empty if it belongs to none."""
        reference = self.subject.get("reference") if isinstance(self.subject, Mapping) else None
        match = _PATIENT.search(reference) if isinstance(reference, str) else None
        return match[1] if match else ""

    @property
    def changed_at(self) -> datetime | None:
        return moment(self._meta("lastUpdated"))

    @property
    def etag(self) -> str:
        """As If-Match has it; empty if it has no version."""
        version = self._meta("versionId")
        return f'W/"{version}"' if isinstance(version, str) and _ID.fullmatch(version) else ""

    def _meta(self, name: str) -> Any:
        return self.meta.get(name) if isinstance(self.meta, Mapping) else None


def check_patient_id(document: Document) -> None:
    """Raises DocumentRefused for a patient's id that no FHIR server can have."""
    if document.patient_id is not None and not _ID.fullmatch(document.patient_id):
        raise invalid_request(
            "The patient's id is not one of Ovok's: those are of letters, digits, . and - alone, 64 at most.",
            "Name the folder by the id of the Patient in Ovok, or send it without a patient. If documents are to have "
            "no patient in Ovok at all, set set_patient = false for this account.",
            about=About.PATIENT,
        )


class Subjects:
    """Reads and sets the subjects of Ovok documents. All methods raise RetryLater and AccountBlocked."""

    def __init__(self, api: BearerApi, version: str, cache: Cache, scope: str) -> None:
        """`version` is FHIR's, as the path has it. `scope` tells logins apart, which may see different patients."""
        self._api = api
        self._base = ("fhir", version)
        self._cache = cache
        self._scope = scope

    def check_patient(self, patient_id: str) -> None:
        """Raises DocumentRefused if Ovok has no such patient. That was asked within ten minutes, or is asked now."""
        topic, key = "ovok patient", f"{self._scope} {patient_id}"
        if self._cache.get(topic, key):
            return
        answer = self._get("Patient", patient_id)
        if answer.status in _GONE:
            raise DocumentRefused(
                Code.REFUSED_BY_PROVIDER,
                "Ovok knows no such patient.",
                hint="Check the id: it is that of the Patient in Ovok. Then send it again, or without a patient.",
                about=About.PATIENT,
            )
        FHIR_STATUSES.success(answer)
        self._cache.put(topic, key, "1", _KNOWN_SECONDS)

    def check_free(self, document_id: str, patient_id: str) -> None:
        """Raises DocumentRefused if the Ovok document is another patient's, since a file must not change charts."""
        document = self._read(document_id)
        if document and document.patient not in ("", patient_id):
            raise DocumentRefused(
                Code.REFUSED_BY_PROVIDER,
                "The document that document_id names belongs to another patient in Ovok.",
                hint="Check document_id and the patient: one of them is wrong.",
                about=About.PATIENT,
            )

    def ensure(self, document_id: str, patient_id: str) -> str:
        """Make the Ovok document the patient's, if it is not yet. Harmless when repeated, or done by two at once.

        Returns "" once Ovok has shown that it is, else a sentence that says why it is not.
        """
        document = self._read(document_id)
        if document is None:
            return f"Ovok's document {document_id} has the file, and no patient: Ovok's FHIR API does not show it."
        if document.patient == patient_id:
            return ""
        if document.patient:
            return f"Ovok's document {document_id} has the file, and belongs to another patient by now."
        answer = self._write(document, {"reference": f"Patient/{patient_id}"})
        if answer.status in (409, 412):
            raise RetryLater("Ovok's document was changed by somebody else just now.")
        if answer.status in _NO_PATCH and answer.status < 500:
            return (
                f"Ovok's document {document_id} has the file, and no patient: Ovok refused that ({answer.status}). "
                "Assign it there."
            )
        WRITE_STATUSES.success(answer)
        shown = _document_in(answer, document_id) or self._read(document_id)
        if shown is None or shown.patient != patient_id:
            return f"Ovok's document {document_id} has the file, and does not show the patient that it was given."
        return ""

    def changed_at(self, document_id: str) -> datetime | None:
        """When the Ovok document was last changed; None if the FHIR API does not say."""
        document = self._read(document_id)
        return document.changed_at if document else None

    def probe(self) -> None:
        """Raises AccountBlocked if there is no FHIR API, or this login may not read documents there."""
        answer = self._api.send(lambda api: api.call("GET", *self._base, "DocumentReference", params=[("_count", "1")]))
        parse_answer(FHIR_STATUSES.success(answer), _Resource, f"{NAME}'s FHIR API")

    def _get(self, kind: str, id_: str) -> Answer:
        return self._api.send(lambda api: api.call("GET", *self._base, kind, id_, headers=_ACCEPT))

    def _read(self, document_id: str) -> DocumentReference | None:
        """None if the FHIR API does not have it."""
        answer = self._get("DocumentReference", document_id)
        if answer.status in _GONE:
            return None
        document = _document_in(FHIR_STATUSES.success(answer), document_id)
        if document is None:
            raise not_understood(f"{NAME}'s FHIR API", "another resource than was asked for")
        return document

    def _write(self, document: DocumentReference, subject: Mapping[str, str]) -> Answer:
        """Set the subject by PATCH, which leaves alone what others change; else by PUT of the whole that was read."""
        match = {"If-Match": document.etag} if document.etag else {}
        path = (*self._base, "DocumentReference", document.id)
        patch = json.dumps([{"op": "add", "path": "/subject", "value": dict(subject)}]).encode()
        headers = {**_ACCEPT, **match, "Content-Type": "application/json-patch+json"}
        answer = self._api.send(lambda api: api.call("PATCH", *path, content=patch, headers=headers))
        if answer.status not in _NO_PATCH:
            return answer
        whole = json.dumps({**document.model_dump(exclude_unset=True), "subject": dict(subject)}).encode()
        headers = {**_ACCEPT, **match, "Content-Type": "application/fhir+json"}
        return self._api.send(lambda api: api.call("PUT", *path, content=whole, headers=headers))


_ACCEPT = {"Accept": "application/fhir+json, application/json"}


class _Resource(BaseModel):
    resourceType: str  # noqa: N815, as FHIR writes it


def _document_in(answer: Answer, document_id: str) -> DocumentReference | None:
    """The DocumentReference of this id, if that is what was answered."""
    if answer.too_large:
        return None
    try:
        document = DocumentReference.model_validate_json(answer.body)
    except ValidationError:
        return None
    return document if (document.resourceType, document.id) == ("DocumentReference", document_id) else None
