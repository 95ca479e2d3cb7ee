"""A FHIR server that answers whatever a test has written down, and an account at it."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

from config.accounts import FhirAccount
from tasks.http.clients import Clients
from tasks.model.job import Job
from tasks.model.route import Step
from tasks.providers.fhir_server.client import FhirServer
from tasks.providers.fhir_server.resources import URIS, document_identifier
from tests.tasks.providers.doubles import DictCache, Slots, connected, job
from tests.tasks.providers.odd_pracsuite import OddPracSuite
from tests.tasks.providers.odd_server import Reply, Request

METADATA = "GET /R4/metadata"
SMART = "GET /R4/.well-known/smart-configuration"
TOKEN = "POST /token"
CREATE = "POST /R4/DocumentReference"
UPDATE = "PUT /R4/DocumentReference"
SEARCH = "GET /R4/DocumentReference"
READ = "GET /R4/DocumentReference/d-1"
BINARY = "POST /R4/Binary"
READ_BINARY = "GET /R4/Binary/b-1"
PATIENT = "GET /R4/Patient/4711"
PATIENTS = "GET /R4/Patient"
TRANSACTION = "POST /R4"
CONTENT = b"some bytes"


def interactions(*codes: str) -> list[dict[str, str]]:
    return [{"code": code} for code in codes]


def statement(**changes: Any) -> dict[str, Any]:
    """One that offers everything but Binaries with ids of ours."""
    token = [{"name": "identifier", "type": "token"}]
    resources: dict[str, dict[str, Any]] = {
        "DocumentReference": {
            "interaction": interactions("create", "read", "update", "search-type"),
            "conditionalCreate": True,
            "conditionalUpdate": True,
            "searchParam": token,
        },
        "Binary": {"interaction": interactions("create", "read")},
        "Patient": {"interaction": interactions("read", "search-type"), "searchParam": token},
    }
    rest = {
        "mode": "server",
        "resource": [{"type": kind, **resource} for kind, resource in resources.items()],
        "interaction": interactions("transaction"),
    }
    return {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [rest]} | changes


def outcome(code: str = "processing", words: str = "its own words") -> dict[str, Any]:
    issue = {"severity": "error", "code": code, "details": {"text": words}}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def document(made: Job, content: bytes = CONTENT, **attachment: Any) -> dict[str, Any]:
    """The record of a job as a server gives it back, under the id d-1."""
    given = {
        "contentType": "application/pdf",
        "size": len(content),
        "hash": base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode(),
        "data": base64.b64encode(content).decode(),
    } | attachment
    return {
        "resourceType": "DocumentReference",
        "id": "d-1",
        "meta": {"versionId": "1"},
        "identifier": [{"system": URIS, "value": document_identifier(made)}],
        "status": "current",
        "subject": {"reference": "Patient/4711"},
        "content": [{"attachment": {name: value for name, value in given.items() if value is not None}}],
    }


def bundle(*resources: Any, **more: Any) -> dict[str, Any]:
    entries = [{"resource": each, "search": {"mode": "match"}} for each in resources]
    return {"resourceType": "Bundle", "type": "searchset", "entry": entries} | more


class OddFhir(OddPracSuite):
    """Offers everything, knows the patient 4711, takes everything and shows nothing, until a test says otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.otherwise = Reply(404, outcome("not-found"))
        self.answers |= {
            METADATA: Reply(200, statement()),
            PATIENT: Reply(200, {"resourceType": "Patient", "id": "4711", "active": True}),
            CREATE: Reply(201, headers={"Location": f"{self.base}/R4/DocumentReference/d-1/_history/1"}),
            SEARCH: Reply(200, bundle()),
        }

    def sent(self, call: str) -> list[Request]:
        """The requests that came whole."""
        wanted = [request for request in self.requests if f"{request.method} {request.path}" == call]
        return [request for request in wanted if int(request.headers.get("content-length", 0)) == len(request.body)]

    def resource(self, call: str = CREATE) -> dict[str, Any]:
        """What came last."""
        parsed: dict[str, Any] = json.loads(self.sent(call)[-1].body)
        return parsed


class AtOdd:
    """One account at an odd FHIR server, and its documents."""

    def __init__(self, odd: OddFhir, clients: Clients, **settings: Any) -> None:
        self.odd = odd
        self.slots = Slots()
        self.cache = DictCache()
        self.settings = FhirAccount.model_validate(
            {
                "provider": "fhir",
                "base_url": odd.base + "/R4",
                "auth": "none",
                "metadata": {"type": "http://loinc.org|34133-9|Summary"},
                "insecure": True,
                **settings,
            }
        )
        self.fhir = FhirServer("clinic", self.settings, connected(clients, self.slots, self.cache, insecure=True))

    def job(self, content: bytes = CONTENT, **document: Any) -> Job:
        made = job(size_bytes=len(content), account="clinic")
        return replace(made, provider="fhir", document=replace(made.document, **document), step=Step.REGISTER)
