"""Every Bundle and resource that chartpost writes, judged by validators and by rules that nobody here made."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from tasks.http.clients import Clients
from tests.interop.bundle_rules import faults_by_mhd, resources, unresolved_references
from tests.interop.claims import FHIR_R4, FHIR_RESOURCES, MEDPLUM, MEDPLUM_VALIDATOR, MHD, claim
from tests.interop.node import NodeServer
from tests.interop.written import WRITTEN, Resource

# All but the DocumentReferences that are sent to FHIR servers alone.
BUNDLES = [name for name in WRITTEN if not name.startswith(("fhir, inline", "fhir, binary"))]

each = pytest.mark.parametrize("name", WRITTEN)
each_bundle = pytest.mark.parametrize("name", BUNDLES)
each_of_nhn = pytest.mark.parametrize("name", [name for name in WRITTEN if name.startswith("nhn")])

Break = Callable[[dict[str, Any]], object]
# Each takes a DocumentReference, and leaves what R4 does not allow.
BROKEN: dict[str, Break] = {
    "without what is required": lambda document: document.pop("status"),
    "with a field that is not known": lambda document: document.update(staus="current"),
    "with text where an object belongs": lambda document: document.update(type="letter"),
    "with a date that is none": lambda document: document.update(date="yesterday"),
}


@pytest.fixture(scope="module")
def medplum(packages: None) -> Iterator[str]:
    with NodeServer("fhir_server.mjs") as server:
        yield server.url


@pytest.fixture
def resource(name: str, clients: Clients) -> Resource:
    return WRITTEN[name](clients)


@pytest.fixture
def bundle(resource: Resource) -> Resource:
    assert resource["resourceType"] == "Bundle"
    return resource


def check_by_model(resource: Resource) -> None:
    """Raises ValidationError. R4B has the resources that are written here as R4 has them."""
    get_fhir_model_class(resource["resourceType"]).model_validate(resource)


def broken(bundle: Resource, how: str) -> Resource:
    changed = copy.deepcopy(bundle)
    BROKEN[how](next(entry["resource"] for entry in changed["entry"] if "content" in entry["resource"]))
    return changed


def said_by_medplum(medplum: str, resource: Resource) -> list[dict[str, Any]]:
    """The issues that Medplum's validator finds, but for its warnings that a whole address does not show a type."""
    answer = httpx.post(f"{medplum}/validate", json=resource, trust_env=False, timeout=60)
    issues: list[dict[str, Any]] = answer.json()["issue"]
    return [issue for issue in issues if not re.match(_NO_TYPE_SHOWN, issue["details"]["text"])]


_NO_TYPE_SHOWN = 'Invalid reference: got "(urn:uuid:|https?:")'


# --- validators ------------------------------------------------------------------------------------------------------


@claim("What is sent to Redox, NHN and FHIR servers is valid R4", FHIR_RESOURCES)
@each
def test_a_second_model_of_fhir_reads_what_is_sent(resource: Resource) -> None:
    check_by_model(resource)


@claim("What is sent to Redox, NHN and FHIR servers is valid R4", MEDPLUM_VALIDATOR)
@each
def test_the_validator_of_a_server_finds_nothing_in_what_is_sent(medplum: str, resource: Resource) -> None:
    assert said_by_medplum(medplum, resource) == []


@pytest.mark.parametrize("how", BROKEN)
def test_both_validators_would_say_so_if_a_bundle_were_broken(medplum: str, clients: Clients, how: str) -> None:
    wrong = broken(WRITTEN["nhn"](clients), how)
    with pytest.raises(ValidationError):
        check_by_model(wrong)
    assert said_by_medplum(medplum, wrong)


# --- references ------------------------------------------------------------------------------------------------------


@claim("Every reference in each Bundle leads to a resource", FHIR_R4)
@each_bundle
def test_every_reference_in_each_bundle_resolves(bundle: Resource) -> None:
    assert unresolved_references(bundle) == []


@claim(
    "NHN: a server that knows nothing of NHN carries the transaction out, and what it stores belongs together", MEDPLUM
)
@each_of_nhn
def test_a_server_carries_out_the_transaction(medplum: str, bundle: Resource) -> None:
    with httpx.Client(base_url=f"{medplum}/fhir/R4", trust_env=False, timeout=60) as server:
        entries = server.post("", json=bundle).raise_for_status().json()["entry"]
        assert [entry["response"]["status"] for entry in entries] == ["201"] * len(bundle["entry"])
        (document,) = (
            entry["resource"] for entry in entries if entry["resource"]["resourceType"] == "DocumentReference"
        )
        patient = server.get(document["subject"]["reference"]).raise_for_status().json()
        binary = server.get(document["content"][0]["attachment"]["url"]).raise_for_status()
    assert patient["identifier"] == resources(bundle, "Patient")[0]["identifier"]
    assert binary.content == b"some bytes"


# --- MHD -------------------------------------------------------------------------------------------------------------


@claim("NHN: the Bundle of ITI-65 is what the profile that it names asks for", MHD)
@each_of_nhn
def test_the_bundle_conforms_to_the_profile_that_it_names(bundle: Resource) -> None:
    assert faults_by_mhd(bundle) == []


Path = Callable[[Resource], dict[str, Any]]


def submission(bundle: Resource) -> dict[str, Any]:
    return dict_in(bundle, "List")


def document(bundle: Resource) -> dict[str, Any]:
    return dict_in(bundle, "DocumentReference")


def attachment(bundle: Resource) -> dict[str, Any]:
    found: dict[str, Any] = document(bundle)["content"][0]["attachment"]
    return found


def dict_in(bundle: Resource, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind)
    return found


# A part of the Bundle, a field in it, and what is wrong there: None leaves it out.
AGAINST_MHD: list[tuple[Path, str, object]] = [
    (lambda bundle: bundle, "type", "batch"),
    (lambda bundle: bundle["meta"], "profile", ["https://profiles.example/another"]),
    (lambda bundle: bundle["entry"][0]["request"], "method", "PUT"),
    (submission, "subject", None),
    (submission, "source", {"reference": "Practitioner/1"}),
    (submission, "emptyReason", {"text": "none"}),
    (lambda bundle: submission(bundle)["identifier"][0], "value", "urn:uuid:57a07380-1818-460f-85bb-81f8e4e45c42"),
    (document, "securityLabel", None),
    (document, "docStatus", "final"),
    (document, "status", "entered-in-error"),
    (document, "author", [{"reference": "Practitioner/1"}]),
    (lambda bundle: document(bundle)["masterIdentifier"], "use", None),
    (lambda bundle: document(bundle)["context"], "sourcePatientInfo", {"reference": "Patient/1"}),
    (attachment, "language", None),
    (attachment, "data", "c29tZQ=="),
    (attachment, "url", "urn:uuid:57a07380-1818-460f-85bb-81f8e4e45c42"),
    (attachment, "size", 3),
    (attachment, "hash", "c29tZQ=="),
]


@pytest.mark.parametrize(("part", "name", "wrong"), AGAINST_MHD, ids=[f"{name}" for _, name, _ in AGAINST_MHD])
def test_each_rule_of_mhd_is_noticed_where_it_is_broken(clients: Clients, part: Path, name: str, wrong: object) -> None:
    bundle = WRITTEN["nhn"](clients)
    before = faults_by_mhd(bundle)
    if wrong is None:
        part(bundle).pop(name, None)
    else:
        part(bundle)[name] = wrong
    assert set(faults_by_mhd(bundle)) - set(before)
