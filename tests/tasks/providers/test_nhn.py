"""What is special to NHN and HelseID, against answers that their pages leave possible."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey
from structlog.testing import capture_logs

from config.accounts import NhnAccount
from tasks.http.clients import Clients
from tasks.model.document import Document, Label, LabelCoding, Relabeling
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, OutcomeUnknown, RetryLater, StepError
from tasks.model.job import Job, Record, Uncertainty
from tasks.model.route import OnUnknownOutcome, Stage, Step
from tasks.providers.nhn.answers import EARLIER, SHOWN
from tasks.providers.nhn.client import Nhn
from tasks.sources.files import Files
from tests.tasks.providers.doubles import NO_GATE, CountingGate, DictCache, Slots, clock_ahead, connected, job
from tests.tasks.providers.odd_nhn import (
    BUNDLE,
    DOCUMENT_ID,
    PATCH,
    PROBE,
    TOKEN,
    OddNhn,
    bundle_of,
    entry_of,
    form_of,
    labelled,
    located,
    opened,
    outcome,
    proof_of,
    transaction,
    unauthorized,
)
from tests.tasks.providers.odd_server import Reply, Request
from tests.tasks.sources.addresses import file_address

NATIONAL_ID = "13116900216"
CONTENT = b"%PDF some bytes"
METADATA = {
    "type": "urn:oid:2.16.578.1.12.4.1.1.9602|I02-2|Brev",
    "category": "urn:oid:2.16.578.1.12.4.1.1.9602|I00-1",
    "format": "http://ihe.net/formatcode|urn:ihe:iti:xds:2017:mimeTypeSufficient",
    "facility_type": "urn:oid:2.16.578.1.12.4.1.1.1303|86.100",
    "practice_setting": "urn:oid:2.16.578.1.12.4.1.1.8651|A04",
    "security_label": "urn:oid:2.16.840.1.113883.5.25|N|Normal",
    "author": {"name": "Grønn Vits", "identifier": "urn:oid:2.16.578.1.12.4.1.4.4|9144900"},
}

NOTHING = Reply(400, outcome("error", "structure"))
BAD_LABELS: tuple[object, ...] = (5, "N", [7], [{"coding": [{"code": {}}]}])

Make = Callable[..., Nhn]


@pytest.fixture(scope="session")
def key() -> ECKey:
    return ECKey.generate_key("P-256")


@pytest.fixture
def odd() -> Iterator[OddNhn]:
    with OddNhn() as server:
        yield server


def account_at(odd: OddNhn, key: ECKey | None = None, **said: Any) -> NhnAccount:
    """An account's settings at the odd server."""
    return NhnAccount.model_validate(
        {
            "provider": "nhn",
            "base_url": odd.base + "/R4/fhir",
            "issuer": odd.base + "/helseid",
            "client_id": "the-client",
            "key_id": "the-key-id",
            "private_key": (key or ECKey.generate_key("P-256")).as_pem(private=True).decode(),
            "source_system": "EPJ System 1.0",
            "home_community_id": "2.16.578.1.12.4.5.100.3.15",
            "organization": {"child": "200000002"},
            "metadata": METADATA,
            "insecure": True,
            **said,
        }
    )


@pytest.fixture
def make(odd: OddNhn, clients: Clients, cache: DictCache, slots: Slots, key: ECKey) -> Make:
    """Makes an account at the odd server; keywords are its settings."""

    def made(**said: Any) -> Nhn:
        account = account_at(odd, key, **said)
        return Nhn("hospital", account, connected(clients, slots, cache, insecure=account.insecure))

    return made


@pytest.fixture
def nhn(make: Make) -> Nhn:
    return make()


@pytest.fixture
def sending(odd: OddNhn, nhn: Nhn, tmp_path: Path) -> Sending:
    return Sending(odd, nhn, tmp_path)


class Sending:
    """A document on its way to the odd server."""

    def __init__(self, odd: OddNhn, nhn: Nhn, folder: Path) -> None:
        self.odd = odd
        self.nhn = nhn
        self.path = folder / "document"
        self.files = Files([folder])
        self.gate = CountingGate(lambda: self.files.open(self.job.document.source, self.job.document.identity))
        self.job = self.of(CONTENT)
        odd.answers[BUNDLE] = lambda request: Reply(body=transaction(located(self.location(request))))

    def of(self, content: bytes, **change: Any) -> Job:
        self.path.write_bytes(content)
        address = file_address(self.path)
        made = job(patient_id=NATIONAL_ID, file_name="epikrise.pdf", size_bytes=len(content), account="hospital")
        document = replace(
            made.document, **{"source": address, "identity": self.files.locate(address).identity, **change}
        )
        self.job = replace(made, document=document, provider="nhn", step=Step.REGISTER)
        return self.job

    @staticmethod
    def location(request: Request) -> str:
        return f"DocumentReference/{entry_of(request, 'DocumentReference')['id']}"

    def __call__(self) -> Any:
        ready = replace(self.job, facts=self.nhn.before_sending(self.job))
        self.job = ready
        return self.nhn.register(ready, self.gate)

    @property
    def request(self) -> Request:
        return self.odd.to(BUNDLE)[-1]

    def answered(self, status: int, body: Any, **headers: str) -> None:
        self.odd.answers[BUNDLE] = Reply(status, body, headers)


def relabeling(*codes: str, payload: str = "resource", document_id: str = DOCUMENT_ID) -> Job:
    labels = tuple(Label("urn:oid:2.999", code) for code in codes)
    made = job(patient_id=None, file_name="", size_bytes=0)
    return replace(
        made, document=replace(made.document, source="", relabeling=Relabeling(document_id, labels, payload))
    )


def whole(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("ahead", [7200, -7200])
def test_a_bundle_holds_nhns_time_where_this_machines_clock_is_wrong(
    odd: OddNhn, clients: Clients, cache: DictCache, slots: Slots, key: ECKey, ahead: float
) -> None:
    account = account_at(odd, key)
    nhn = Nhn("hospital", account, connected(clients, slots, cache, insecure=True, clock=clock_ahead(ahead)))
    with suppress(AccountBlocked):
        nhn.probe()  # whatever is answered tells the time
    at = datetime.fromisoformat(nhn.before_sending(job()).provider["at"])
    assert abs(at - datetime.now(UTC)) < timedelta(minutes=1)


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_is_asked_for_as_helseid_wants_it(odd: OddNhn, nhn: Nhn, key: ECKey) -> None:
    odd.answers[PATCH], began = Reply(body=labelled("N")), int(time.time())
    nhn.relabel(relabeling("N"), NO_GATE)
    (request,) = odd.to(TOKEN)
    form = form_of(request)
    header, claims = opened(form.pop("client_assertion"), key)
    assert form == {
        "client_id": "the-client",
        "grant_type": "client_credentials",
        "scope": "nhn:phr/mhd/create-documents-with-reference",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    assert header == {"alg": "ES256", "kid": "the-key-id", "typ": "client-authentication+jwt"}
    assert claims["iss"] == claims["sub"] == "the-client"
    assert claims["aud"] == f"{odd.base}/helseid"
    assert claims["exp"] - claims["iat"] == 10
    assert began <= claims["nbf"] <= time.time()
    assert UUID(claims["jti"])
    organization = claims["assertion_details"]["practitioner_role"]["organization"]
    assert claims["assertion_details"]["type"] == "helseid_authorization"
    assert organization["identifier"] == {
        "system": "urn:oid:2.16.578.1.12.4.1.4.101",
        "type": "ENH",
        "value": "200000002",
    }


def test_a_unit_of_a_legal_body_is_named_with_it(odd: OddNhn, make: Make, key: ECKey) -> None:
    odd.answers[PATCH] = Reply(body=labelled("N"))
    make(organization={"child": "200000002", "parent": "100000001"}).relabel(relabeling("N"), NO_GATE)
    _, claims = opened(form_of(odd.to(TOKEN)[0])["client_assertion"], key)
    organization = claims["assertion_details"]["practitioner_role"]["organization"]
    assert organization["identifier"]["system"] == "urn:oid:1.0.6523"
    assert organization["identifier"]["value"] == "NO:ORGNR:100000001:200000002"


def test_a_client_of_several_organizations_may_name_the_legal_body_alone(odd: OddNhn, make: Make, key: ECKey) -> None:
    odd.answers[PATCH] = Reply(body=labelled("N"))
    make(organization={"parent": "100000001"}).relabel(relabeling("N"), NO_GATE)
    _, claims = opened(form_of(odd.to(TOKEN)[0])["client_assertion"], key)
    organization = claims["assertion_details"]["practitioner_role"]["organization"]
    assert organization["identifier"]["value"] == "NO:ORGNR:100000001:"


@pytest.mark.parametrize("organization", [{}, {"name": "Sykehuset", "number": "200000002"}])
def test_a_client_that_acts_for_its_own_organization_sends_no_details(
    odd: OddNhn, make: Make, key: ECKey, organization: dict[str, str]
) -> None:
    odd.answers[PATCH] = Reply(body=labelled("N"))
    make(organization=organization).relabel(relabeling("N"), NO_GATE)
    _, claims = opened(form_of(odd.to(TOKEN)[0])["client_assertion"], key)
    assert "assertion_details" not in claims


def test_a_jwk_signs_assertions_and_proofs_with_the_algorithm_that_it_names(odd: OddNhn, make: Make) -> None:
    rsa = RSAKey.generate_key(2048)
    odd.answers[PATCH] = Reply(body=labelled("N"))
    named = {**rsa.as_dict(private=True), "alg": "RS256", "use": "sig", "key_ops": ["sign"]}
    make(private_key=json.dumps(named)).relabel(relabeling("N"), NO_GATE)
    for signed in (form_of(odd.to(TOKEN)[0])["client_assertion"], odd.to(PATCH)[0].headers["dpop"]):
        header = json.loads(base64.urlsafe_b64decode(signed.partition(".")[0] + "=="))
        assert header["alg"] == "RS256"


def test_the_proof_of_a_token_request_holds_the_public_key_and_no_token(odd: OddNhn, nhn: Nhn, key: ECKey) -> None:
    odd.answers[PATCH] = Reply(body=labelled("N"))
    nhn.relabel(relabeling("N"), NO_GATE)
    header, claims = proof_of(odd.to(TOKEN)[0])
    assert header["typ"] == "dpop+jwt"
    assert header["jwk"] == {name: key.as_dict(private=False)[name] for name in ("kty", "crv", "x", "y")}
    assert (claims["htm"], claims["htu"]) == ("POST", f"{odd.base}/helseid/connect/token")
    assert "ath" not in claims
    assert "nonce" not in claims


def test_a_nonce_is_sent_back_with_another_assertion_and_remembered(
    odd: OddNhn, nhn: Nhn, key: ECKey, cache: DictCache
) -> None:
    def answer(request: Request) -> Reply:
        if proof_of(request)[1].get("nonce") == "n-1":
            return odd.give_token(request)
        return Reply(400, {"error": "use_dpop_nonce"}, {"DPoP-Nonce": "n-1"})

    odd.answers[TOKEN], odd.answers[PROBE] = answer, NOTHING
    nhn.probe()
    first, second = odd.to(TOKEN)
    claims = [opened(form_of(request)["client_assertion"], key)[1] for request in (first, second)]
    assert claims[0]["jti"] != claims[1]["jti"]
    nhn.probe()
    assert len(odd.to(TOKEN)) == 3, "the nonce was known"


def test_a_helseid_that_is_never_content_with_its_nonce_is_asked_again_later(odd: OddNhn, nhn: Nhn) -> None:
    odd.answers[TOKEN] = lambda _: Reply(400, {"error": "use_dpop_nonce"}, {"DPoP-Nonce": str(len(odd.requests))})
    with pytest.raises(RetryLater):
        nhn.probe()
    assert len(odd.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("invalid_client", "client_id, key_id, private_key, algorithm and organization, and this machine's clock"),
        ("unauthorized_client", "set up"),
        ("invalid_scope", "scope"),
        ("invalid_request", "organization"),
        ("invalid_dpop_proof", "clock"),
        ("whatever", "client_id"),
        (None, "client_id"),
        (7, "client_id"),
    ],
)
def test_a_client_that_helseid_refuses_is_blocked_in_our_words(
    odd: OddNhn, nhn: Nhn, status: int, error: object, words: str
) -> None:
    odd.answers[TOKEN] = Reply(status, {"error": error, "error_description": "said of the-secret"})
    with pytest.raises(AccountBlocked, match=words) as blocked:
        nhn.relabel(relabeling("N"), NO_GATE)
    assert blocked.value.credentials
    assert "the-secret" not in whole(blocked.value)


@pytest.mark.parametrize(
    ("reply", "throttled"),
    [
        (Reply(429, headers={"Retry-After": "7"}), True),
        (Reply(500), False),
        (Reply(503), False),
        (Reply(400, {"error": "temporarily_unavailable"}), False),
        (Reply(400, {"error": "server_error"}), False),
    ],
)
def test_a_helseid_that_is_unwell_is_asked_again_later(odd: OddNhn, nhn: Nhn, reply: Reply, throttled: bool) -> None:
    odd.answers[TOKEN] = reply
    with pytest.raises(RetryLater) as later:
        nhn.relabel(relabeling("N"), NO_GATE)
    assert later.value.throttled is throttled
    assert later.value.unreachable is not throttled


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"token_type": "Bearer"}, "not bound to our key"),
        ({"rejected_scope": "nhn:phr/mhd/create-documents-with-reference"}, "did not grant the scope"),
        ({"scope": "something else"}, "did not grant the scope"),
        ({"access_token": None}, "access_token"),
        ({"access_token": ""}, "access_token"),
        ({"access_token": "with space"}, "access_token"),
        ({"access_token": "line\r\nbreak"}, "access_token"),
        ({"access_token": "blåbær"}, "access_token"),
        ({"expires_in": "soon"}, "expires_in"),
        ({"expires_in": -5}, "expires_in"),
        ({"token_type": None}, "token_type"),
    ],
)
def test_a_token_that_is_of_no_use_blocks_the_account(odd: OddNhn, nhn: Nhn, given: dict[str, Any], words: str) -> None:
    odd.answers[TOKEN] = lambda request: odd.give_token(request, **given)
    with pytest.raises(AccountBlocked, match=words) as blocked:
        nhn.relabel(relabeling("N"), NO_GATE)
    assert "token-" not in whole(blocked.value)
    assert len(odd.requests) == 1


@pytest.mark.parametrize(
    "given", [{"token_type": "dpop"}, {"scope": None}, {"expires_in": "600"}, {"rejected_scope": "other"}, {"more": 1}]
)
def test_what_helseid_may_leave_open_does_not_matter(odd: OddNhn, nhn: Nhn, given: dict[str, Any]) -> None:
    odd.answers[TOKEN] = lambda request: odd.give_token(request, **given)
    odd.answers[PATCH] = Reply(body=labelled("N"))
    for _ in range(3):
        nhn.relabel(relabeling("N"), NO_GATE)
    assert odd.tokens == 1


@pytest.mark.parametrize(
    "other", [{"scope": "nhn:phr-repo/mhd/create"}, {"organization": {"child": "300000003"}}, {"key_id": "another"}]
)
def test_another_scope_organization_or_key_needs_another_token(odd: OddNhn, make: Make, other: dict[str, Any]) -> None:
    odd.answers[TOKEN] = lambda request: odd.give_token(request, scope=None)
    odd.answers[PATCH] = Reply(body=labelled("N"))
    for account in (make(), make(), make(**other), make()):
        account.relabel(relabeling("N"), NO_GATE)
    assert odd.tokens == 2


def test_a_key_may_be_a_jwk(odd: OddNhn, make: Make, key: ECKey) -> None:
    odd.answers[PATCH] = Reply(body=labelled("N"))
    make(private_key=json.dumps(key.as_dict(private=True))).relabel(relabeling("N"), NO_GATE)
    assert set(proof_of(odd.to(PATCH)[0])[0]["jwk"]) == {"kty", "crv", "x", "y"}, "nothing private, nothing more"


# --- calls with proofs -----------------------------------------------------------------------------------------------


def test_a_call_carries_a_proof_for_itself_and_the_headers_of_the_vendors_page(odd: OddNhn, nhn: Nhn) -> None:
    odd.answers[PATCH], began = Reply(body=labelled("N")), int(time.time())
    nhn.relabel(relabeling("N"), NO_GATE)
    (request,) = odd.to(PATCH)
    assert request.headers["authorization"] == "DPoP token-1"
    assert request.headers["accept"] == "application/fhir+json; fhirVersion=4.0"
    assert request.headers["nhn-source-system"] == "EPJ System 1.0"
    assert UUID(request.headers["nhn-event-id"])
    assert request.query == {"homeCommunityId": ["2.16.578.1.12.4.5.100.3.15"]}
    assert "cookie" not in request.headers
    _, claims = proof_of(request)
    assert claims["htm"] == "PATCH"
    assert claims["htu"] == f"{odd.base}/R4/fhir/DocumentReference/{DOCUMENT_ID}", "without the query"
    digest = hashlib.sha256(b"token-1").digest()
    assert claims["ath"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert began <= claims["iat"] <= time.time()


def test_no_proof_is_used_twice_and_each_event_has_an_id_that_is_logged(odd: OddNhn, nhn: Nhn) -> None:
    odd.answers[PATCH] = Reply(body=labelled("other"))
    with capture_logs() as logs, pytest.raises(DocumentRefused):
        nhn.relabel(relabeling("N"), NO_GATE)
    requests = odd.to(PATCH)
    assert len(requests) == 2
    assert len({proof_of(request)[1]["jti"] for request in requests}) == 2
    sent = [request.headers["nhn-event-id"] for request in requests]
    assert [line["nhn_event_id"] for line in logs if line["event"] == "nhn_called"] == sent
    assert len(set(sent)) == 2


def test_a_nonce_is_sent_back_at_once_remembered_and_replaced_by_what_a_success_brings(odd: OddNhn, nhn: Nhn) -> None:
    nonces = ["n-1", "n-2", "n-3"]

    def answer(request: Request) -> Reply:
        if proof_of(request)[1].get("nonce") != nonces[0]:
            return unauthorized("use_dpop_nonce", nonces[0])
        nonces.pop(0)
        return Reply(body=labelled("N"), headers={"DPoP-Nonce": nonces[0]})

    odd.answers[PATCH] = answer
    nhn.relabel(relabeling("N"), NO_GATE)
    assert len(odd.to(PATCH)) == 2
    nhn.relabel(relabeling("N"), NO_GATE)
    assert len(odd.to(PATCH)) == 3
    assert odd.tokens == 1


def test_helseid_and_the_api_have_nonces_of_their_own(odd: OddNhn, nhn: Nhn) -> None:
    odd.answers[TOKEN] = lambda request: Reply(body=odd.give_token(request).body, headers={"DPoP-Nonce": "of-helseid"})
    odd.answers[PATCH] = Reply(body=labelled("N"))
    nhn.relabel(relabeling("N"), NO_GATE)
    assert "nonce" not in proof_of(odd.to(PATCH)[0])[1]


def test_an_api_that_is_never_content_with_its_nonce_is_asked_again_later(odd: OddNhn, nhn: Nhn) -> None:
    odd.answers[PATCH] = lambda _: unauthorized("use_dpop_nonce", f"n-{len(odd.requests)}")
    with pytest.raises(RetryLater):
        nhn.relabel(relabeling("N"), NO_GATE)
    assert len(odd.to(PATCH)) == 2


def test_a_token_that_is_refused_is_replaced_once(odd: OddNhn, nhn: Nhn) -> None:
    odd.answers[PATCH] = lambda request: (
        Reply(body=labelled("N"))
        if request.headers["authorization"] == "DPoP token-2"
        else unauthorized("invalid_token")
    )
    nhn.relabel(relabeling("N"), NO_GATE)
    assert (odd.tokens, len(odd.to(PATCH))) == (2, 2)
    nhn.relabel(relabeling("N"), NO_GATE)
    assert (odd.tokens, len(odd.to(PATCH))) == (2, 3)


@pytest.mark.parametrize("reply", [unauthorized("invalid_token"), Reply(401), Reply(401, "<html>", {"X": "y"})])
def test_a_token_given_just_now_and_refused_blocks_the_account(odd: OddNhn, nhn: Nhn, reply: Reply) -> None:
    odd.answers[PATCH] = reply
    with pytest.raises(AccountBlocked, match="token") as blocked:
        nhn.relabel(relabeling("N"), NO_GATE)
    assert blocked.value.credentials
    assert (odd.tokens, len(odd.to(PATCH))) == (2, 2)


def test_a_refused_proof_is_the_clocks_fault_and_no_tokens(odd: OddNhn, nhn: Nhn) -> None:
    odd.answers[PATCH] = unauthorized("invalid_dpop_proof")
    with pytest.raises(AccountBlocked, match="clock") as blocked:
        nhn.relabel(relabeling("N"), NO_GATE)
    assert blocked.value.never_the_document
    assert odd.tokens == 1


def test_a_refused_proof_of_a_large_document_is_reported_apart(sending: Sending) -> None:
    sending.odd.answers[BUNDLE] = unauthorized("invalid_dpop_proof")
    with pytest.raises(AccountBlocked, match="clock") as small:
        sending()
    sending.of(os.urandom(1_500_000))
    with pytest.raises(AccountBlocked, match="large document") as large:
        sending()
    assert str(small.value) != str(large.value)


# --- the probe -------------------------------------------------------------------------------------------------------


def test_a_probe_takes_a_new_token_and_makes_a_call_that_cannot_change_anything(odd: OddNhn, nhn: Nhn) -> None:
    odd.answers[PATCH], odd.answers[PROBE] = Reply(body=labelled("N")), NOTHING
    nhn.relabel(relabeling("N"), NO_GATE)
    nhn.probe()
    assert odd.tokens == 2
    (request,) = odd.to(PROBE)
    assert request.headers["authorization"] == "DPoP token-2"
    assert request.headers["content-type"] == "application/fhir+json", "the reference refuses a JSON Patch"
    assert "securityLabel" not in json.loads(request.body)


@pytest.mark.parametrize(
    ("reply", "meant"),
    [
        (Reply(200, labelled()), None),
        (Reply(200, {}), AccountBlocked),
        *((Reply(status, outcome("error", "not-found")), None) for status in (400, 402, 404, 410, 422, 500)),
        *((Reply(status, "Not Found"), AccountBlocked) for status in (400, 402, 404, 410, 422)),
        *((Reply(status, {"title": "Not Found"}), AccountBlocked) for status in (400, 402, 404)),
        (Reply(500), None),
        (unauthorized("invalid_token"), AccountBlocked),
        (Reply(403), AccountBlocked),
        (Reply(429), RetryLater),
        (Reply(502), RetryLater),
        (Reply(503), RetryLater),
        (Reply(504), RetryLater),
    ],
)
def test_a_probe_tells_whether_the_api_takes_our_calls(
    odd: OddNhn, nhn: Nhn, reply: Reply, meant: type[StepError] | None
) -> None:
    odd.answers[PROBE] = reply
    if meant is None:
        nhn.probe()
        return
    with pytest.raises(meant):
        nhn.probe()


# --- labels ----------------------------------------------------------------------------------------------------------


def test_labels_are_replaced_by_a_resource_that_holds_nothing_else(odd: OddNhn, nhn: Nhn) -> None:
    odd.answers[PATCH] = Reply(body=labelled("N", "NORS"))
    relabeled = nhn.relabel(relabeling("N", "NORS"), NO_GATE)
    (request,) = odd.to(PATCH)
    assert request.headers["content-type"] == "application/fhir+json"
    assert json.loads(request.body) == {
        "resourceType": "DocumentReference",
        "id": DOCUMENT_ID,
        "securityLabel": [
            {"coding": [{"system": "urn:oid:2.999", "code": "N"}]},
            {"coding": [{"system": "urn:oid:2.999", "code": "NORS"}]},
        ],
    }
    assert relabeled.record.id == DOCUMENT_ID
    assert relabeled.record.url == f"{odd.base}/R4/fhir/DocumentReference/{DOCUMENT_ID}"
    assert relabeled.remarks == ()


def test_labels_are_replaced_by_a_json_patch_of_one_operation(odd: OddNhn, nhn: Nhn) -> None:
    odd.answers[PATCH] = Reply(body=labelled("N"))
    asked = relabeling("N", payload="json-patch")
    labels = (Label("urn:oid:2.999", "N", "Normal"),)
    nhn.relabel(
        replace(asked, document=replace(asked.document, relabeling=Relabeling(DOCUMENT_ID, labels, "json-patch"))),
        NO_GATE,
    )
    (request,) = odd.to(PATCH)
    assert request.headers["content-type"] == "application/json-patch+json"
    value = [{"coding": [{"system": "urn:oid:2.999", "code": "N", "display": "Normal"}]}]
    assert json.loads(request.body) == [{"op": "replace", "path": "/securityLabel", "value": value}]


@pytest.mark.parametrize(
    "answer",
    [
        labelled("NORS", "N"),
        labelled("N", "NORS", "N"),
        labelled("N", "NORS", meta={"versionId": "2"}, id=None),
        {
            "resourceType": "DocumentReference",
            "securityLabel": [
                {"coding": [{"system": "urn:oid:2.999", "code": each, "display": "x"} for each in ("N", "NORS")]}
            ],
        },
    ],
)
def test_the_order_of_labels_and_their_wrapping_do_not_matter(odd: OddNhn, nhn: Nhn, answer: dict[str, Any]) -> None:
    odd.answers[PATCH] = Reply(body=answer)
    assert nhn.relabel(relabeling("N", "NORS"), NO_GATE).remarks == ()
    assert len(odd.to(PATCH)) == 1


@pytest.mark.parametrize(
    "answer",
    [
        labelled("N"),
        labelled("N", "NORS", "R"),
        labelled(),
        labelled("N", "NORS", securityLabel=None),
        labelled("N", "NORS", securityLabel=[{"coding": None}]),
        labelled("N", "NORS", securityLabel=[{"coding": [{"system": "urn:oid:2.1", "code": "N"}, {"code": "NORS"}]}]),
    ],
)
def test_other_labels_in_the_answer_are_no_delivery(odd: OddNhn, nhn: Nhn, answer: dict[str, Any]) -> None:
    odd.answers[PATCH] = Reply(body=answer)
    with pytest.raises(DocumentRefused, match="other labels") as refused:
        nhn.relabel(relabeling("N", "NORS"), NO_GATE)
    assert refused.value.code is Code.REFUSED_BY_PROVIDER
    assert refused.value.hint
    assert len(odd.to(PATCH)) == 2, "it is tried once more"


@pytest.mark.parametrize("status", [403, 415])
def test_a_json_patch_that_is_refused_is_one_jobs_matter_and_the_other_form_is_named(
    odd: OddNhn, nhn: Nhn, status: int
) -> None:
    odd.answers[PATCH] = Reply(status, outcome("error", "forbidden", "Unknown content type"))
    with pytest.raises(DocumentRefused, match="JSON Patch") as refused:
        nhn.relabel(relabeling("N", payload="json-patch"), NO_GATE)
    assert "--payload resource" in refused.value.hint
    with pytest.raises(AccountBlocked):
        nhn.relabel(relabeling("N"), NO_GATE)


def test_a_label_may_have_several_codings(odd: OddNhn, nhn: Nhn) -> None:
    asked = relabeling().document
    label = Label("urn:oid:2.999", "N", None, (LabelCoding("urn:oid:2.998", "normal", "Normal"),))
    made = replace(relabeling(), document=replace(asked, relabeling=Relabeling(DOCUMENT_ID, (label,))))
    nhn.check(made.document)
    both = [
        {"system": "urn:oid:2.999", "code": "N"},
        {"system": "urn:oid:2.998", "code": "normal", "display": "Normal"},
    ]
    # The registry of the reference implementation shows each coding as a label of its own.
    shown = [{"coding": [coding]} for coding in both]
    odd.answers[PATCH] = Reply(body=labelled(securityLabel=shown))
    nhn.relabel(made, NO_GATE)
    assert json.loads(odd.to(PATCH)[0].body)["securityLabel"] == [{"coding": both}]
    odd.answers[PATCH] = Reply(body=labelled("N"))
    with pytest.raises(DocumentRefused, match="other labels"):
        nhn.relabel(made, NO_GATE)


def test_a_bare_oid_is_the_same_system_as_its_uri(odd: OddNhn, nhn: Nhn) -> None:
    """A job of an earlier version may hold one; the answer has a URI, or what the registry keeps."""
    bare = replace(
        relabeling(),
        document=replace(relabeling().document, relabeling=Relabeling(DOCUMENT_ID, (Label("2.999", "N"),))),
    )
    for shown in ("urn:oid:2.999", "2.999"):
        label = {"coding": [{"system": shown, "code": "N"}]}
        odd.answers[PATCH] = Reply(body=labelled(securityLabel=[label]))
        assert nhn.relabel(bare, NO_GATE).remarks == ()
    sent = json.loads(odd.to(PATCH)[0].body)["securityLabel"][0]["coding"][0]
    assert sent["system"] == "urn:oid:2.999"
    assert len(odd.to(PATCH)) == 2, "none was sent twice"


def test_an_answer_that_was_a_moment_late_is_believed_the_second_time(odd: OddNhn, nhn: Nhn) -> None:
    odd.answers[PATCH] = lambda _: Reply(body=labelled("N" if len(odd.to(PATCH)) == 1 else "NORS"))
    nhn.relabel(relabeling("NORS"), NO_GATE)
    assert len(odd.to(PATCH)) == 2


def test_a_success_in_an_outcome_is_remarked_upon_and_an_error_in_it_is_none(odd: OddNhn, nhn: Nhn) -> None:
    odd.answers[PATCH] = Reply(body=outcome("information", "informational"))
    assert nhn.relabel(relabeling("N"), NO_GATE).remarks == (
        "NHN said that the labels were changed, and did not show them.",
    )
    odd.answers[PATCH] = Reply(body=outcome("error", "processing", f"not for {NATIONAL_ID}"))
    with pytest.raises(DocumentRefused) as refused:
        nhn.relabel(relabeling("N"), NO_GATE)
    assert NATIONAL_ID in refused.value.detail
    assert NATIONAL_ID not in str(refused.value)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(402), "no such document"),
        (Reply(402, outcome("error", "not-found")), "no such document"),
        (Reply(404, outcome("error", "not-found")), "no such document"),
        (Reply(404, "nothing"), "no such document"),
        (Reply(410), "no such document"),
        (Reply(400, outcome("error", "not-found")), "no such document"),
        (Reply(400, outcome("error", "value")), "refused the labels"),
        (Reply(400, "nonsense"), "refused the labels"),
        (Reply(422), "refused the labels"),
    ],
)
def test_a_relabeling_is_refused_with_a_hint(odd: OddNhn, nhn: Nhn, reply: Reply, words: str) -> None:
    odd.answers[PATCH] = reply
    with pytest.raises(DocumentRefused, match=words) as refused:
        nhn.relabel(relabeling("N"), NO_GATE)
    assert refused.value.code is Code.REFUSED_BY_PROVIDER
    assert refused.value.hint
    assert DOCUMENT_ID not in str(refused.value)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("what", [PATCH, BUNDLE])
def test_an_api_that_is_unwell_is_asked_again_later(
    odd: OddNhn, nhn: Nhn, sending: Sending, status: int, what: str
) -> None:
    odd.answers[what] = Reply(status, outcome("error", "exception"), {"Retry-After": "7"})
    with pytest.raises((RetryLater, OutcomeUnknown)) as unwell:
        nhn.relabel(relabeling("N"), NO_GATE) if what is PATCH else sending()
    if status >= 500 and what is BUNDLE:
        assert isinstance(unwell.value, OutcomeUnknown), "it may have been stored"
    else:
        assert isinstance(unwell.value, RetryLater)
        assert unwell.value.after_seconds == 7
        assert unwell.value.throttled is (status == 429)


@pytest.mark.parametrize("status", [301, 307, 403, 405, 406, 415, 418])
@pytest.mark.parametrize("what", [PATCH, BUNDLE])
def test_what_no_document_can_help_blocks_the_account(
    odd: OddNhn, nhn: Nhn, sending: Sending, status: int, what: str
) -> None:
    odd.answers[what] = Reply(status, headers={"Location": "https://elsewhere.example/"})
    with pytest.raises(AccountBlocked) as blocked:
        nhn.relabel(relabeling("N"), NO_GATE) if what is PATCH else sending()
    assert not blocked.value.credentials, "a document is only failed if others get through"
    assert not blocked.value.outcome_unknown


@pytest.mark.parametrize(
    "body",
    ["", [], {}, {"resourceType": "Patient"}, {"resourceType": 7}, labelled("N", id="other")]
    + [labelled("N", securityLabel=value) for value in BAD_LABELS],
)
def test_a_changed_document_in_another_shape_blocks_the_account(odd: OddNhn, nhn: Nhn, body: Any) -> None:
    odd.answers[PATCH] = Reply(body=body)
    with pytest.raises(AccountBlocked, match="not understood"):
        nhn.relabel(relabeling("N"), NO_GATE)


# --- before any call -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"document_id": "../x"}, "id"),
        ({"document_id": ".."}, "id"),
        ({"document_id": ""}, "id"),
        ({"document_id": "a" * 65}, "id"),
        ({"document_id": "a\n"}, "id"),
        ({"labels": ()}, "whole new list"),
        ({"labels": (Label("urn:oid:2.9", "N"), Label("", "N"))}, "system of label 2"),
        ({"labels": (Label("urn:oid 2.9", "N"),)}, "system of label 1"),
        ({"labels": (Label("urn:oid:2.9\udce9", "N"),)}, "system of label 1"),
        ({"labels": (Label("urn:oid:2.9", ""),)}, "code of label 1"),
        ({"labels": (Label("urn:oid:2.9", " N"),)}, "code of label 1"),
        ({"labels": (Label("urn:oid:2.9", "N\n"),)}, "code of label 1"),
        ({"labels": (Label("urn:oid:2.9", "N", "\udce9"),)}, "display of label 1"),
        ({"payload": "xml"}, "payload"),
    ],
)
def test_a_relabeling_that_could_not_be_is_refused_without_a_call(
    odd: OddNhn, nhn: Nhn, change: dict[str, Any], words: str
) -> None:
    asked = Relabeling(DOCUMENT_ID, (Label("urn:oid:2.9", "N"),))
    document = relabeling().document
    nhn.check(replace(document, relabeling=asked))
    with pytest.raises(DocumentRefused, match=words) as refused:
        nhn.check(replace(document, relabeling=replace(asked, **change)))
    assert refused.value.code is Code.INVALID_REQUEST
    assert odd.requests == []


def document(**change: Any) -> Document:
    return replace(job(patient_id=NATIONAL_ID, account="hospital").document, **change)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"patient_id": None}, Code.PATIENT_REQUIRED),
        ({"size_bytes": 0}, Code.FILE_EMPTY),
        ({"size_bytes": 60_000_001}, Code.FILE_TOO_LARGE),
        ({"file_name": "a\nb.pdf"}, Code.INVALID_REQUEST),
        ({"content_type": "no type"}, Code.UNSUPPORTED_TYPE),
        ({"description": "\udce9"}, Code.INVALID_REQUEST),
        ({"description": "a\0b"}, Code.INVALID_REQUEST),
        ({"options": {"metadata": []}}, Code.INVALID_REQUEST),
        ({"options": {"metadata": {"type": "no coding"}}}, Code.INVALID_REQUEST),
        ({"options": {"metadata": {"type": "a|b|\udce9"}}}, Code.INVALID_REQUEST),
        ({"options": {"metadata": {"author": "Grønn Vits"}}}, Code.INVALID_REQUEST),
        ({"options": {"metadata": {"kind": "a|b"}}}, Code.INVALID_REQUEST),
    ],
)
def test_what_could_never_arrive_is_refused_without_a_call(
    odd: OddNhn, nhn: Nhn, change: dict[str, Any], code: Code
) -> None:
    nhn.check(document(size_bytes=60_000_000, file_name="Über weisung (1).pdf"))
    with pytest.raises(DocumentRefused) as refused:
        nhn.check(document(**change))
    assert refused.value.code is code
    assert refused.value.hint
    assert odd.requests == []


ID = "57a07380-1818-460f-85bb-81f8e4e45c42"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"created": "2026-11"}, "options.created"),
        ({"created": "2026-11-31"}, "options.created"),
        ({"created": "2026-11-30T08:15:00"}, "options.created"),
        ({"created": "30.11.2026"}, "options.created"),
        ({"created": 20261130}, "options.created"),
        ({"created": ""}, "options.created"),
        ({"created": "9000-01-01"}, "lies in the future"),
        ({"created": "9000-01-01T00:00:00Z"}, "lies in the future"),
        ({"title": ""}, "options.title"),
        ({"title": "two\nlines"}, "options.title"),
        ({"title": ["x"]}, "options.title"),
        ({"title": "x" * 201}, "options.title"),
        ({"patient": []}, "options.patient"),
        ({"patient": {"name": [{"given": ["Line"]}]}}, "options.patient"),
        ({"patient": {"birthDate": "1980-13-01"}}, "options.patient"),
        ({"patient": {"birthDate": "80-12-31"}}, "options.patient"),
        ({"patient": {"gender": "f"}}, "options.patient"),
        ({"patient": {"name": [{"family": "\udce9"}]}}, "options.patient"),
        ({"patient": {"address": []}}, "options.patient"),
        ({"replaces": "4711"}, "options.replaces"),
        ({"appends": f"DocumentReference/{ID}"}, "options.appends"),
        ({"replaces": ID, "appends": ID}, "cannot both"),
        ({"pages": 3}, "does not take"),
        ({"metadata": {"language": "norsk bokmål"}}, "language"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_without_a_call(
    odd: OddNhn, nhn: Nhn, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(DocumentRefused, match=words) as refused:
        nhn.check(document(options=options))
    assert refused.value.code is Code.INVALID_REQUEST
    assert refused.value.hint
    assert odd.requests == []


@pytest.mark.parametrize(
    ("name", "content_type"), [("a.docx", None), ("a.html", None), ("a", None), ("a.pdf", "application/zip")]
)
def test_a_type_that_the_repository_does_not_take_is_refused_before_sending(
    odd: OddNhn, nhn: Nhn, make: Make, name: str, content_type: str | None
) -> None:
    asked = document(file_name=name, content_type=content_type)
    with pytest.raises(DocumentRefused, match="NHN does not take") as refused:
        nhn.check(asked)
    assert refused.value.code is Code.REFUSED_BY_PROVIDER
    assert refused.value.detail.startswith("It takes application/pdf, ")
    assert odd.requests == []
    make(media_types=[]).check(asked)


@pytest.mark.parametrize("name", [name for name in METADATA if name != "author"])
def test_metadata_that_nhn_refuses_a_document_without_is_named(make: Make, name: str) -> None:
    lacking = make(metadata={**METADATA, name: ""})
    with pytest.raises(DocumentRefused, match=f"without metadata\\.{name}\\.") as refused:
        lacking.check(document())
    assert refused.value.code is Code.INVALID_REQUEST
    lacking.check(document(options={"metadata": {name: METADATA[name]}}))


def test_all_that_is_missing_is_named_at_once(make: Make) -> None:
    with pytest.raises(DocumentRefused) as refused:
        make(metadata={}, organization={"name": "Sykehuset"}).check(document())
    for name in ("type", "category", "format", "facility_type", "practice_setting", "security_label", "author.name"):
        assert f"metadata.{name}" in str(refused.value)
    assert "organization.number" in str(refused.value)


def test_accounts_of_one_client_share_a_limit_that_does_not_show_it(make: Make) -> None:
    ours = make().limit_group
    assert make(organization={"child": "300000003"}).limit_group == ours
    assert make(client_id="another").limit_group != ours
    assert make(base_url="http://127.0.0.1:1/").limit_group != ours
    assert "the-client" not in ours


def test_both_ways_are_one_creating_call_that_may_be_repeated(nhn: Nhn) -> None:
    for asked in (document(), relabeling("N").document):
        route = nhn.route(asked)
        assert (route.first, route.stages, route.on_unknown_outcome) == (
            Step.REGISTER,
            (Stage.REGISTERED,),
            OnUnknownOutcome.RESEND,
        )


# --- providing a document --------------------------------------------------------------------------------------------


def test_a_document_is_provided_with_all_that_is_said_of_it(sending: Sending) -> None:
    sending.of(CONTENT, description="Epikrise etter opphold")
    registered = sending()
    bundle = bundle_of(sending.request)
    assert sending.request.headers["content-type"] == "application/fhir+json"
    assert sending.request.headers["content-length"] == str(len(sending.request.body))
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "transaction")
    assert [entry["resource"]["resourceType"] for entry in bundle["entry"]] == [
        "List",
        "Patient",
        "Binary",
        "DocumentReference",
    ]
    for entry in bundle["entry"]:
        assert entry["fullUrl"] == f"urn:uuid:{entry['resource']['id']}"
        assert entry["request"] == {"method": "POST", "url": entry["resource"]["resourceType"]}
    binary, said = entry_of(sending.request, "Binary"), entry_of(sending.request, "DocumentReference")
    assert base64.b64decode(binary["data"], validate=True) == CONTENT
    (content,) = said["content"]
    attachment = content["attachment"]
    assert attachment["url"] == f"urn:uuid:{binary['id']}"
    assert (attachment["size"], attachment["title"]) == (len(CONTENT), "epikrise.pdf")
    assert base64.b64decode(attachment["hash"]) == hashlib.sha1(CONTENT, usedforsecurity=False).digest()
    assert attachment["contentType"] == binary["contentType"] == "application/pdf"
    assert said["masterIdentifier"]["value"] == f"urn:uuid:{said['id']}"
    assert said["description"] == "Epikrise etter opphold"
    patient = entry_of(sending.request, "Patient")
    assert patient["identifier"] == [{"system": "urn:oid:2.16.578.1.12.4.1.4.1", "value": NATIONAL_ID}]
    assert said["subject"] == {"reference": f"urn:uuid:{patient['id']}"}
    assert registered.record.id == said["id"]
    assert registered.processed
    assert registered.stored.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert registered.remarks == ()
    assert sending.gate.commits == 1


def test_the_national_id_stands_in_no_address(sending: Sending) -> None:
    sending()
    assert all(NATIONAL_ID not in request.path + str(request.query) for request in sending.odd.requests)


def test_a_documents_own_metadata_override_the_accounts(sending: Sending) -> None:
    own = {"type": "urn:oid:2.16.578.1.12.4.1.1.9602|J01", "author": {"name": "Kari Q. Nordmann"}}
    sending.of(CONTENT, options={"metadata": own}, content_type="text/plain; charset=utf-8")
    sending()
    said = entry_of(sending.request, "DocumentReference")
    assert said["type"]["coding"] == [{"system": "urn:oid:2.16.578.1.12.4.1.1.9602", "code": "J01"}]
    assert said["category"][0]["coding"][0]["code"] == "I00-1"
    (person,) = [each for each in said["contained"] if each["resourceType"] == "Practitioner"]
    assert person["name"] == [{"text": "Kari Q. Nordmann", "family": "Nordmann", "given": ["Kari", "Q."]}]
    assert said["content"][0]["attachment"]["contentType"] == "text/plain"


def test_the_bundle_has_what_ihes_profile_requires(sending: Sending) -> None:
    """https://profiles.ihe.net/ITI/MHD/StructureDefinition-IHE.MHD.Comprehensive.DocumentReference.html"""
    sending()
    said = entry_of(sending.request, "DocumentReference")
    assert said["content"][0]["attachment"]["language"] == "nb-NO"
    assert said["masterIdentifier"]["use"] == "usual"
    contained = {f"#{each['id']}": each for each in said["contained"]}
    source = contained[said["context"]["sourcePatientInfo"]["reference"]]
    assert (source["resourceType"], source["identifier"][0]["value"]) == ("Patient", NATIONAL_ID)
    assert {each["reference"] for each in said["author"]} <= set(contained)


def test_organization_language_and_a_documents_own_time_and_title_are_said(
    sending: Sending, odd: OddNhn, make: Make
) -> None:
    sending.nhn = make(
        organization={"child": "200000002", "name": "Sykehuset"},
        metadata={**METADATA, "language": "se-NO", "type": "2.16.578.1.12.4.1.1.9602|I02-2"},
    )
    sending.of(CONTENT, options={"created": "2025-11-30T08:15+01:00", "title": "Epikrise", "replaces": ID.upper()})
    sending()
    said = entry_of(sending.request, "DocumentReference")
    attachment = said["content"][0]["attachment"]
    assert (attachment["language"], attachment["title"]) == ("se-NO", "Epikrise")
    assert attachment["creation"] == "2025-11-30T08:15:00+01:00"
    assert said["relatesTo"] == [{"code": "replaces", "target": {"reference": f"DocumentReference/{ID}"}}]
    (organization,) = [each for each in said["contained"] if each["resourceType"] == "Organization"]
    assert (organization["name"], organization["identifier"][0]["value"]) == ("Sykehuset", "200000002")
    assert said["type"]["coding"][0]["system"] == "urn:oid:2.16.578.1.12.4.1.1.9602", "settings name OIDs without urn:"
    sending.of(CONTENT, options={"created": "2025-11-30", "appends": ID, "metadata": {"language": "en"}})
    sending()
    said = entry_of(sending.request, "DocumentReference")
    assert said["relatesTo"][0]["code"] == "appends"
    assert said["content"][0]["attachment"]["creation"] == "2025-11-30"
    assert said["content"][0]["attachment"]["language"] == "en"


def test_a_patients_name_and_birth_date_are_said_in_both_places(sending: Sending) -> None:
    known = {"name": [{"family": "Danser", "given": ["Line"]}], "birthDate": "1969-11-13", "gender": "female"}
    sending.of(CONTENT, options={"patient": known})
    sending()
    contained = entry_of(sending.request, "DocumentReference")["contained"]
    (inside,) = [each for each in contained if each["resourceType"] == "Patient"]
    for patient in (entry_of(sending.request, "Patient"), inside):
        assert {name: patient[name] for name in known} == known
        assert patient["identifier"][0]["value"] == NATIONAL_ID
    sending.of(CONTENT, options={"patient": {"name": [{"family": "Danser"}]}})
    sending()
    patient = entry_of(sending.request, "Patient")
    assert (patient["name"], "gender" in patient) == ([{"family": "Danser"}], False), "FHIR allows no empty elements"


@pytest.mark.parametrize(
    ("organization", "number"),
    [({"number": "1", "child": "2", "parent": "3"}, "1"), ({"child": "2", "parent": "3"}, "2"), ({"parent": "3"}, "3")],
)
def test_a_document_has_the_number_of_the_nearest_organization(
    sending: Sending, make: Make, organization: dict[str, str], number: str
) -> None:
    sending.nhn = make(organization=organization)
    sending()
    for kind in ("List", "DocumentReference"):
        contained = entry_of(sending.request, kind)["contained"]
        (said,) = [each for each in contained if each["resourceType"] == "Organization"]
        assert said["identifier"][0]["value"] == number


@pytest.mark.parametrize("said", [{"file_name": "a.rtf"}, {"file_name": "a.txt", "content_type": "application/rtf"}])
def test_rich_text_is_called_as_the_repository_calls_it(sending: Sending, make: Make, said: dict[str, str]) -> None:
    content = b"{\\rtf1 epikrise}"
    sending.of(content, **said)
    sending()
    assert entry_of(sending.request, "Binary")["contentType"] == "text/rtf"
    sending.nhn = make(media_types=["application/rtf"])
    sending.of(content, **said)
    sending()
    attachment = entry_of(sending.request, "DocumentReference")["content"][0]["attachment"]
    assert attachment["contentType"] == "application/rtf"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pdf", b"\x89PNG\r\n\x1a\n and so on"),
        ("a.txt", b"%PDF-1.7 and so on"),
        ("a.rtf", b"PK\x03\x04 and so on" + bytes(40)),
        ("a.xml", b"\xff\xd8\xff\xe0\x00\x10JFIF"),
    ],
)
def test_a_document_whose_bytes_are_of_another_type_does_not_leave(sending: Sending, name: str, content: bytes) -> None:
    sending.of(content, file_name=name)
    with pytest.raises(DocumentRefused, match="of another kind") as refused:
        sending()
    assert refused.value.code is Code.REFUSED_BY_PROVIDER
    assert sending.gate.commits == 0
    assert sending.odd.requests == []


def test_a_second_sending_is_the_same_to_the_byte(sending: Sending) -> None:
    sending()
    sending.job = replace(sending.job, uncertainty=Uncertainty(earlier_sending_unknown=True))
    time.sleep(1.1)  # the Bundle tells seconds
    sending()
    first, second = sending.odd.to(BUNDLE)
    assert first.body == second.body
    assert proof_of(first)[1]["jti"] != proof_of(second)[1]["jti"]


def test_another_job_another_patient_or_other_bytes_have_other_ids(sending: Sending) -> None:
    sending()
    sent = sending.job
    for change in (replace(sent, id="another"), replace(sent, document=replace(sent.document, patient_id="2182"))):
        sending.job = change
        sending()
    sending.job = replace(sending.of(b"other bytes"), id=sent.id)
    sending()
    ids = [{entry["fullUrl"] for entry in bundle_of(request)["entry"]} for request in sending.odd.to(BUNDLE)]
    assert len(set.union(*ids)) == sum(map(len, ids)) == 16


@pytest.mark.parametrize("size", [1, 2, 3, 4, 262_143, 262_144, 262_145, 1_000_001])
def test_any_number_of_bytes_leaves_with_its_exact_length(sending: Sending, size: int) -> None:
    content = os.urandom(size)
    sending.of(content)
    sending()
    assert base64.b64decode(entry_of(sending.request, "Binary")["data"], validate=True) == content


def test_a_document_that_changes_between_its_two_readings_does_not_leave(sending: Sending) -> None:
    """Its size, time and inode stay what they were: only the digest tells."""

    class Swapped(CountingGate):
        opens = 0

        def open(self) -> Any:
            self.opens += 1
            if self.opens == 2:
                status = sending.path.stat()
                with sending.path.open("r+b") as file:
                    file.write(b"other")
                os.utime(sending.path, ns=(status.st_atime_ns, status.st_mtime_ns))
            return super().open()

    sending.gate = Swapped(lambda: sending.files.open(sending.job.document.source, sending.job.document.identity))
    with pytest.raises(DocumentRefused) as refused:
        sending()
    assert refused.value.code is Code.FILE_CHANGED
    assert sending.gate.commits == 0


def test_a_refused_token_in_the_midst_costs_one_more_sending_and_one_record(sending: Sending) -> None:
    answer = sending.odd.answers[BUNDLE]
    assert callable(answer)
    sending.odd.answers[BUNDLE] = lambda request: (
        answer(request) if request.headers["authorization"] == "DPoP token-2" else unauthorized("invalid_token")
    )
    sending()
    first, second = sending.odd.to(BUNDLE)
    assert second.body == first.body or first.body == b""


# --- where it was filed ----------------------------------------------------------------------------------------------

WARNING = {"resource": outcome("warning", "business-rule", f"of {NATIONAL_ID}")}


def ours(request: Request) -> str:
    return str(entry_of(request, "DocumentReference")["id"])


@pytest.mark.parametrize(
    "entries",
    [
        lambda it: [located(f"DocumentReference/{it}")],
        lambda it: [located(f"DocumentReference/{it}", None)],
        lambda it: [located(f"DocumentReference/{it}", 201)],
        lambda it: [located(f"DocumentReference/{it}/_history/1")],
        lambda it: [located(f"https://api.pjd.test.nhn.no/R4/fhir/DocumentReference/{it}")],
        lambda it: [located("List/9"), located("Patient/8"), located("Binary/7"), located(f"DocumentReference/{it}")],
        lambda it: [located(f"DocumentReference/{it}"), {}, {"response": None}, {"response": {}}, {"resource": 5}],
        lambda it: [located(None), located(7), located(f"DocumentReference/{it}"), located("DocumentReference/other")],
    ],
)
def test_the_record_is_found_by_its_place_and_not_by_its_index(
    sending: Sending, entries: Callable[[str], list[dict[str, Any]]]
) -> None:
    sending.odd.answers[BUNDLE] = lambda request: Reply(body=transaction(*entries(ours(request))))
    registered = sending()
    assert registered.record.id == ours(sending.request)
    assert registered.record.url == f"{sending.odd.base}/R4/fhir/DocumentReference/{registered.record.id}"


def test_an_id_that_nhn_has_chosen_is_the_records(sending: Sending) -> None:
    sending.answered(200, transaction(located("DocumentReference/4711")))
    assert sending().record.id == "4711"


def test_warnings_become_one_sentence_that_holds_none_of_their_words(sending: Sending) -> None:
    more = {"resource": outcome("information", f"code of {NATIONAL_ID}")}
    sending.odd.answers[BUNDLE] = lambda request: Reply(
        body=transaction(located(f"DocumentReference/{ours(request)}", outcome=outcome("warning", "value")), WARNING)
        | {}
    )
    assert sending().remarks == ("NHN remarked upon it: warning business-rule (1), warning value (1).",)
    sending.odd.answers[BUNDLE] = lambda request: Reply(
        body=transaction(WARNING, more, WARNING, located(f"DocumentReference/{ours(request)}"))
    )
    (remark,) = sending().remarks
    assert remark == "NHN remarked upon it: information unknown (1), warning business-rule (2)."


@pytest.mark.parametrize(
    "body",
    [
        "",
        [],
        {},
        {"resourceType": "Patient", "entry": 5},
        transaction(),
        transaction(located("Binary/1")),
        transaction(located("DocumentReference/1"), located("DocumentReference/2")),
        transaction(located("DocumentReference/1/2")),
        {"resourceType": "Bundle"},
        {"resourceType": "Bundle", "entry": {}},
        {"resourceType": "Bundle", "entry": [7]},
        outcome("information", "informational"),
    ],
)
def test_a_success_that_is_not_understood_blocks_the_account_and_leaves_open_what_became_of_it(
    sending: Sending, body: Any
) -> None:
    sending.answered(200, body)
    with pytest.raises(AccountBlocked, match="not understood") as blocked:
        sending()
    assert blocked.value.outcome_unknown
    assert not blocked.value.credentials


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, outcome("error", "not-found", f"XDSUnknownPatientId {NATIONAL_ID}"), "this patient"),
        (400, outcome("fatal", "required", f"of {NATIONAL_ID}"), "refused the document"),
        (400, "nonsense", "refused the document"),
        (409, outcome("error", "conflict"), "refused the document"),
        (413, "", "too large"),
        (422, "", "refused the document"),
        (200, outcome("error", "processing"), "did not take"),
        (200, transaction(located("DocumentReference/1"), {"resource": outcome("error", "value")}), "did not take"),
        (200, transaction(located("DocumentReference/1", "400 Bad Request")), "did not take"),
        (200, transaction(located("DocumentReference/1", 422)), "did not take"),
        (200, transaction(located(None, "400", outcome=outcome("error", "value"))), "did not take"),
    ],
)
def test_a_document_is_refused_with_a_hint_and_the_words_only_in_the_detail(
    sending: Sending, status: int, body: Any, words: str
) -> None:
    sending.answered(status, body)
    with pytest.raises(DocumentRefused, match=words) as refused:
        sending()
    assert refused.value.code is Code.REFUSED_BY_PROVIDER
    assert refused.value.hint
    assert NATIONAL_ID not in str(refused.value)
    if NATIONAL_ID in str(body):
        assert NATIONAL_ID in refused.value.detail


@pytest.mark.parametrize("status", [402, 404])
def test_an_address_without_an_endpoint_is_the_accounts_fault(sending: Sending, status: int) -> None:
    sending.answered(status, "")
    with pytest.raises(AccountBlocked, match="base_url"):
        sending()


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        "XDSDocumentUniqueIdError: Non unique ID in repository",
        "XDSDuplicateUniqueIdInRegistry: Duplicate UUIDs in request and registry urn:uuid:{}",
        "Non unique ID in Repository urn:uuid:{}",
        "XDSError_Code: XDSDocumentUniqueIdError, XDSError_CodeContext: Non unique ID in repository {binary}",
    ],
)
def test_our_own_ids_being_there_already_mean_that_an_earlier_sending_was_stored(
    sending: Sending, words: str, inside: bool
) -> None:
    def answer(request: Request) -> Reply:
        said = outcome("error", "duplicate", words.format(ours(request), binary=entry_of(request, "Binary")["id"]))
        return Reply(200, transaction({"resource": said})) if inside else Reply(400, said)

    sending.odd.answers[BUNDLE] = answer
    registered = sending()
    assert registered.record.id == ours(sending.request)
    assert registered.remarks == (EARLIER,)


def test_what_was_stored_before_has_the_digests_of_the_whole_document_however_early_nhn_says_so(
    sending: Sending,
) -> None:
    content = b"x" * 20_000_000  # more than fits into the sockets' buffers
    sending.of(content)
    sending.odd.early[BUNDLE] = Reply(400, outcome("error", "duplicate", "Non unique ID in Repository"))
    registered = sending()
    assert registered.remarks == (EARLIER,)
    assert registered.stored.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "issues",
    [
        [("error", "duplicate", "XDSDuplicateUniqueIdInRegistry: urn:uuid:57a07380-1818-460f-85bb-81f8e4e45c42")],
        [("error", "duplicate", "another document has the same bytes")],
        [("error", "duplicate", "Non unique ID"), ("error", "not-found", "XDSUnknownPatientId")],
        [("warning", "duplicate", "Non unique ID")],
    ],
)
def test_ids_of_others_and_what_is_wrong_besides_are_no_delivery(
    sending: Sending, issues: list[tuple[str, str, str]]
) -> None:
    said = {"resourceType": "OperationOutcome", "issue": [outcome(*issue)["issue"][0] for issue in issues]}
    sending.answered(400, said)
    with pytest.raises(DocumentRefused):
        sending()


# --- a dry run -------------------------------------------------------------------------------------------------------

VALIDATE = "POST /R4/fhir/Bundle/$validate"


def validated(sending: Sending, reply: Reply) -> Any:
    sending.odd.answers[VALIDATE] = reply
    ready = replace(sending.job, facts=sending.nhn.before_sending(sending.job))
    return sending.nhn.validate(ready, sending.gate)


def test_a_dry_run_sends_the_bundle_to_be_validated_and_nothing_else(sending: Sending) -> None:
    remarks = validated(sending, Reply(200, outcome("warning", "business-rule", "no department")))
    assert list(remarks) == ["warning: business-rule: no department"]
    assert sending.odd.to(BUNDLE) == []
    (request,) = sending.odd.to(VALIDATE)
    assert base64.b64decode(entry_of(request, "Binary")["data"]) == CONTENT


def test_a_dry_run_tells_what_would_be_refused_and_whether_nhn_was_asked_at_all(sending: Sending) -> None:
    for reply in (
        Reply(400, outcome("fatal", "required", "no List")),
        Reply(200, outcome("error", "value", "no List")),
    ):
        with pytest.raises(DocumentRefused) as refused:
            validated(sending, reply)
        assert "no List" in refused.value.detail
    for status in (404, 405):
        (remark,) = validated(sending, Reply(status, ""))
        assert "only chartpost's own checks" in remark
    with pytest.raises(RetryLater):
        validated(sending, Reply(503))
    with pytest.raises(AccountBlocked, match="not understood"):
        validated(sending, Reply(200, {"resourceType": "Bundle"}))


# --- looking for a document ------------------------------------------------------------------------------------------


def lost(sending: Sending) -> str:
    """Let the answer to a first sending be lost. Returns the call that asks for the document."""
    sending.odd.answers[BUNDLE] = Reply(504)
    with pytest.raises(OutcomeUnknown):
        sending()
    sending.job = replace(sending.job, uncertainty=Uncertainty(earlier_sending_unknown=True))
    return f"GET /R4/fhir/DocumentReference/{ours(sending.request)}"


def test_after_a_lost_answer_a_document_that_nhn_shows_is_not_sent_again(sending: Sending) -> None:
    shown = lost(sending)
    document_id = shown.rpartition("/")[2]
    resource = {"resourceType": "DocumentReference", "id": document_id, "status": "current"}
    sending.odd.answers[shown] = Reply(body=resource)
    registered = sending()
    assert (registered.record.id, registered.remarks) == (document_id, (SHOWN,))
    assert registered.stored.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert len(sending.odd.to(BUNDLE)) == 1
    (request,) = sending.odd.to(shown)
    assert request.query == {"homeCommunityId": ["2.16.578.1.12.4.5.100.3.15"]}
    assert "content-type" not in request.headers, "the reference implementation judges a GET by its having none"
    assert proof_of(request)[1]["htm"] == "GET"


NOT_SHOWN = [
    Reply(401, outcome("error", "login")),
    Reply(403, outcome("error", "forbidden")),
    Reply(404, outcome("error", "not-found")),
    Reply(404, "<html>", {"Content-Type": "text/html"}),
    Reply(405),
    Reply(410),
    Reply(500),
    Reply(200, "null"),
    Reply(200, ""),
    Reply(200, outcome("error", "not-found")),
    Reply(200, {"resourceType": "DocumentReference", "id": "another", "status": "current"}),
    Reply(200, {"resourceType": "Patient", "id": DOCUMENT_ID}),
]


@pytest.mark.parametrize("reply", NOT_SHOWN, ids=lambda reply: f"{reply.status}-{str(reply.body)[:20]}")
def test_what_nhn_does_not_show_is_sent_again_with_the_same_ids(sending: Sending, reply: Reply) -> None:
    taken = sending.odd.answers[BUNDLE]
    sending.odd.answers[lost(sending)] = reply
    sending.odd.answers[BUNDLE] = taken
    assert sending().remarks == ()
    first, second = sending.odd.to(BUNDLE)
    assert first.body == second.body
    assert sending.odd.tokens == 1, "a token that may not read is no reason for a new one"


@pytest.mark.parametrize(
    ("reply", "there"),
    [
        (Reply(200, {"resourceType": "DocumentReference", "id": DOCUMENT_ID, "status": "current"}), True),
        (Reply(200, {"resourceType": "DocumentReference", "id": DOCUMENT_ID.upper(), "status": "superseded"}), True),
        (Reply(200, {"resourceType": "DocumentReference", "id": DOCUMENT_ID, "status": "entered-in-error"}), False),
        (Reply(200, "null"), False),
        (Reply(410), False),
        (Reply(401), True),
        (Reply(403), True),
        (Reply(404), True),
        (Reply(200, "<html>", {"Content-Type": "text/html"}), True),
    ],
)
def test_an_earlier_record_stands_unless_nhn_lets_us_read_and_no_longer_has_it(
    odd: OddNhn, nhn: Nhn, reply: Reply, there: bool
) -> None:
    odd.answers[f"GET /R4/fhir/DocumentReference/{DOCUMENT_ID}"] = reply
    assert nhn.still_there(document(), Record(DOCUMENT_ID)) is there


# --- whatever it answers ---------------------------------------------------------------------------------------------

NAMES = "resourceType entry response location status outcome resource issue severity details text securityLabel coding"
NAMES_OF_HELSEID = "code system id error access_token token_type expires_in scope rejected_scope"
WORDS = ("201 Created", "DocumentReference/1", "error", "OperationOutcome", "Bundle", "DocumentReference", "DPoP")

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(f"{NAMES} {NAMES_OF_HELSEID}".split()), inner, max_size=5)
    ),
    max_leaves=15,
)
fuzzed = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def kind(name: str) -> st.SearchStrategy[Any]:
    """Anything, or anything that calls itself so."""
    named = st.dictionaries(st.sampled_from(["entry", "securityLabel", "issue", "id"]), values, max_size=4)
    return values | named.map(lambda body: {"resourceType": name, **body})


@fuzzed
@given(st.sampled_from([200, 201, 400, 401]), kind("Bundle") | kind("OperationOutcome"))
def test_no_answer_to_a_document_raises_anything_but_our_errors(sending: Sending, status: int, body: Any) -> None:
    sending.answered(status, body)
    try:
        registered = sending()
    except StepError:
        return
    assert registered.record.id
    assert status in (200, 201) or registered.remarks == (EARLIER,)


@fuzzed
@given(st.sampled_from([200, 400, 401, 404]), kind("DocumentReference") | kind("OperationOutcome"))
def test_no_answer_to_labels_raises_anything_but_our_errors(odd: OddNhn, nhn: Nhn, status: int, body: Any) -> None:
    odd.answers[PATCH] = Reply(status, body)
    try:
        relabeled = nhn.relabel(relabeling("N"), NO_GATE)
    except StepError:
        return
    assert status == 200
    assert relabeled.remarks, "by chance only an outcome can say that it is done"


@fuzzed
@given(st.sampled_from([200, 400, 404]), kind("DocumentReference") | kind("OperationOutcome"))
def test_no_answer_to_a_look_or_a_probe_raises_anything_but_our_errors(
    odd: OddNhn, nhn: Nhn, status: int, body: Any
) -> None:
    odd.answers[f"GET /R4/fhir/DocumentReference/{DOCUMENT_ID}"] = odd.answers[PROBE] = Reply(status, body)
    assert nhn.still_there(document(), Record(DOCUMENT_ID)) or body is None or isinstance(body, dict)
    with suppress(StepError):
        nhn.probe()


@fuzzed
@given(st.sampled_from([200, 400, 401]), values)
def test_no_answer_of_helseid_raises_anything_but_our_errors(
    odd: OddNhn, nhn: Nhn, cache: DictCache, status: int, body: Any
) -> None:
    cache.values.clear()
    odd.answers[TOKEN], odd.answers[PATCH] = Reply(status, body), Reply(body=labelled("N"))
    try:
        nhn.relabel(relabeling("N"), NO_GATE)
    except StepError:
        return
    assert isinstance(body, dict)
    assert body["access_token"]


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_neither_logs_nor_errors_hold_token_key_assertion_proof_or_patient(
    odd: OddNhn, sending: Sending, nhn: Nhn, key: ECKey
) -> None:
    said: list[str] = []
    with capture_logs() as logs:
        for reply in (
            Reply(400, outcome("error", "value", NATIONAL_ID)),
            unauthorized("invalid_token"),
            unauthorized("invalid_dpop_proof"),
            Reply(403),
            Reply(503),
            Reply(200, "nonsense"),
        ):
            odd.answers[BUNDLE] = reply
            with pytest.raises(StepError) as raised:
                sending()
            said.append(whole(raised.value))
        odd.answers[TOKEN] = Reply(400, {"error": "invalid_client"})
        with pytest.raises(StepError) as raised:
            nhn.probe()
        said.append(whole(raised.value))
    everything = "".join(said) + repr(logs)
    sent = [request.headers for request in odd.requests]
    secret = [headers[name] for headers in sent for name in ("authorization", "dpop") if name in headers]
    secret += [form_of(request)["client_assertion"] for request in odd.to(TOKEN)]
    secret += [NATIONAL_ID, "epikrise.pdf", "token-1", str(key.as_dict(private=True)["d"])]
    assert len(secret) > 12
    assert not [each for each in secret if each in everything]
