"""The sandbox's FHIR server as the specification describes one."""

import base64
import hashlib
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from joserfc.jwk import RSAKey

from sandbox.providers.fhir_login import BEARER, CLIENT_ID, CLIENT_SECRET, PASSWORD, USER
from sandbox.providers.fhir_server import PATIENT_SYSTEM
from tests.harness.sandbox import SandboxProcess
from tests.sandbox.providers.signing import ASSERTION_TYPE, assertion_claims, signed

Json = dict[str, Any]
FHIR = {"Content-Type": "application/fhir+json"}
SYSTEM = "urn:ietf:rfc:3986"


class Server:
    """A caller with the printed account."""

    def __init__(self, sandbox: SandboxProcess) -> None:
        self.settings = sandbox.settings["accounts"]["fhir_clinic"]
        self.sandbox = sandbox
        self.http = httpx.Client(base_url=self.settings["base_url"], trust_env=False, timeout=60)
        configuration = self.http.get("/.well-known/smart-configuration").json()
        self.token_url: str = configuration["token_endpoint"]
        self.key = RSAKey.import_key(self.settings["private_key"])
        self.http.headers["Authorization"] = f"Bearer {BEARER}"

    def assertion(self, key: RSAKey | None = None, **changes: Any) -> str:
        header = {"alg": "RS384", "kid": self.settings["key_id"], "typ": "JWT"}
        return signed(key or self.key, header, assertion_claims(CLIENT_ID, self.token_url, 300), **changes)

    def token(self, auth: Any = None, **form: str) -> httpx.Response:
        grant = {"grant_type": "client_credentials", "scope": "system/DocumentReference.crs"}
        with httpx.Client(trust_env=False) as http:
            return http.post(self.token_url, data=grant | form, auth=auth)

    def proven(self, assertion: str) -> httpx.Response:
        return self.token(client_assertion=assertion, client_assertion_type=ASSERTION_TYPE)

    def create(self, resource: Json, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post("/DocumentReference", json=resource, headers=FHIR | named)

    def charts(self, patient: str) -> list[dict[str, Any]]:
        return self.sandbox.charts(provider="fhir", patient_id=patient)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    process = SandboxProcess("--providers", "fhir")
    yield process
    log = process.log()
    assert process.stop() == 0
    assert "Traceback" not in log, log


@pytest.fixture
def changed(sandbox: SandboxProcess) -> Iterator[SandboxProcess]:
    yield sandbox
    sandbox.world(reset=True)


@pytest.fixture(scope="module")
def server(sandbox: SandboxProcess) -> Server:
    return Server(sandbox)


def document(patient: str, title: str = "note.pdf", inline: bytes = b"some bytes", **changes: Any) -> Json:
    attachment = {"contentType": "application/pdf", "title": title, "data": base64.b64encode(inline).decode()}
    resource = {
        "resourceType": "DocumentReference",
        "identifier": [{"system": SYSTEM, "value": f"urn:uuid:{uuid.uuid4()}"}],
        "status": "current",
        "type": {"coding": [{"system": "http://loinc.org", "code": "34133-9"}]},
        "category": [{"coding": [{"system": "urn:x", "code": "clinical-note"}]}],
        "subject": {"reference": f"Patient/{patient}"},
        "date": "2026-05-01T10:00:00.000+00:00",
        "content": [{"attachment": attachment}],
    } | changes
    return {name: value for name, value in resource.items() if value is not None}


def fresh() -> str:
    return f"p{uuid.uuid4().hex[:10]}"


def condition(resource: Json) -> str:
    return f"identifier={SYSTEM}|{resource['identifier'][0]['value']}"


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_is_given_for_an_assertion_or_a_secret(server: Server) -> None:
    for answer in (
        server.proven(server.assertion()),
        server.token(auth=(CLIENT_ID, quote(CLIENT_SECRET, safe=""))),
        server.token(client_id=CLIENT_ID, client_secret=CLIENT_SECRET),
    ):
        assert answer.status_code == 200, answer.text
        given = answer.json()
        assert given["token_type"].lower() == "bearer"
        headers = {"Authorization": f"Bearer {given['access_token']}"}
        assert server.http.get("/Patient/1", headers=headers).status_code == 200


WRONG: dict[str, Json] = {
    "algorithm": {"alg": "RS256"},
    "kid": {"kid": "another"},
    "aud": {"aud": "https://elsewhere.example/token"},
    "iss": {"iss": "another"},
    "no jti": {"jti": None},
    "expired": {"exp": int(time.time()) - 1},
    "too long": {"exp": int(time.time()) + 10_000},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_wrong_assertion_is_refused(server: Server, changes: Json) -> None:
    answer = server.proven(server.assertion(**changes))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_an_assertion_is_good_once_and_a_scope_is_needed(server: Server) -> None:
    assertion = server.assertion()
    assert server.proven(assertion).status_code == 200
    assert server.proven(assertion).status_code == 401
    for scope in ("", "system/Observation.rs"):
        answer = server.token(client_id=CLIENT_ID, client_secret=CLIENT_SECRET, scope=scope)
        assert answer.json()["error"] == "invalid_scope"


def test_without_a_good_login_only_statement_and_configuration_are_given(server: Server) -> None:
    base = server.settings["base_url"]
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eA=="}):
        with httpx.Client(base_url=base, trust_env=False, headers=headers) as http:
            assert http.get("/metadata").json()["fhirVersion"] == "4.0.1"
            answer = http.get("/Patient/1")
            assert (answer.status_code, answer.json()["resourceType"]) == (401, "OperationOutcome")
    with httpx.Client(base_url=base, trust_env=False, auth=(USER, PASSWORD)) as http:
        assert http.get("/Patient/1").status_code == 200


# --- DocumentReference -----------------------------------------------------------------------------------------------


def test_a_create_says_where_it_is_and_gives_a_body_only_if_asked(server: Server) -> None:
    patient, content = fresh(), b"some bytes"
    answer = server.create(document(patient))
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (201, b"", 'W/"1"')
    id_ = answer.headers["Location"].split("/")[-3]
    assert answer.headers["Location"].startswith(server.settings["base_url"] + "/DocumentReference/")
    (charted,) = server.charts(patient)
    assert (charted["record_id"], charted["sha256"]) == (id_, hashlib.sha256(content).hexdigest())
    read = server.http.get(f"/DocumentReference/{id_}").json()
    assert base64.b64decode(read["content"][0]["attachment"]["data"]) == content
    summary = server.http.get(f"/DocumentReference/{id_}", params={"_summary": "true"}).json()
    assert "data" not in summary["content"][0]["attachment"]
    shown = server.create(document(patient), Prefer="return=representation").json()
    assert shown["resourceType"] == "DocumentReference"


def test_conditional_creates_and_updates_follow_the_number_of_matches(server: Server) -> None:
    patient = fresh()
    resource = document(patient)
    first = server.create(resource, If_None_Exist=condition(resource))
    again = server.create(resource, If_None_Exist=condition(resource))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.headers["Location"] == again.headers["Location"]
    update = server.http.put(f"/DocumentReference?{condition(resource)}", json=resource, headers=FHIR)
    assert (update.status_code, update.headers["ETag"]) == (200, 'W/"2"')
    assert len(server.charts(patient)) == 1
    assert server.create(resource).status_code == 201  # without a condition
    for answer in (
        server.create(resource, If_None_Exist=condition(resource)),
        server.http.put(f"/DocumentReference?{condition(resource)}", json=resource, headers=FHIR),
    ):
        assert answer.status_code == 412
        assert answer.json()["issue"][0]["code"] == "multiple-matches"


INVALID: dict[str, Json] = {
    "status": {"status": None},
    "type": {"type": None},
    "category": {"category": None},
    "subject": {"subject": {"reference": "Group/1"}},
    "date": {"date": "2026-05-01"},
    "docStatus": {"docStatus": "done"},
    "content": {"content": []},
    "attachment": {"content": [{"attachment": {"contentType": "application/pdf"}}]},
    "base64": {"content": [{"attachment": {"contentType": "application/pdf", "data": "&"}}]},
    "url": {"content": [{"attachment": {"contentType": "application/pdf", "url": "Binary/none"}}]},
    "empty": {"description": ""},
}


@pytest.mark.parametrize("changes", INVALID.values(), ids=INVALID)
def test_what_us_core_does_not_allow_is_refused_with_an_outcome(server: Server, changes: Json) -> None:
    patient = fresh()
    answer = server.create(document(patient, **changes))
    assert (answer.status_code, answer.json()["resourceType"]) == (422, "OperationOutcome")
    assert server.charts(patient) == []


def test_a_search_is_by_identifier_or_patient_and_comes_in_pages(server: Server) -> None:
    patient = fresh()
    made = [document(patient) for _ in range(3)]
    for each in made:
        server.create(each)
    found = server.http.get("/DocumentReference", params={"identifier": condition(made[1]).partition("=")[2]}).json()
    assert [entry["resource"]["identifier"] for entry in found["entry"]] == [made[1]["identifier"]]
    page = server.http.get("/DocumentReference", params={"patient": patient, "_count": "2"}).json()
    assert (page["total"], len(page["entry"])) == (3, 2)
    following = next(link["url"] for link in page["link"] if link["relation"] == "next")
    last = server.http.get(following).json()
    assert [link["relation"] for link in last["link"]] == ["self"]
    assert server.http.get("/DocumentReference", params={"nonsense": "1"}).status_code == 400


# --- Binary, Patient, transactions -----------------------------------------------------------------------------------


def test_a_binary_is_taken_and_given_in_its_own_format(server: Server) -> None:
    patient, headers = fresh(), {"Content-Type": "image/png"}
    answer = server.http.post(
        "/Binary", content=b"pixels", headers=headers | {"X-Security-Context": f"Patient/{patient}"}
    )
    assert answer.status_code == 201
    url = "/".join(answer.headers["Location"].split("/")[-4:-2])
    raw = server.http.get(f"/{url}", headers={"Accept": "*/*"})
    assert (raw.content, raw.headers["Content-Type"]) == (b"pixels", "image/png")
    as_fhir = server.http.get(f"/{url}", headers={"Accept": "application/fhir+json"}).json()
    assert (as_fhir["resourceType"], base64.b64decode(as_fhir["data"])) == ("Binary", b"pixels")
    wrong = server.http.post("/Binary", content=b"x", headers=headers | {"X-Security-Context": "Patient/404-x"})
    assert wrong.status_code == 422
    reference = {"contentType": "image/png", "url": url, "title": "pixels.png"}
    assert server.create(document(patient, content=[{"attachment": reference}])).status_code == 201
    assert server.charts(patient)[0]["size_bytes"] == 6


def test_a_binary_whose_id_the_client_chooses_is_the_same_one_again(server: Server) -> None:
    path = f"/Binary/{uuid.uuid4()}"
    statuses = [server.http.put(path, content=b"x", headers={"Content-Type": "image/png"}) for _ in range(2)]
    assert [(each.status_code, each.headers["ETag"]) for each in statuses] == [(201, 'W/"1"'), (200, 'W/"2"')]


def test_patients_are_found_by_identifier(server: Server) -> None:
    def found(value: str) -> list[str]:
        answer = server.http.get("/Patient", params={"identifier": f"{PATIENT_SYSTEM}|{value}"}).json()
        return [entry["resource"]["id"] for entry in answer["entry"]]

    assert found("p1") == ["p1"]
    assert found("404-1") == []
    assert found("twins-1") == ["twins-1", "twins-1-2"]
    assert server.http.get("/Patient/404-1").status_code == 404


def test_a_transaction_makes_both_or_nothing(server: Server) -> None:
    patient, url = fresh(), f"urn:uuid:{uuid.uuid4()}"

    def sent(title: str) -> httpx.Response:
        binary = {"resourceType": "Binary", "contentType": "image/png", "data": base64.b64encode(b"pixels").decode()}
        reference = document(
            patient, content=[{"attachment": {"contentType": "image/png", "url": url, "title": title}}]
        )
        entries = [
            {"fullUrl": url, "resource": binary, "request": {"method": "POST", "url": "Binary"}},
            {
                "fullUrl": f"urn:uuid:{uuid.uuid4()}",
                "resource": reference,
                "request": {"method": "POST", "url": "DocumentReference", "ifNoneExist": condition(reference)},
            },
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        return server.http.post("", json=bundle, headers=FHIR)

    answer = sent("pixels.png").json()
    assert [each["response"]["status"] for each in answer["entry"]] == ["201 Created", "201 Created"]
    (charted,) = server.charts(patient)
    assert charted["size_bytes"] == 6
    assert sent("INVALID.png").status_code == 422
    assert len(server.charts(patient)) == 1


def test_what_a_test_takes_away_is_not_there_and_not_in_the_statement(server: Server, changed: SandboxProcess) -> None:
    changed.world(fhir_without=["conditionalCreate", "Binary", "Location", "identifier"])
    statement = server.http.get("/metadata").json()["rest"][0]
    by_type = {each["type"]: each for each in statement["resource"]}
    assert by_type["DocumentReference"]["conditionalCreate"] is False
    assert [each["name"] for each in by_type["DocumentReference"]["searchParam"]] == ["patient"]
    assert "Binary" not in by_type
    patient = fresh()
    resource = document(patient)
    for _ in range(2):
        answer = server.create(resource, If_None_Exist=condition(resource))
        assert (answer.status_code, "Location" in answer.headers) == (201, False)
    assert len(server.charts(patient)) == 2
    assert server.http.post("/Binary", content=b"x", headers={"Content-Type": "image/png"}).status_code == 404
