"""Redox's API and token server as their pages describe them."""

import base64
import hashlib
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from joserfc.jwk import RSAKey

from tests.harness.keys import signing_key
from tests.harness.sandbox import SandboxProcess
from tests.sandbox.providers.pracsuite_clinic import eventually
from tests.sandbox.providers.signing import ASSERTION_TYPE, assertion_claims, signed

Json = dict[str, Any]
EVENT = "https://fhir.redoxengine.com/EventDefinition/DocumentReferenceCreate"
FHIR = {"Content-Type": "application/fhir+json"}


class Redox:
    """A caller with the printed account."""

    def __init__(self, sandbox: SandboxProcess) -> None:
        self.settings = sandbox.settings["accounts"]["redox_hospital"]
        self.sandbox = sandbox
        self.token_url: str = self.settings["base_url"].replace("/fhir/R4", "/v2/auth/token")
        self.key = signing_key(self.settings["private_key"])
        self.http = httpx.Client(base_url=self.settings["base_url"], trust_env=False, timeout=60)
        self.authorization = {"Authorization": f"Bearer {self.token()}"}

    def assertion(self, key: RSAKey | None = None, **changes: Any) -> str:
        header = {"alg": "RS384", "kid": self.settings["key_id"], "typ": "JWT"}
        claims = assertion_claims(self.settings["client_id"], self.token_url, 300)
        return signed(key or self.key, header, claims, **changes)

    def ask_for_token(self, assertion: str, **changes: str) -> httpx.Response:
        form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE}
        return self.http.post(self.token_url, data=form | {"client_assertion": assertion} | changes)

    def token(self) -> str:
        answer = self.ask_for_token(self.assertion())
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def upload(self, content: bytes, environment: str = "Development") -> httpx.Response:
        return self.http.post(f"/redox/{environment}/Binary", content=content, headers=self.authorization)

    def uploaded(self, content: bytes) -> str:
        answer = self.upload(content)
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"]

    def create(self, message: Json, to: str | None = None, environment: str = "Development") -> httpx.Response:
        path = f"/{to or self.settings['destination']}/{environment}/DocumentReference/$documentreference-create"
        return self.http.post(path, json=message, headers=self.authorization | FHIR)

    def send(self, patient_id: str, title: str, content: bytes = b"some bytes") -> httpx.Response:
        return self.create(message(patient_id, title, data=as_base64(content)))

    def records(self, patient_id: str) -> list[Json]:
        return self.sandbox.charts(provider="redox", patient_id=patient_id)


def message(patient_id: str, title: str, **payload: Any) -> Json:
    """A correct message, with this payload in its attachment."""
    document_id, patient = str(uuid.uuid4()), str(uuid.uuid4())
    header = {
        "resourceType": "MessageHeader",
        "eventUri": EVENT,
        "source": {"name": "a clinic", "endpoint": "https://clinic.example/fhir"},
        "focus": [{"reference": f"urn:uuid:{document_id}"}],
    }
    document = {
        "resourceType": "DocumentReference",
        "id": document_id,
        "status": "current",
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{document_id}"}],
        "subject": {"reference": f"urn:uuid:{patient}"},
        "content": [{"attachment": {"contentType": "application/pdf", "title": title} | payload}],
    }
    identifier = {"system": "urn:oid:2.999", "value": patient_id}
    person = {"resourceType": "Patient", "id": patient, "identifier": [identifier]}
    entries = [{"fullUrl": f"urn:uuid:{uuid.uuid4()}", "resource": header}]
    entries += [{"fullUrl": f"urn:uuid:{each['id']}", "resource": each} for each in (document, person)]
    return {"resourceType": "Bundle", "type": "message", "id": str(uuid.uuid4()), "entry": entries}


def as_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def resource(bundle: Json, kind: str) -> Json:
    return next(each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == kind)


def attachment(bundle: Json) -> Json:
    first: Json = resource(bundle, "DocumentReference")["content"][0]["attachment"]
    return first


def issue_texts(answer: httpx.Response) -> str:
    """The texts of an OperationOutcome's issues."""
    assert answer.headers["Content-Type"].startswith("application/fhir+json")
    assert answer.json()["resourceType"] == "OperationOutcome"
    return "; ".join(issue["details"]["text"] for issue in answer.json()["issue"])


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    process = SandboxProcess("--providers", "pracsuite,redox")
    yield process
    log = process.log()
    assert process.stop() == 0
    assert "Traceback" not in log, log


@pytest.fixture
def redox(sandbox: SandboxProcess) -> Redox:
    """With a token of its own: it lives for five minutes, and the tests of this file may take longer."""
    return Redox(sandbox)


@pytest.fixture
def changed(sandbox: SandboxProcess) -> Iterator[SandboxProcess]:
    yield sandbox
    sandbox.world(reset=True)


def test_its_account_is_printed_only_where_it_is_asked_for(sandbox: SandboxProcess, redox: Redox) -> None:
    assert set(sandbox.settings["accounts"]) == {"north_clinic", "south_clinic", "redox_hospital"}
    assert redox.settings["private_key"].startswith("-----BEGIN PRIVATE KEY-----\n")
    assert redox.settings["base_url"] == f"{sandbox.base}/redox/fhir/R4"
    assert redox.settings["metadata"]["author"]["name"]


def test_a_signed_assertion_buys_a_token(redox: Redox) -> None:
    answer = redox.ask_for_token(redox.assertion())
    assert answer.status_code == 200
    assert answer.json().keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert answer.json()["expires_in"] == 300


WRONG_ASSERTIONS: dict[str, Json] = {
    "aud is not": {"aud": "https://elsewhere.example/token"},
    "iss is not": {"iss": "somebody"},
    "sub is not": {"sub": "somebody"},
    "kid names no": {"kid": "another-key"},
    "the JWT is not good": {"alg": "RS256"},
    "jti is missing": {"jti": None},
    "exp is not a time": {"exp": None},
    "exp has passed": {"iat": -400, "exp": -100},
    "in the future": {"iat": 3600, "exp": 3700},
    "more than 300": {"iat": 0, "exp": 301},
}
"""What is changed in each; numbers are seconds from the moment at which the test makes it."""


@pytest.mark.parametrize("reason", WRONG_ASSERTIONS)
def test_an_assertion_that_is_not_quite_right_is_refused(redox: Redox, reason: str) -> None:
    now, wrong = int(time.time()), WRONG_ASSERTIONS[reason]
    changes: Json = {name: now + value if isinstance(value, int) else value for name, value in wrong.items()}
    answer = redox.ask_for_token(redox.assertion(**changes))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert reason in answer.json()["error_description"]


@pytest.mark.parametrize("claim", [{"jti": ""}, {"jti": 7}, {"exp": "soon"}, {"iat": True, "exp": 4_000_000_000}])
def test_claims_are_of_their_kinds(redox: Redox, claim: Json) -> None:
    answer = redox.ask_for_token(redox.assertion(**claim)).json()
    assert answer["error_description"] in ("jti is missing", "exp is not a time", "iat is not a time")


def test_an_assertion_is_good_once(redox: Redox) -> None:
    assertion = redox.assertion()
    assert redox.ask_for_token(assertion).status_code == 200
    again = redox.ask_for_token(assertion)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_client")


def test_an_assertion_signed_with_another_key_is_refused(redox: Redox) -> None:
    answer = redox.ask_for_token(redox.assertion(key=RSAKey.generate_key(2048)))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({"client_assertion_type": "jwt"}, "invalid_request"),
        ({"client_assertion": ""}, "invalid_request"),
    ],
)
def test_a_token_request_of_another_form_is_refused(redox: Redox, change: dict[str, str], code: str) -> None:
    answer = redox.ask_for_token(redox.assertion(), **change)
    assert (answer.status_code, answer.json()["error"]) == (400, code)


def test_a_token_request_is_a_form_with_each_parameter_once(redox: Redox) -> None:
    fields = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE}
    as_parts = redox.http.post(redox.token_url, files={name: (None, value) for name, value in fields.items()})
    fields["client_assertion"] = redox.assertion()
    twice = redox.http.post(redox.token_url, data=fields | {"scope": ["one", "two"]})
    for answer in (as_parts, twice):
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert "Content-Type" in as_parts.json()["error_description"]
    assert "repeated" in twice.json()["error_description"]


@pytest.mark.parametrize("authorization", ["", "Bearer nonsense", "Basic good"])
def test_a_call_without_a_good_token_is_refused(redox: Redox, authorization: str) -> None:
    authorization = authorization.replace("good", redox.token())
    answer = redox.http.post("/redox/Development/Binary", content=b"x", headers={"Authorization": authorization})
    assert answer.status_code == 401
    assert "no valid token" in issue_texts(answer)


def test_a_token_dies_when_its_time_is_over(changed: SandboxProcess) -> None:
    changed.world(redox_token_seconds=1)
    began, late = time.time(), Redox(changed)
    eventually(lambda: late.upload(b"in time, until it is too late").status_code == 401)
    assert time.time() - began >= 1


def test_all_tokens_may_die_early(changed: SandboxProcess) -> None:
    early = Redox(changed)
    changed.world(kill_tokens=["redox"])
    assert early.upload(b"a").status_code == 401
    assert Redox(changed).upload(b"a").status_code == 201


def test_a_revoked_client_is_refused_until_it_is_restored(changed: SandboxProcess, redox: Redox) -> None:
    changed.world(revoke=[redox.settings["client_id"]])
    assert redox.ask_for_token(redox.assertion()).json()["error"] == "invalid_client"
    assert redox.upload(b"a").status_code == 401
    changed.world(restore=[redox.settings["client_id"]])
    assert redox.ask_for_token(redox.assertion()).status_code == 200
    assert redox.upload(b"a").status_code == 201


def test_an_embedded_file_reaches_the_chart(redox: Redox) -> None:
    content = bytes(range(256)) * 9
    answer = redox.send("4711", "referral.pdf", content)
    assert answer.status_code == 200
    (record,) = redox.records("4711")
    response = answer.json()["entry"][0]["response"]
    assert response == {"status": "201 Created", "location": f"DocumentReference/{record['record_id']}"}
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert (record["size_bytes"], record["file_name"]) == (len(content), "referral.pdf")
    assert record["tenant"] == "redox_hospital"


def test_an_uploaded_file_reaches_the_chart_once(redox: Redox) -> None:
    content = b"%PDF" + bytes(300_000)
    address = redox.uploaded(content)
    assert address.startswith("http://127.0.0.1:")
    assert redox.create(message("uploader", "scan.pdf", url=address)).status_code == 200
    (record,) = redox.records("uploader")
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    again = redox.create(message("uploader", "scan.pdf", url=address))
    assert (again.status_code, len(redox.records("uploader"))) == (400, 1)
    assert "used before" in issue_texts(again)


@pytest.mark.parametrize("body", [b"", b"file.pdf", b"Scan_2024-01.JPG".lower()])
def test_a_body_that_is_not_a_file_is_refused(redox: Redox, body: bytes) -> None:
    assert redox.upload(body).status_code == 400


def test_an_uploaded_file_has_at_most_30_mb(redox: Redox) -> None:
    assert redox.upload(bytes(30_000_000)).status_code == 201
    assert redox.upload(bytes(30_000_001)).status_code == 413


def test_uploads_may_be_forbidden(changed: SandboxProcess, redox: Redox) -> None:
    changed.world(redox_binary_forbidden=True)
    assert redox.upload(b"a").status_code == 403


def test_an_embedded_file_has_less_than_10_mb_of_base64(redox: Redox) -> None:
    assert redox.send("large", "fits.pdf", bytes(7_499_997)).status_code == 200
    answer = redox.send("large", "too-long.pdf", bytes(7_499_998))
    assert answer.status_code == 413
    assert [record["file_name"] for record in redox.records("large")] == ["fits.pdf"]


def test_a_message_must_be_whole(redox: Redox) -> None:
    for kind in ("MessageHeader", "DocumentReference", "Patient"):
        broken = message("broken", "a.pdf", data="YQ==")
        broken["entry"] = [each for each in broken["entry"] if each["resource"]["resourceType"] != kind]
        answer = redox.create(broken)
        assert (answer.status_code, f"exactly one {kind}" in issue_texts(answer)) == (400, True)
    assert redox.records("broken") == []


def test_the_header_comes_first(redox: Redox) -> None:
    turned = message("turned", "a.pdf", data="YQ==")
    turned["entry"].reverse()
    assert "first entry is not a MessageHeader" in issue_texts(redox.create(turned))


WRONG_MESSAGES: dict[str, tuple[str, Json]] = {
    "eventUri": ("MessageHeader", {"eventUri": "https://elsewhere.example"}),
    "source.endpoint": ("MessageHeader", {"source": {"name": "a clinic"}}),
    "not a source": ("MessageHeader", {"source": {"endpoint": "urn:uuid:0c5b7e22-8a54-4f0e-9d6b-999999999999"}}),
    "focus": ("MessageHeader", {"focus": [{"reference": "DocumentReference/other"}]}),
    "docStatus": ("DocumentReference", {"docStatus": "done"}),
    "status": ("DocumentReference", {"status": "draft"}),
    "subject": ("DocumentReference", {"subject": {"reference": "Patient/other"}}),
    "content": ("DocumentReference", {"content": [{"attachment": {"contentType": "a/b", "data": "YQ=="}}] * 2}),
    "identifier": ("Patient", {"identifier": [{"value": "4711"}]}),
    "Patient.identifier has no": ("Patient", {"identifier": [{"system": "urn:oid:2.999"}]}),
}


@pytest.mark.parametrize("reason", WRONG_MESSAGES)
def test_a_message_that_is_not_quite_right_is_refused(redox: Redox, reason: str) -> None:
    kind, change = WRONG_MESSAGES[reason]
    broken = message("wrong", "a.pdf", data="YQ==")
    resource(broken, kind).update(change)
    answer = redox.create(broken)
    assert (answer.status_code, reason in issue_texts(answer)) == (400, True)
    assert redox.records("wrong") == []


def test_a_relative_reference_resolves_beside_a_restful_address_alone(redox: Redox) -> None:
    """https://hl7.org/fhir/R4/bundle.html#references"""
    relative = message("relative", "a.pdf", data="YQ==")
    patient = resource(relative, "Patient")["id"]
    resource(relative, "DocumentReference")["subject"] = {"reference": f"Patient/{patient}"}
    assert "subject" in issue_texts(redox.create(relative))
    for entry in relative["entry"][1:]:
        kind, id_ = entry["resource"]["resourceType"], entry["resource"]["id"]
        entry["fullUrl"] = f"https://clinic.example/fhir/{kind}/{id_}"
    document = relative["entry"][1]["fullUrl"]
    resource(relative, "MessageHeader")["focus"] = [{"reference": document}]
    assert redox.create(relative).status_code == 200


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"data": "YQ==", "url": "http://127.0.0.1/blob"},
        {"url": "https://blob.redoxengine.com/123456789"},
        {"data": "not base64!"},
        {"data": ""},
        {"data": 7},
        {"url": 7},
        {"data": "YQ==", "contentType": "pdf"},
    ],
)
def test_an_attachment_has_exactly_one_payload_that_can_be_read(redox: Redox, payload: Json) -> None:
    assert redox.create(message("payload", "a.pdf", **payload)).status_code == 400
    assert redox.records("payload") == []


@pytest.mark.parametrize("change", [{"type": "transaction"}, {"resourceType": "Message"}, {"entry": []}])
def test_a_bundle_of_another_kind_is_refused(redox: Redox, change: Json) -> None:
    assert redox.create(message("kind", "a.pdf", data="YQ==") | change).status_code == 400


def test_only_fhir_is_accepted(redox: Redox) -> None:
    path = "/sandbox-hospital/Development/DocumentReference/$documentreference-create"
    plain = redox.http.post(path, json=message("json", "a.pdf", data="YQ=="), headers=redox.authorization)
    named = redox.http.post(path, content=b"file.pdf", headers=redox.authorization | FHIR)
    assert (plain.status_code, named.status_code) == (400, 400)


def test_a_wrong_way_is_refused(redox: Redox) -> None:
    right = message("way", "a.pdf", data="YQ==")
    assert redox.create(right, to="nowhere").status_code == 404
    assert redox.create(right, environment="Test").status_code == 404
    assert redox.create(right, environment="Production").status_code == 403
    assert redox.http.get("/sandbox-hospital/Development/Patient", headers=redox.authorization).status_code == 404
    assert redox.records("way") == []


def test_the_same_message_again_is_a_second_record(redox: Redox) -> None:
    same = message("twice", "a.pdf", data="YQ==")
    assert [redox.create(same).status_code, redox.create(same).status_code] == [200, 200]
    assert len(redox.records("twice")) == 2


def test_a_destination_may_know_an_identifier_again(changed: SandboxProcess, redox: Redox) -> None:
    changed.world(redox_dedupe=True)
    same = message("deduped", "a.pdf", url=redox.uploaded(b"content"))
    first, second = redox.create(same), redox.create(same)
    assert first.json() == second.json()
    assert len(redox.records("deduped")) == 1
    redox.send("deduped", "a.pdf")
    assert len(redox.records("deduped")) == 2


def test_a_success_may_be_an_outcome(changed: SandboxProcess, redox: Redox) -> None:
    changed.world(redox_outcomes=True)
    answer = redox.send("outcome", "a.pdf")
    assert (answer.status_code, answer.json()["issue"][0]["severity"]) == (200, "information")
    assert len(redox.records("outcome")) == 1


def test_a_200_may_hold_an_error(redox: Redox) -> None:
    outcome, entry = redox.send("err", "ERR200.pdf"), redox.send("err", "ERR200-ENTRY.pdf")
    assert (outcome.status_code, outcome.json()["issue"][0]["severity"]) == (200, "error")
    assert (entry.status_code, entry.json()["entry"][0]["response"]["status"]) == (200, "422 Unprocessable Entity")
    assert redox.records("err") == []


@pytest.mark.parametrize("word", ["LOST", "LOSTCREATE"])
def test_an_answer_may_be_lost_after_the_message_was_accepted(redox: Redox, word: str) -> None:
    with pytest.raises(httpx.TransportError):
        redox.send(f"has-{word}", f"{word}.pdf")
    assert len(redox.records(f"has-{word}")) == 1
    assert redox.send(f"has-{word}", f"{word}.pdf").status_code == 200


def test_a_gateway_may_give_up_after_the_message_was_accepted(redox: Redox) -> None:
    assert redox.send("gateway", "TIMEOUT504.pdf").status_code == 504
    assert len(redox.records("gateway")) == 1
    assert redox.send("gateway", "TIMEOUT504.pdf").status_code == 200


def test_a_message_may_come_at_a_bad_time_and_then_be_cut_off(redox: Redox) -> None:
    assert redox.send("unlucky", "CUT BUSY-1.pdf").status_code == 503
    with pytest.raises(httpx.TransportError):
        redox.send("unlucky", "CUT BUSY-1.pdf")
    assert redox.records("unlucky") == []
    assert redox.send("unlucky", "CUT BUSY-1.pdf").status_code == 200


def test_a_destination_may_refuse_a_document(redox: Redox) -> None:
    answer = redox.send("refused", "INVALID.pdf")
    assert (answer.status_code, "does not take" in issue_texts(answer)) == (400, True)
    assert redox.records("refused") == []


@pytest.mark.parametrize(
    ("patient_id", "statuses"), [("404-a", [400] * 3), ("401-a", [401] * 3), ("429-a", [429, 429, 200])]
)
def test_a_troubled_patient_makes_trouble(redox: Redox, patient_id: str, statuses: list[int]) -> None:
    assert [redox.send(patient_id, "a.pdf").status_code for _ in range(3)] == statuses


def test_every_answer_tells_what_is_left(redox: Redox) -> None:
    first, second = redox.send("limits", "a.pdf"), redox.send("limits", "b.pdf")
    assert first.headers["X-RateLimit-Limit"] == "10000"
    remaining = [int(answer.headers["X-RateLimit-Remaining"]) for answer in (first, second)]
    assert remaining[0] == remaining[1] + 1


def test_a_throttled_api_names_the_time_to_come_back(changed: SandboxProcess, redox: Redox) -> None:
    changed.world(throttle={"redox": {"per_minute": 0}})
    began = time.time()
    answer = redox.send("throttled", "a.pdf")
    assert (answer.status_code, answer.headers["X-RateLimit-Remaining"]) == (429, "0")
    assert "Retry-After" not in answer.headers
    assert began < int(answer.headers["X-RateLimit-Reset"]) <= time.time() + 61
    assert redox.ask_for_token(redox.assertion()).status_code == 429


@pytest.mark.parametrize("status", [503, 504])
def test_redox_may_be_down(changed: SandboxProcess, redox: Redox, status: int) -> None:
    changed.world(down={"redox": str(status)})
    assert redox.send("down", "a.pdf").status_code == status
    assert redox.ask_for_token(redox.assertion()).status_code == status
    assert redox.records("down") == []


def test_no_token_and_no_key_is_logged_or_remembered(sandbox: SandboxProcess, redox: Redox) -> None:
    assertion = redox.assertion()
    token = redox.ask_for_token(assertion).json()["access_token"]
    redox.http.post("/redox/Development/Binary", content=b"x", headers={"Authorization": f"Bearer {token}x"})
    kept = sandbox.log() + str(sandbox.requests()) + str(sandbox.world())
    for secret in (assertion, token, redox.settings["private_key"].splitlines()[1]):
        assert secret not in kept
