"""Every Bundle that chartpost writes, judged by validators and by rules that nobody here made."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle as CheckedBundle
from pydantic import ValidationError

from tasks.http.clients import Clients
from tests.interop.bundle_rules import faults_by_mhd, resources, unresolved_references
from tests.interop.claims import FHIR_R4, FHIR_RESOURCES, MEDPLUM, MEDPLUM_VALIDATOR, MHD, claim
from tests.interop.node import NodeServer
from tests.interop.written import WRITTEN, Bundle

NAMES = tuple(WRITTEN)
OF_NHN = tuple(name for name in NAMES if name.startswith("nhn"))

each_bundle = pytest.mark.parametrize("name", NAMES)
each_of_nhn = pytest.mark.parametrize("name", OF_NHN)

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
def bundle(name: str, clients: Clients) -> Bundle:
    return WRITTEN[name](clients)


def broken(bundle: Bundle, how: str) -> Bundle:
    changed = copy.deepcopy(bundle)
    BROKEN[how](next(entry["resource"] for entry in changed["entry"] if "content" in entry["resource"]))
    return changed


def said_by_medplum(medplum: str, resource: Bundle) -> list[dict[str, Any]]:
    """The issues that Medplum's validator finds, but for its warnings that a urn:uuid: does not show a type."""
    answer = httpx.post(f"{medplum}/validate", json=resource, trust_env=False, timeout=60)
    issues: list[dict[str, Any]] = answer.json()["issue"]
    return [issue for issue in issues if not issue["details"]["text"].startswith('Invalid reference: got "urn:uuid:')]


# --- validators ------------------------------------------------------------------------------------------------------


@claim("Each Bundle for Redox and NHN, with all resources in it, is valid R4", FHIR_RESOURCES)
@each_bundle
def test_a_second_model_of_fhir_reads_each_bundle(bundle: Bundle) -> None:
    """R4B, which has the resources of these Bundles as R4 has them."""
    assert CheckedBundle.model_validate(bundle).model_dump(exclude_none=True)["resourceType"] == "Bundle"


@claim("Each Bundle for Redox and NHN, with all resources in it, is valid R4", MEDPLUM_VALIDATOR)
@each_bundle
def test_the_validator_of_a_server_finds_nothing_in_each_bundle(medplum: str, bundle: Bundle) -> None:
    assert said_by_medplum(medplum, bundle) == []


@pytest.mark.parametrize("how", BROKEN)
def test_both_validators_would_say_so_if_a_bundle_were_broken(medplum: str, clients: Clients, how: str) -> None:
    wrong = broken(WRITTEN["nhn"](clients), how)
    with pytest.raises(ValidationError):
        CheckedBundle.model_validate(wrong)
    assert said_by_medplum(medplum, wrong)


# --- references ------------------------------------------------------------------------------------------------------


@claim("Every reference in each Bundle leads to a resource", FHIR_R4)
@each_bundle
def test_every_reference_in_each_bundle_resolves(bundle: Bundle) -> None:
    assert unresolved_references(bundle) == []


@claim(
    "NHN: a server that knows nothing of NHN carries the transaction out, and what it stores belongs together", MEDPLUM
)
@pytest.mark.parametrize("name", OF_NHN)
def test_a_server_carries_out_the_transaction(medplum: str, bundle: Bundle) -> None:
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
@pytest.mark.parametrize("name", OF_NHN)
def test_the_bundle_conforms_to_the_profile_that_it_names(bundle: Bundle) -> None:
    assert faults_by_mhd(bundle) == []


Path = Callable[[Bundle], dict[str, Any]]


def submission(bundle: Bundle) -> dict[str, Any]:
    return dict_in(bundle, "List")


def document(bundle: Bundle) -> dict[str, Any]:
    return dict_in(bundle, "DocumentReference")


def attachment(bundle: Bundle) -> dict[str, Any]:
    found: dict[str, Any] = document(bundle)["content"][0]["attachment"]
    return found


def dict_in(bundle: Bundle, kind: str) -> dict[str, Any]:
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
