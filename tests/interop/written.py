"""The FHIR that chartpost writes, as the providers' servers receive it: each Bundle of each kind of account."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tasks.http.clients import Clients
from tasks.providers.nhn.client import Nhn
from tests.tasks.providers.doubles import DictCache, Slots, connected, job
from tests.tasks.providers.odd_nhn import BUNDLE, OddNhn, bundle_of, located, transaction
from tests.tasks.providers.odd_redox import AtOdd, OddRedox, gate_for
from tests.tasks.providers.odd_server import Reply
from tests.tasks.providers.test_nhn import METADATA, NATIONAL_ID, account_at

Bundle = dict[str, Any]

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


def of_redox(clients: Clients, content: bytes = b"some bytes", metadata: Any = None, **document: Any) -> Bundle:
    """The message by which a document reaches Redox."""
    with OddRedox() as odd:
        at = AtOdd(odd, clients, **({"metadata": metadata} if metadata else {}))
        at.redox.register(at.job(content, **document), gate_for(content))
        return odd.message()


def of_nhn(clients: Clients, metadata: Any = METADATA, **document: Any) -> Bundle:
    """The Bundle by which a document is provided to NHN."""
    with OddNhn() as odd:
        nhn = Nhn("hospital", account_at(odd, metadata=metadata), connected(clients, Slots(), DictCache()))
        made = job(patient_id=NATIONAL_ID, account="hospital")
        made = replace(made, provider="nhn", document=replace(made.document, **document))
        odd.answers[BUNDLE] = Reply(body=transaction(located("DocumentReference/57a07380")))
        nhn.register(replace(made, facts=nhn.before_sending(made)), gate_for())
        return bundle_of(odd.to(BUNDLE)[-1])


LARGE = b"x" * 300_000
ALL_THERE_IS: dict[str, Any] = {"description": "Discharge, 2nd page", "options": {"patient": PATIENT}}

# With as little and as much as there can be.
WRITTEN: Mapping[str, Callable[[Clients], Bundle]] = {
    "redox, embedded": of_redox,
    "redox, embedded, with all there is": partial(of_redox, metadata=LOINC, **ALL_THERE_IS),
    "redox, uploaded before": partial(of_redox, content=LARGE),
    "redox, uploaded before, with all there is": partial(of_redox, content=LARGE, metadata=LOINC, **ALL_THERE_IS),
    "nhn": of_nhn,
    "nhn, with a description": partial(of_nhn, description="Epikrise, side 2"),
    "nhn, with no more of the author than a name": partial(of_nhn, metadata={**METADATA, "author": {"name": "Vits"}}),
}
