"""The FHIR that chartpost writes, as the providers' servers receive it: Bundles, and DocumentReferences alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from config.accounts import FhirAccount
from tasks.http.clients import Clients
from tasks.providers.fhir_server.client import FhirServer
from tasks.providers.nhn.client import Nhn
from tests.tasks.providers.doubles import DictCache, Slots, connected, job
from tests.tasks.providers.odd_nhn import BUNDLE, OddNhn, bundle_of, located, transaction
from tests.tasks.providers.odd_redox import AtOdd, OddRedox, gate_for
from tests.tasks.providers.odd_server import OddServer, Reply
from tests.tasks.providers.test_nhn import METADATA, NATIONAL_ID, account_at

Resource = dict[str, Any]

PATIENT = {
    "name": [{"use": "official", "family": "Meier", "given": ["Anna", "Maria"]}],
    "birthDate": "1980-12-31",
    "gender": "female",
    "identifier": [{"system": "urn:oid:2.999.7", "value": "A-12"}],
    "telecom": [{"system": "phone", "value": "+49 30 1234", "use": "home"}],
    "address": [{"line": ["Am Markt 1"], "city": "Berlin", "postalCode": "10115"}],
}
LOINC = {
    "type": "http://loinc.org|34133-9|Summary of episode note",
    "category": "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category|clinical-note",
    "format": "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode|urn:ihe:iti:xds:2017:mimeTypeSufficient",
    "facility_type": "http://snomed.info/sct|225728007|Accident and Emergency department",
    "practice_setting": "http://snomed.info/sct|408467006|Adult mental illness",
    "security_label": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality|N|normal",
    "author": {"name": "Anna Berg", "identifier": "urn:oid:2.999.8|9144900"},
}


def of_redox(
    clients: Clients, content: bytes = b"some bytes", settings: Mapping[str, Any] | None = None, **document: Any
) -> Resource:
    """The message by which a document reaches Redox."""
    with OddRedox() as odd:
        at = AtOdd(odd, clients, **(settings or {}))
        at.redox.register(at.job(content, **document), gate_for(content))
        return odd.message()


def of_nhn(clients: Clients, metadata: Any = METADATA, **document: Any) -> Resource:
    """The Bundle by which a document is provided to NHN."""
    with OddNhn() as odd:
        nhn = Nhn("hospital", account_at(odd, metadata=metadata), connected(clients, Slots(), DictCache()))
        made = job(patient_id=NATIONAL_ID, account="hospital")
        made = replace(made, provider="nhn", document=replace(made.document, **document))
        odd.answers[BUNDLE] = Reply(body=transaction(located("DocumentReference/57a07380")))
        nhn.register(replace(made, facts=nhn.before_sending(made)), gate_for())
        return bundle_of(odd.to(BUNDLE)[-1])


def of_fhir(clients: Clients, payload: str, metadata: Any = None, **document: Any) -> Resource:
    """The resource by which a document reaches a FHIR server: a DocumentReference or a transaction."""
    with OddServer() as odd:
        kinds = dict.fromkeys(("DocumentReference", "Binary", "Patient"), CAN_DO)
        rest = {"mode": "server", "interaction": [{"code": "transaction"}]}
        rest["resource"] = [{"type": kind, **can_do} for kind, can_do in kinds.items()]
        statement = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [rest]}
        made = located("DocumentReference/made")
        odd.answers = {
            "GET /fhir/metadata": Reply(body=statement),
            "POST /fhir/Binary": Reply(201, headers={"Location": "Binary/uploaded"}),
            "POST /fhir/DocumentReference": Reply(201, headers={"Location": "DocumentReference/made"}),
            "POST /fhir": Reply(body=transaction(made)),
        }
        account = {"provider": "fhir", "base_url": odd.base + "/fhir", "auth": "none", "insecure": True}
        account |= {"check_patient": False, "payload": payload, "metadata": metadata or {"type": LOINC["type"]}}
        fhir = FhirServer("hospital", FhirAccount.model_validate(account), connected(clients, Slots(), DictCache()))
        sent = job(account="hospital")
        sent = replace(sent, provider="fhir", document=replace(sent.document, **document))
        fhir.register(replace(sent, facts=fhir.before_sending(sent)), gate_for())
        found: Resource = json.loads(next(each.body for each in odd.requests[::-1] if each.method == "POST"))
        return found


CAN_DO = {
    "interaction": [{"code": code} for code in ("create", "read", "update", "search-type")],
    "searchParam": [{"name": "identifier"}],
    "conditionalCreate": True,
}
FHIR_OPTIONS: dict[str, Any] = {
    "patient": "Patient/123",
    "author": "Practitioner/1",
    "authenticator": "Practitioner/2",
    "custodian": "Organization/3",
    "encounter": "Encounter/4",
    "title": "Discharge letter",
    "period": {"start": "2026-11-20", "end": "2026-11-21T10:00:00+01:00"},
}
PAYLOADS = ("inline", "binary", "transaction")
LARGE = b"x" * 300_000
SOURCE = "57a07380-1818-460f-85bb-81f8e4e45c42"
REDOX_OPTIONS: dict[str, Any] = {
    "patient": PATIENT,
    "encounter": "urn:oid:2.999.3|V-17",
    "authenticator": {"name": "Berta Ohm", "identifier": "urn:oid:2.999.8|17"},
    "doc_status": "final",
    "period": {"start": "2026-11-20", "end": "2026-11-21T10:00:00Z"},
    "title": "Discharge letter",
}
OF_THE_DESTINATION: dict[str, Any] = {
    "patient_reference": "Patient/17",
    "encounter": "Encounter/17",
    "authenticator": "Practitioner/17",
}
ALL_OF_REDOX: dict[str, Any] = {
    "settings": {"metadata": LOINC, "source_id": SOURCE},
    "description": "Discharge, 2nd page",
    "options": REDOX_OPTIONS,
}
NHN_OPTIONS: dict[str, Any] = {
    "patient": {"name": [{"family": "Lie", "given": ["Kari"]}], "birthDate": "1969-11-13", "gender": "female"},
    "created": "2026-11-20T08:15:00+01:00",
    "title": "Epikrise",
    "replaces": "57a07380-1818-460f-85bb-81f8e4e45c42",
}

# With as little and as much as there can be.
WRITTEN: Mapping[str, Callable[[Clients], Resource]] = {
    "redox, embedded": of_redox,
    "redox, embedded, with all there is": partial(of_redox, **ALL_OF_REDOX),
    "redox, embedded, about what is at the destination": partial(of_redox, options=OF_THE_DESTINATION),
    "redox, uploaded before": partial(of_redox, content=LARGE),
    "redox, uploaded before, with all there is": partial(of_redox, content=LARGE, **ALL_OF_REDOX),
    "nhn": of_nhn,
    "nhn, with a description": partial(of_nhn, description="Epikrise, side 2"),
    "nhn, with all there is": partial(of_nhn, options=NHN_OPTIONS),
    "nhn, with no more of the author than a name": partial(of_nhn, metadata={**METADATA, "author": {"name": "Vits"}}),
    **{f"fhir, {payload}": partial(of_fhir, payload=payload) for payload in PAYLOADS},
    **{
        f"fhir, {payload}, with all there is": partial(
            of_fhir, payload=payload, metadata=LOINC, description="Discharge, 2nd page", options=FHIR_OPTIONS
        )
        for payload in PAYLOADS
    },
}
