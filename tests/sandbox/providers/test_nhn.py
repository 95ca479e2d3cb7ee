"""HelseID, and NHN's document sharing behind it, as their pages describe them."""

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from tests.harness.keys import signing_key
from tests.harness.sandbox import SandboxProcess
from tests.sandbox.providers.pracsuite_clinic import eventually
from tests.sandbox.providers.signing import ASSERTION_TYPE, Key, assertion_claims, dpop, signed

Json = dict[str, Any]
Change = Callable[[Json], object]
MHD = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/"
NORMAL = {"coding": [{"system": "urn:oid:2.16.840.1.113883.5.25", "code": "N", "display": "Normal"}]}
BLOCKED = {"coding": [{"system": "urn:oid:2.16.578.1.12.4.1.1.9603", "code": "NORS", "display": "Sperret"}]}
FHIR, PATCH = {"Content-Type": "application/fhir+json"}, {"Content-Type": "application/json-patch+json"}
STATUSES_THAT_HOLD_ISSUES = {400, 401, 402, 403, 404, 413, 429, 500, 503}


class Nhn:
    """A caller with the printed account and a key for proofs of its own."""

    def __init__(self, sandbox: SandboxProcess) -> None:
        self.sandbox = sandbox
        self.settings = sandbox.settings["accounts"]["nhn_hospital"]
        self.issuer: str = self.settings["issuer"]
        self.client_key = signing_key(self.settings["private_key"])
        self.key: Key = ECKey.generate_key("P-256")
        self.http = httpx.Client(trust_env=False, timeout=60)
        self.described: Json = self.http.get(f"{self.issuer}/.well-known/openid-configuration").json()
        self.token_url: str = self.described["token_endpoint"]
        self.token = str(self.ask_for_token().json()["access_token"])

    def assertion(self, key: Key | None = None, **changes: Any) -> str:
        header = {"alg": "PS256", "kid": self.settings["key_id"], "typ": "client-authentication+jwt"}
        claims = assertion_claims(self.settings["client_id"], self.issuer, 10)
        both = self.settings["organization"]
        value = f"NO:ORGNR:{both['parent']}:{both['child']}"
        claims |= {"nbf": claims["iat"], "assertion_details": details("urn:oid:1.0.6523", value)}
        return signed(key or self.client_key, header, claims, **changes)

    def ask_for_token(
        self, assertion: str | None = None, proof: str | list[str] | None = None, **form: str
    ) -> httpx.Response:
        fields = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE}
        fields |= {"client_id": self.settings["client_id"], "scope": self.settings["scope"]}
        fields["client_assertion"] = assertion or self.assertion()
        proofs = dpop(self.key, "POST", self.token_url) if proof is None else proof
        headers = [("DPoP", each) for each in ([proofs] if isinstance(proofs, str) else proofs)]
        return self.http.post(self.token_url, data=fields | form, headers=headers)

    def address(self, path: str) -> str:
        return f"{self.settings['base_url']}/{path}"

    def call(self, method: str, path: str, proof: str | None = None, **more: Any) -> httpx.Response:
        """With all required headers. `headers` replaces some; None leaves one out."""
        query = {"homeCommunityId": self.settings["home_community_id"]} if method == "PATCH" else {}
        headers = {
            "Accept": "application/fhir+json; fhirVersion=4.0",
            "nhn-source-system": self.settings["source_system"],
            "Authorization": f"DPoP {self.token}",
            "DPoP": proof or dpop(self.key, method, self.address(path), self.token),
        } | more.pop("headers", {})
        kept = {name: value for name, value in headers.items() if value is not None}
        answer = self.http.request(method, self.address(path), headers=kept, **{"params": query} | more)
        if answer.status_code in STATUSES_THAT_HOLD_ISSUES:
            assert answer.json()["resourceType"] == "OperationOutcome"
        return answer

    def patch(self, document_id: str, labels: Any, **more: Any) -> httpx.Response:
        body = {"resourceType": "DocumentReference", "id": document_id, "securityLabel": labels}
        return self.call("PATCH", f"DocumentReference/{document_id}", json=body, **{"headers": FHIR} | more)

    def provide(self, bundle: Json) -> httpx.Response:
        return self.call("POST", "Bundle", json=bundle, headers=FHIR)

    def labels(self, document_id: str) -> Json:
        """A document's labels in the sandbox; empty if it does not know the document."""
        answer = self.http.get(f"{self.sandbox.base}/_sandbox/labels")
        labels: Json = answer.json()["labels"].get(document_id, {})
        return labels

    def records(self, patient_id: str) -> list[Json]:
        return self.sandbox.charts(provider="nhn", patient_id=patient_id)

    def bundle(self, patient_id: str, title: str, content: bytes = b"%PDF some bytes") -> Json:
        return submission(patient_id, title, content, self.settings["home_community_id"])


def details(system: str, value: str) -> Json:
    identifier = {"system": system, "type": "ENH", "value": value}
    return {"type": "helseid_authorization", "practitioner_role": {"organization": {"identifier": identifier}}}


def issues(answer: httpx.Response) -> str:
    return "; ".join(f"{each['severity']}: {each['diagnostics']}" for each in answer.json()["issue"])


def urn() -> str:
    return f"urn:uuid:{uuid.uuid4()}"


def concept(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def entry(address: str, resource: Json) -> Json:
    return {"fullUrl": address, "resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}


PERSON = {"resourceType": "Practitioner", "id": "person", "name": [{"family": "VITS", "given": ["GRØNN"]}]}
ORGANIZATION = {
    "resourceType": "Organization",
    "id": "organization",
    "identifier": [{"system": "urn:oid:2.16.578.1.12.4.1.4.101", "value": "200000002"}],
}


def submission(patient_id: str, title: str, content: bytes, community: str) -> Json:
    """The smallest Bundle that is accepted; it is answered with warnings."""
    of_list, of_patient, of_binary, of_document = urn(), urn(), urn(), urn()
    patient = {"reference": of_patient}
    identifier = {"system": "urn:oid:2.16.578.1.12.4.1.4.1", "value": patient_id}
    entries = [
        entry(of_list, submission_set(of_list, patient, of_document)),
        entry(of_patient, {"resourceType": "Patient", "identifier": [identifier]}),
        entry(of_binary, {"resourceType": "Binary", "contentType": "application/pdf", "data": as_base64(content)}),
        entry(of_document, document(of_document, patient, attachment(title, content, of_binary, community))),
    ]
    return {
        "resourceType": "Bundle",
        "meta": {"profile": [MHD + "IHE.MHD.Comprehensive.ProvideBundle"]},
        "type": "transaction",
        "entry": entries,
    }


def submission_set(itself: str, patient: Json, document_address: str) -> Json:
    author = {"url": MHD + "ihe-authorOrg", "valueReference": {"reference": "#organization"}}
    return {
        "resourceType": "List",
        "contained": [PERSON, ORGANIZATION],
        "extension": [
            {"url": MHD + "ihe-designationType", "valueCodeableConcept": concept("urn:oid:2.999", "I02-2")},
            {"url": MHD + "ihe-sourceId", "valueIdentifier": {"value": "urn:oid:2.999.1"}},
        ],
        "identifier": [
            {"use": "usual", "system": "urn:ietf:rfc:3986", "value": f"urn:oid:2.25.{uuid.uuid4().int}"},
            {"use": "official", "system": "urn:ietf:rfc:3986", "value": itself},
        ],
        "status": "current",
        "mode": "working",
        "code": concept("https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes", "submissionset"),
        "subject": patient,
        "date": "2026-11-21T10:00:00Z",
        "source": {"reference": "#person", "extension": [author]},
        "entry": [{"item": {"reference": document_address}}],
    }


def document(itself: str, patient: Json, attached: Json) -> Json:
    kind = concept("urn:oid:2.16.578.1.12.4.1.1.9602", "I02-2")
    return {
        "resourceType": "DocumentReference",
        "contained": [PERSON, ORGANIZATION],
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": itself},
        "status": "current",
        "type": kind,
        "category": [kind],
        "subject": patient,
        "date": "2026-11-21T10:00:00Z",
        "author": [{"reference": "#person"}, {"reference": "#organization"}],
        "securityLabel": [NORMAL],
        "content": [{"attachment": attached, "format": {"system": "urn:oid:2.999", "code": "mimeTypeSufficient"}}],
        "context": {
            "facilityType": concept("urn:oid:2.16.578.1.12.4.1.1.1303", "86.100"),
            "practiceSetting": concept("urn:oid:2.16.578.1.12.4.1.1.8651", "A04"),
            "sourcePatientInfo": patient,
        },
    }


def attachment(title: str, content: bytes, binary: str, community: str) -> Json:
    return {
        "extension": [{"url": MHD + "ihe-homeCommunityId", "valueUri": f"urn:oid:{community}"}],
        "contentType": "application/pdf",
        "url": binary,
        "size": len(content),
        "hash": as_base64(hashlib.sha1(content, usedforsecurity=False).digest()),
        "title": title,
        "creation": "2026-11-21T10:00:00Z",
    }


def as_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    process = SandboxProcess("--providers", "nhn")
    yield process
    log = process.log()
    assert process.stop() == 0
    assert "Traceback" not in log, log


@pytest.fixture
def nhn(sandbox: SandboxProcess) -> Nhn:
    """With a token of its own: it lives for ten minutes, and the tests of this file may take longer."""
    return Nhn(sandbox)


@pytest.fixture
def changed(sandbox: SandboxProcess) -> Iterator[SandboxProcess]:
    yield sandbox
    sandbox.world(reset=True)


def test_its_account_is_printed_alone(sandbox: SandboxProcess, nhn: Nhn) -> None:
    assert set(sandbox.settings["accounts"]) == {"nhn_hospital"}
    assert nhn.settings["base_url"] == f"{sandbox.base}/nhn/R4/fhir"
    assert nhn.described["issuer"] == nhn.issuer


def claims_of(token: str) -> Json:
    body = token.split(".")[1]
    claims: Json = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_a_token_is_bound_to_the_key_of_the_proof(nhn: Nhn, kind: str) -> None:
    key = ECKey.generate_key("P-256") if kind == "EC" else nhn.client_key
    answer = nhn.ask_for_token(proof=dpop(key, "POST", nhn.token_url))
    assert answer.status_code == 200, answer.text
    assert answer.json()["token_type"] == "DPoP"
    assert (answer.json()["scope"], answer.json()["rejected_scope"]) == (nhn.settings["scope"], "")
    assert claims_of(answer.json()["access_token"])["cnf"] == {"jkt": key.thumbprint()}


WRONG_ASSERTIONS: dict[str, Json] = {
    "typ is not": {"typ": "JWT"},
    "aud is not": {"aud": "https://helseid-sts.test.nhn.no/connect/token"},
    "iss is not": {"iss": "somebody"},
    "sub is not": {"sub": "somebody"},
    "kid names no": {"kid": "another-key"},
    "jti is missing": {"jti": None},
    "iat is not a time": {"iat": None},
    "exp has passed": {"iat": 1_700_000_000, "nbf": 1_700_000_000, "exp": 1_700_000_010},
    "in the future": {"nbf": 4_000_000_000},
    "more than 60": {"exp": 4_000_000_000},
}


@pytest.mark.parametrize("reason", WRONG_ASSERTIONS)
def test_an_assertion_that_is_not_quite_right_is_refused(nhn: Nhn, reason: str) -> None:
    answer = nhn.ask_for_token(nhn.assertion(**WRONG_ASSERTIONS[reason]))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")
    assert reason in answer.json()["error_description"]


def test_the_audience_is_the_issuer_and_not_the_token_address(nhn: Nhn) -> None:
    assert nhn.ask_for_token(nhn.assertion(aud=nhn.token_url)).json()["error"] == "invalid_client"
    assert nhn.ask_for_token(nhn.assertion(aud=[nhn.issuer])).status_code == 200


def test_an_assertion_is_good_once(nhn: Nhn) -> None:
    assertion = nhn.assertion()
    assert nhn.ask_for_token(assertion).status_code == 200
    assert nhn.ask_for_token(assertion).json()["error_description"] == "jti has been used before"


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "PS256", "PS512"])
def test_an_assertion_may_have_any_asymmetric_algorithm(nhn: Nhn, algorithm: str) -> None:
    assert algorithm in nhn.described["token_endpoint_auth_signing_alg_values_supported"]
    assert nhn.ask_for_token(nhn.assertion(alg=algorithm)).status_code == 200


def test_a_public_key_may_be_handed_in_and_signs_with_the_algorithm_that_it_names(nhn: Nhn) -> None:
    key = ECKey.generate_key("P-384")
    jwk = {**key.as_dict(private=False), "kid": "handed-in", "alg": "ES384", "use": "sig"}
    page = f"{nhn.sandbox.base}/_sandbox/helseid/keys"
    refused = [key.as_dict(private=True) | {"kid": "x"}, jwk | {"alg": "none"}, jwk | {"use": "enc"}, {"kid": "x"}, []]
    assert [nhn.http.post(page, json=each).status_code for each in refused] == [400] * len(refused)
    assert nhn.ask_for_token(nhn.assertion(key, alg="ES384", kid="handed-in")).json()["error"] == "invalid_client"
    assert nhn.http.post(page, json={"keys": [jwk]}).status_code == 204
    assert nhn.ask_for_token(nhn.assertion(key, alg="ES384", kid="handed-in")).status_code == 200
    rsa = {**nhn.client_key.as_dict(private=False), "kid": "for-rs384", "alg": "RS384"}
    assert nhn.http.post(page, json=rsa).status_code == 204
    wrong = nhn.ask_for_token(nhn.assertion(kid="for-rs384", alg="PS256")).json()
    assert wrong["error_description"] == "alg is not the one that the key is registered with"
    assert nhn.ask_for_token(nhn.assertion(kid="for-rs384", alg="RS384")).status_code == 200


def test_an_assertion_signed_with_another_key_is_refused(nhn: Nhn) -> None:
    assert nhn.ask_for_token(nhn.assertion(key=RSAKey.generate_key(2048))).json()["error"] == "invalid_client"


@pytest.mark.parametrize(
    ("claim", "status"),
    [
        (details("urn:oid:2.16.578.1.12.4.1.4.101", "200000002"), 200),
        ([details("urn:oid:1.0.6523", "NO:ORGNR:100000001:200000002")], 200),
        (details("urn:oid:1.0.6523", "NO:ORGNR:100000001:"), 200),
        (None, 200),
        (details("urn:oid:2.16.578.1.12.4.1.4.101", "100000001"), 400),
        (details("urn:oid:1.0.6523", "200000002"), 400),
        (details("urn:oid:2.16.578.1.12.4.1.4.101", "200000002") | {"type": "other"}, 400),
        ([details("urn:oid:2.16.578.1.12.4.1.4.101", "200000002")] * 2, 400),
        ("200000002", 400),
    ],
)
def test_an_assertion_names_the_organization_or_none(nhn: Nhn, claim: object, status: int) -> None:
    assert nhn.ask_for_token(nhn.assertion(assertion_details=claim)).status_code == status


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"client_id": "somebody"}, "invalid_client"),
        ({"client_assertion_type": "jwt"}, "invalid_request"),
        ({"scope": "openid"}, "invalid_scope"),
    ],
)
def test_a_token_request_of_another_form_is_refused(nhn: Nhn, form: dict[str, str], error: str) -> None:
    answer = nhn.ask_for_token(**form)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_a_request_without_a_scope_gets_all(nhn: Nhn) -> None:
    assert nhn.ask_for_token(scope="").json()["scope"].split() == nhn.described["scopes_supported"]


def test_a_scope_may_be_rejected(changed: SandboxProcess, nhn: Nhn) -> None:
    changed.world(helseid_rejected_scopes=[nhn.settings["scope"]])
    answer = nhn.ask_for_token(scope=f"{nhn.settings['scope']} nhn:phr-repo/mhd/create").json()
    assert (answer["scope"], answer["rejected_scope"]) == ("nhn:phr-repo/mhd/create", nhn.settings["scope"])
    without = Nhn(changed)
    assert without.patch("scope", [NORMAL]).status_code == 403


def hmac_proof(url: str) -> str:
    key = OctKey.generate_key(256)
    return jwt.encode({"typ": "dpop+jwt", "alg": "HS256", "jwk": key.as_dict()}, {"htu": url}, key)


WRONG_PROOFS: dict[str, Json] = {
    "typ is not dpop+jwt": {"typ": "JWT"},
    "jwk is not an RSA or EC key": {"jwk": None},
    "the JWT is not good": {"jwk": ECKey.generate_key("P-256").as_dict(private=False)},
    "htm is not": {"htm": "GET"},
    "jti is missing": {"jti": None},
    "iat is not a time": {"iat": None},
}


@pytest.mark.parametrize("reason", WRONG_PROOFS)
def test_a_proof_that_is_not_quite_right_gets_no_token(nhn: Nhn, reason: str) -> None:
    answer = nhn.ask_for_token(proof=dpop(nhn.key, "POST", nhn.token_url, **WRONG_PROOFS[reason]))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")
    assert reason in answer.json()["error_description"]


def test_a_token_request_needs_one_proof_of_its_own(nhn: Nhn) -> None:
    proof = dpop(nhn.key, "POST", nhn.token_url)
    wrong: list[str | list[str]] = [
        [],
        [proof, dpop(nhn.key, "POST", nhn.token_url)],
        dpop(nhn.key, "POST", nhn.token_url, "a token"),
        dpop(nhn.key, "POST", f"{nhn.issuer}/elsewhere"),
        dpop(nhn.key, "POST", nhn.token_url, jwk=nhn.key.as_dict(private=True)),
        dpop(nhn.key, "POST", nhn.token_url, jwk={"kty": "OKP", "crv": "Ed25519", "x": "AA"}),
        hmac_proof(nhn.token_url),
    ]
    for each in wrong:
        assert nhn.ask_for_token(proof=each).json().get("error") == "invalid_dpop_proof"
    assert nhn.ask_for_token(proof=proof).status_code == 200
    again = nhn.ask_for_token(proof=proof).json()
    assert again["error_description"] == "jti has been used before"


@pytest.mark.parametrize(("seconds", "status"), [(-10, 401), (-2, 200), (4, 200), (10, 401)])
def test_a_proof_is_of_now(nhn: Nhn, seconds: int, status: int) -> None:
    address = nhn.address("DocumentReference/now")

    def answered() -> int:
        proof = dpop(nhn.key, "PATCH", address, nhn.token, iat=int(time.time()) + seconds)
        return nhn.patch("now", [NORMAL], headers=FHIR | {"DPoP": proof}).status_code

    eventually(lambda: answered() == status)  # a proof that has lain about for seconds is another's age


def test_a_call_needs_a_proof_for_itself(nhn: Nhn) -> None:
    here = nhn.address("DocumentReference/proof")
    other = ECKey.generate_key("P-256")
    wrong = {
        "htu is not": dpop(nhn.key, "PATCH", f"{here}?homeCommunityId={nhn.settings['home_community_id']}", nhn.token),
        "htm is not": dpop(nhn.key, "POST", here, nhn.token),
        "ath does not fit": dpop(nhn.key, "PATCH", here),
        "bound to another key": dpop(other, "PATCH", here, nhn.token),
    }
    for reason, proof in wrong.items():
        answer = nhn.patch("proof", [NORMAL], headers=FHIR | {"DPoP": proof})
        assert (answer.status_code, reason in issues(answer)) == (401, True), reason
        assert answer.headers["WWW-Authenticate"].startswith("DPoP error=")
    assert nhn.labels("proof") == {}


def test_a_proof_is_good_once(nhn: Nhn) -> None:
    proof = dpop(nhn.key, "PATCH", nhn.address("DocumentReference/once"), nhn.token)
    assert nhn.patch("once", [NORMAL], headers=FHIR | {"DPoP": proof}).status_code == 200
    again = nhn.patch("once", [NORMAL], headers=FHIR | {"DPoP": proof})
    assert 'error="invalid_dpop_proof"' in again.headers["WWW-Authenticate"]
    assert nhn.labels("once")["times_set"] == 1


def test_a_token_that_is_not_ours_or_comes_as_a_bearer_is_refused(nhn: Nhn) -> None:
    for authorization in ("", "DPoP nonsense", f"Bearer {nhn.token}", f"DPoP {nhn.token[:-4]}AAAA"):
        answer = nhn.patch("token", [NORMAL], headers=FHIR | {"Authorization": authorization})
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert nhn.labels("token") == {}


def test_a_nonce_may_be_demanded_by_both_servers(changed: SandboxProcess, nhn: Nhn) -> None:
    changed.world(dpop_nonce=True)
    first = nhn.ask_for_token()
    assert (first.status_code, first.json()["error"]) == (400, "use_dpop_nonce")
    nonce = first.headers["DPoP-Nonce"]
    assertion = nhn.assertion()
    for _ in ("first", "again"):
        proof = dpop(nhn.key, "POST", nhn.token_url, nonce=nonce)
        assert nhn.ask_for_token(proof=proof).status_code == 200
    assert nhn.ask_for_token(assertion).json()["error"] == "use_dpop_nonce"
    assert nhn.ask_for_token(assertion).json()["error"] == "invalid_client"
    here = nhn.address("DocumentReference/nonce")
    challenge = nhn.patch("nonce", [NORMAL])
    assert challenge.status_code == 401
    assert 'DPoP error="use_dpop_nonce"' in challenge.headers["WWW-Authenticate"]
    others = dpop(nhn.key, "PATCH", here, nhn.token, nonce=nonce)
    assert nhn.patch("nonce", [NORMAL], headers=FHIR | {"DPoP": others}).status_code == 401
    right = dpop(nhn.key, "PATCH", here, nhn.token, nonce=challenge.headers["DPoP-Nonce"])
    assert nhn.patch("nonce", [NORMAL], headers=FHIR | {"DPoP": right}).status_code == 200


def test_a_new_nonce_replaces_the_old(changed: SandboxProcess, nhn: Nhn) -> None:
    nonces = []
    for _ in ("old", "new"):
        changed.world(dpop_nonce=True)
        nonces.append(nhn.ask_for_token().headers["DPoP-Nonce"])
    proofs = [dpop(nhn.key, "POST", nhn.token_url, nonce=nonce) for nonce in nonces]
    assert [nhn.ask_for_token(proof=proof).status_code for proof in proofs] == [400, 200]


def test_a_token_dies_when_its_time_is_over(changed: SandboxProcess) -> None:
    changed.world(helseid_token_seconds=1)
    began, late = time.time(), Nhn(changed)
    eventually(lambda: late.patch("late", [NORMAL]).status_code == 401)
    assert time.time() - began >= 1


def test_all_tokens_may_die_early(changed: SandboxProcess) -> None:
    early = Nhn(changed)
    changed.world(kill_tokens=["nhn"])
    assert early.patch("early", [NORMAL]).status_code == 401
    assert Nhn(changed).patch("early", [NORMAL]).status_code == 200


def test_a_revoked_client_is_refused_until_it_is_restored(changed: SandboxProcess, nhn: Nhn) -> None:
    changed.world(revoke=[nhn.settings["client_id"]])
    assert nhn.ask_for_token().json()["error"] == "invalid_client"
    assert nhn.patch("revoked", [NORMAL]).status_code == 401
    changed.world(restore=[nhn.settings["client_id"]])
    assert nhn.ask_for_token().status_code == 200
    assert nhn.patch("revoked", [NORMAL]).status_code == 200


def test_a_resource_with_labels_replaces_the_whole_list(nhn: Nhn) -> None:
    answer = nhn.patch("relabelled", [NORMAL, BLOCKED])
    assert answer.status_code == 200
    assert (answer.json()["id"], answer.json()["securityLabel"]) == ("relabelled", [NORMAL, BLOCKED])
    assert [each["code"] for each in nhn.labels("relabelled")["labels"]] == ["N", "NORS"]
    assert nhn.patch("relabelled", [NORMAL]).json()["meta"]["versionId"] == "3"
    assert nhn.labels("relabelled") == {"labels": NORMAL["coding"], "times_set": 2}


def test_a_json_patch_replaces_the_whole_list(nhn: Nhn) -> None:
    operation = {"op": "replace", "path": "/securityLabel", "value": [BLOCKED]}
    answer = nhn.call("PATCH", "DocumentReference/patched", json=[operation], headers=PATCH)
    assert (answer.status_code, answer.json()["securityLabel"]) == (200, [BLOCKED])


WRONG_RESOURCES: list[Json] = [
    {"status": "current"},
    {"id": "another"},
    {"resourceType": "Patient"},
    {"securityLabel": []},
    {"securityLabel": [{"text": "a label without a code"}]},
    {"securityLabel": NORMAL},
]


@pytest.mark.parametrize("change", WRONG_RESOURCES)
def test_a_resource_with_anything_else_is_refused(nhn: Nhn, change: Json) -> None:
    assert nhn.call("PATCH", "DocumentReference/else", json=[], headers=FHIR).status_code == 400
    body = {"resourceType": "DocumentReference", "id": "else", "securityLabel": [NORMAL]} | change
    assert nhn.call("PATCH", "DocumentReference/else", json=body, headers=FHIR).status_code == 400
    assert nhn.labels("else") == {}


REPLACE = {"op": "replace", "path": "/securityLabel", "value": [NORMAL]}
WRONG_PATCHES: list[Any] = [
    [],
    [REPLACE, REPLACE],
    [REPLACE | {"op": "add"}],
    [REPLACE | {"path": "/status"}],
    [REPLACE | {"path": "/securityLabel/0"}],
    [REPLACE | {"value": "N"}],
    [7],
    {"op": "replace"},
    REPLACE,
]


@pytest.mark.parametrize("body", WRONG_PATCHES)
def test_a_json_patch_of_anything_else_is_refused(nhn: Nhn, body: Any) -> None:
    assert nhn.call("PATCH", "DocumentReference/else", json=body, headers=PATCH).status_code == 400
    assert nhn.labels("else") == {}


@pytest.mark.parametrize(
    "header",
    [
        {"Accept": "application/fhir+json"},
        {"Accept": "application/json; fhirVersion=4.0"},
        {"nhn-source-system": None},
        {"Content-Type": "application/json"},
        {"Content-Type": "application/json-patch+json"},
    ],
)
def test_the_required_headers_are_required(nhn: Nhn, header: dict[str, Any]) -> None:
    assert nhn.patch("headers", [NORMAL], headers=FHIR | header).status_code == 400
    assert nhn.labels("headers") == {}


@pytest.mark.parametrize("query", [{}, {"homeCommunityId": ""}, {"homeCommunityId": "2.999"}])
def test_the_home_community_is_required(nhn: Nhn, query: dict[str, str]) -> None:
    assert nhn.patch("community", [NORMAL], params=query).status_code == 400
    assert nhn.labels("community") == {}


def test_an_id_that_fhir_does_not_know_is_refused(nhn: Nhn) -> None:
    assert "not one of FHIR's" in issues(nhn.patch("a_b", [NORMAL]))


@pytest.mark.parametrize("status", [402, 404, 400])
def test_a_document_may_be_missing_in_three_ways(nhn: Nhn, status: int) -> None:
    answer = nhn.patch(f"{status}-a", [NORMAL])
    assert answer.status_code == status
    assert answer.json()["issue"][0]["code"] == "not-found"
    assert answer.json()["issue"][0]["diagnostics"] == f"DocumentReference/{status}-a not found"


@pytest.mark.parametrize(("status", "code"), [(401, "login"), (403, "forbidden")])
def test_a_document_may_be_out_of_reach(nhn: Nhn, status: int, code: str) -> None:
    answer = nhn.patch(f"{status}-a", [NORMAL])
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (status, code)
    assert nhn.labels(f"{status}-a") == {}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_troubled_document_is_relabelled_at_the_third_call(nhn: Nhn, status: int) -> None:
    answers = [nhn.patch(f"{status}-a", [BLOCKED]).status_code for _ in range(3)]
    assert answers == [status, status, 200]
    assert nhn.labels(f"{status}-a")["times_set"] == 1


def test_an_answer_to_a_relabelling_may_be_lost_or_say_less(nhn: Nhn) -> None:
    with pytest.raises(httpx.TransportError):
        nhn.patch("LOST-a", [BLOCKED])
    assert nhn.labels("LOST-a")["times_set"] == 1
    assert nhn.patch("LOST-a", [BLOCKED]).status_code == 200
    assert nhn.patch("OUTCOME-a", [BLOCKED]).json()["resourceType"] == "OperationOutcome"
    assert nhn.patch("UNCHANGED-a", [BLOCKED]).json()["securityLabel"] == [NORMAL]


def test_a_provided_document_reaches_the_chart(nhn: Nhn) -> None:
    content = bytes(range(256)) * 1000
    answer = nhn.provide(nhn.bundle("17855599120", "epikrise.pdf", content))
    assert answer.status_code == 200, answer.text
    (record,) = nhn.records("17855599120")
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert (record["file_name"], record["tenant"]) == ("epikrise.pdf", "nhn_hospital")
    stored, remarks = answer.json()["entry"]
    assert stored["response"]["location"] == f"DocumentReference/{record['record_id']}"
    assert {issue["severity"] for issue in remarks["resource"]["issue"]} == {"warning", "information"}
    assert "response" not in remarks


def test_a_provided_document_can_be_relabelled(nhn: Nhn) -> None:
    nhn.provide(nhn.bundle("relabel", "a.pdf"))
    document_id = nhn.records("relabel")[0]["record_id"]
    assert nhn.labels(document_id) == {"labels": NORMAL["coding"], "times_set": 0}
    assert nhn.patch(document_id, [BLOCKED]).json()["masterIdentifier"]["value"] == f"urn:uuid:{document_id}"


def two_documents(nhn: Nhn, patient_id: str) -> Json:
    both, other = nhn.bundle(patient_id, "a.pdf", b"a"), nhn.bundle(patient_id, "b.pdf", b"b")
    submission_set, patient = both["entry"][0]["resource"], both["entry"][0]["resource"]["subject"]
    second = other["entry"][3]
    second["resource"]["subject"] = second["resource"]["context"]["sourcePatientInfo"] = patient
    submission_set["entry"].append({"item": {"reference": second["fullUrl"]}})
    both["entry"] += [other["entry"][2], second]
    return both


def test_a_machine_may_read_single_documents_where_that_is_switched_on(changed: SandboxProcess, nhn: Nhn) -> None:
    nhn.provide(nhn.bundle("read", "a.pdf"))
    path = f"DocumentReference/{nhn.records('read')[0]['record_id']}"
    assert nhn.call("GET", path).status_code == 403
    changed.world(nhn_reads=True)
    assert nhn.call("GET", path).json()["status"] == "current"
    absent = nhn.call("GET", "DocumentReference/nobody")
    assert (absent.status_code, absent.json()) == (200, None)


def test_a_json_patch_may_be_refused_for_its_type(changed: SandboxProcess, nhn: Nhn) -> None:
    changed.world(nhn_json_patch=False)
    operation = {"op": "replace", "path": "/securityLabel", "value": [BLOCKED]}
    refused = nhn.call("PATCH", "DocumentReference/unpatched", json=[operation], headers=PATCH)
    assert (refused.status_code, nhn.labels("unpatched")) == (403, {})
    assert nhn.patch("unpatched", [BLOCKED]).status_code == 200


def test_a_bundle_may_be_validated_without_being_provided(nhn: Nhn) -> None:
    bundle = nhn.bundle("validated", "a.pdf")
    good = nhn.call("POST", "Bundle/$validate", json=bundle, headers=FHIR)
    assert good.status_code == 200
    assert {each["severity"] for each in good.json()["issue"]} == {"warning", "information"}
    del bundle["entry"][3]["resource"]["type"]
    assert nhn.call("POST", "Bundle/$validate", json=bundle, headers=FHIR).status_code == 400
    assert nhn.records("validated") == []


def test_the_repository_knows_a_document_by_the_id_of_its_binary(nhn: Nhn) -> None:
    first, second = nhn.bundle("binary", "a.pdf"), nhn.bundle("binary", "b.pdf")
    for bundle in (first, second):
        bundle["entry"][2]["resource"]["id"] = "00000000-0000-4000-8000-000000000001"
    assert nhn.provide(first).status_code == 200
    refused = nhn.provide(second)
    assert "Non unique ID in Repository 00000000-0000-4000-8000-000000000001" in issues(refused)
    assert len(nhn.records("binary")) == 1


@pytest.mark.parametrize(
    ("content_type", "content", "status"),
    [
        ("text/rtf", b"{\\rtf1 a}", 200),
        ("application/rtf", b"{\\rtf1 a}", 400),
        ("application/zip", b"PK\x03\x04 a", 400),
        ("application/pdf", b"\x89PNG\r\n", 400),
        ("text/plain", b"a few words", 200),
    ],
)
def test_types_that_the_repository_does_not_take_are_refused(
    nhn: Nhn, content_type: str, content: bytes, status: int
) -> None:
    bundle = nhn.bundle("types", "a", content)
    bundle["entry"][2]["resource"]["contentType"] = content_type
    bundle["entry"][3]["resource"]["content"][0]["attachment"]["contentType"] = content_type
    assert nhn.provide(bundle).status_code == status


def related(bundle: Json, *relations: tuple[str, str]) -> Json:
    said = [{"code": code, "target": {"reference": target}} for code, target in relations]
    bundle["entry"][3]["resource"]["relatesTo"] = said
    return bundle


def test_a_document_may_replace_another_or_append_to_one(changed: SandboxProcess, nhn: Nhn) -> None:
    changed.world(nhn_reads=True)
    nhn.provide(nhn.bundle("relation", "a.pdf"))
    path = f"DocumentReference/{nhn.records('relation')[0]['record_id']}"
    assert nhn.provide(related(nhn.bundle("relation", "b.pdf"), ("appends", path))).status_code == 200
    assert nhn.call("GET", path).json()["status"] == "current"
    assert nhn.provide(related(nhn.bundle("relation", "c.pdf"), ("replaces", path))).status_code == 200
    assert nhn.call("GET", path).json()["status"] == "superseded"
    for wrong in ([("replaces", "DocumentReference/4711")], [("is", path)], [("replaces", path), ("appends", path)]):
        assert nhn.provide(related(nhn.bundle("relation", "d.pdf"), *wrong)).status_code == 400


def test_the_source_patient_may_be_contained(nhn: Nhn) -> None:
    for patient_id, status in (("contained", 200), ("another", 400)):
        bundle = nhn.bundle("contained", "a.pdf")
        resource = bundle["entry"][3]["resource"]
        patient = bundle["entry"][1]["resource"]["identifier"][0] | {"value": patient_id}
        resource["contained"] = [
            *resource["contained"],
            {"resourceType": "Patient", "id": "p", "identifier": [patient]},
        ]
        resource["context"]["sourcePatientInfo"] = {"reference": "#p"}
        assert nhn.provide(bundle).status_code == status


def test_two_documents_in_one_bundle_get_two_records(nhn: Nhn) -> None:
    answer = nhn.provide(two_documents(nhn, "two"))
    assert answer.status_code == 200, answer.text
    assert sorted(record["file_name"] for record in nhn.records("two")) == ["a.pdf", "b.pdf"]
    assert sum("response" in each for each in answer.json()["entry"]) == 2


def test_two_documents_do_not_share_an_id(nhn: Nhn) -> None:
    both = two_documents(nhn, "shared")
    both["entry"][5]["resource"]["masterIdentifier"] = both["entry"][3]["resource"]["masterIdentifier"]
    assert "XDSDuplicateUniqueIdInRegistry" in issues(nhn.provide(both))


def test_the_same_unique_ids_again_are_refused(nhn: Nhn) -> None:
    same = nhn.bundle("duplicate", "a.pdf")
    assert nhn.provide(same).status_code == 200
    again = nhn.provide(same)
    assert again.status_code == 400
    assert "XDSDuplicateUniqueIdInRegistry: " in issues(again)
    assert len(nhn.records("duplicate")) == 1


@pytest.mark.parametrize("kind", ["List", "Patient", "Binary", "DocumentReference"])
def test_a_missing_part_is_fatal(nhn: Nhn, kind: str) -> None:
    bundle = nhn.bundle("part", "a.pdf")
    bundle["entry"] = [each for each in bundle["entry"] if each["resource"]["resourceType"] != kind]
    answer = nhn.provide(bundle)
    assert answer.status_code == 400
    assert "fatal: there is no" in issues(answer)
    assert nhn.records("part") == []


def of(kind: str, *path: Any) -> Callable[[Json], Any]:
    """The value at this path in the resource of this kind."""

    def find(bundle: Json) -> Any:
        found: Any = next(each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == kind)
        for step in path:
            found = found[step]
        return found

    return find


def without(kind: str, *path: Any) -> Change:
    return lambda bundle: of(kind, *path[:-1])(bundle).pop(path[-1])


def with_other(value: Any, kind: str, *path: Any) -> Change:
    return lambda bundle: of(kind, *path[:-1])(bundle).__setitem__(path[-1], value)


CONTENT, CONTAINED = ("DocumentReference", "content"), ("DocumentReference", "contained")
ATTACHMENT = (*CONTENT, 0, "attachment")
WRONG_BUNDLES: dict[str, Change] = {
    "fatal: Bundle.type is not transaction": lambda bundle: bundle.update(type="batch"),
    "error: Bundle.meta.profile": lambda bundle: bundle.pop("meta"),
    "error: Bundle.meta.profile is not": lambda bundle: bundle.update(meta={"profile": [MHD + "Other"]}),
    "error: the entries' fullUrl are": lambda bundle: bundle["entry"][0].update(fullUrl=bundle["entry"][1]["fullUrl"]),
    "error: the entries' fullUrl": lambda bundle: bundle["entry"][0].update(fullUrl="List/1"),
    "error: request of the entry with a Binary": lambda bundle: bundle["entry"][2]["request"].update(url="Media"),
    "fatal: List has no ihe-sourceId": without("List", "extension", 1),
    "error: List has no ihe-designationType": without("List", "extension", 0),
    "error: List.identifier has no usual": without("List", "identifier", 0),
    "error: List.identifier has no official": without("List", "identifier", 1),
    "error: List is not current and working": with_other("retired", "List", "status"),
    "error: List.date": without("List", "date"),
    "error: List.subject": without("List", "subject"),
    "error: List.source is not": without("List", "source", "reference"),
    "error: List.source has no ihe-authorOrg": without("List", "source", "extension"),
    "error: List.entry": with_other([], "List", "entry"),
    "error: Patient.identifier": with_other("urn:oid:2.999", "Patient", "identifier", 0, "system"),
    "error: DocumentReference.masterIdentifier": without("DocumentReference", "masterIdentifier"),
    "error: DocumentReference.status": with_other("superseded", "DocumentReference", "status"),
    "error: DocumentReference.subject": without("DocumentReference", "subject"),
    "error: DocumentReference.type is missing": without("DocumentReference", "type"),
    "error: DocumentReference.category is missing": without("DocumentReference", "category"),
    "error: DocumentReference.securityLabel": without("DocumentReference", "securityLabel"),
    "error: DocumentReference.author has no person": without("DocumentReference", "author", 0),
    "error: DocumentReference.author has no organization": without("DocumentReference", "author", 1),
    "error: DocumentReference.content is not one": lambda bundle: of(*CONTENT)(bundle).append({}),
    "error: DocumentReference.content.format": without("DocumentReference", "content", 0, "format"),
    "error: DocumentReference.context.facilityType": without("DocumentReference", "context", "facilityType"),
    "error: DocumentReference.context.practiceSetting": without("DocumentReference", "context", "practiceSetting"),
    "error: context.sourcePatientInfo": without("DocumentReference", "context", "sourcePatientInfo"),
    "fatal: attachment has no ihe-homeCommunityId": without(*ATTACHMENT, "extension"),
    "error: ihe-homeCommunityId": with_other("urn:oid:2.999", *ATTACHMENT, "extension", 0, "valueUri"),
    "fatal: attachment.url": with_other("urn:uuid:another", *ATTACHMENT, "url"),
    "error: attachment.contentType": with_other("image/png", *ATTACHMENT, "contentType"),
    "error: attachment.size": with_other(1, *ATTACHMENT, "size"),
    "error: attachment.hash": with_other("qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", *ATTACHMENT, "hash"),
    "error: Binary.data is not base64": with_other("not base64!", "Binary", "data"),
    "error: Binary.data is empty": with_other("", "Binary", "data"),
    "error: XDSMissingDocumentMetadata": lambda bundle: bundle["entry"].append(bundle["entry"][2] | {"fullUrl": urn()}),
}


@pytest.mark.parametrize("reason", WRONG_BUNDLES)
def test_a_bundle_that_is_not_quite_right_is_refused(nhn: Nhn, reason: str) -> None:
    bundle = nhn.bundle("wrong", "a.pdf")
    WRONG_BUNDLES[reason](bundle)
    answer = nhn.provide(bundle)
    assert answer.status_code == 400
    assert reason in issues(answer)
    assert nhn.records("wrong") == []


@pytest.mark.parametrize("person", [{"name": []}, {"resourceType": "Device"}])
def test_an_author_is_a_person_with_a_name(nhn: Nhn, person: Json) -> None:
    bundle = nhn.bundle("wrong", "a.pdf")
    of("DocumentReference")(bundle)["contained"] = [PERSON | person, ORGANIZATION]
    assert "error: DocumentReference.author has no person" in issues(nhn.provide(bundle))


def test_both_types_of_content_may_not_be_wrong(nhn: Nhn) -> None:
    bundle = nhn.bundle("wrong", "a.pdf")
    of("Binary")(bundle)["contentType"] = of(*ATTACHMENT)(bundle)["contentType"] = "pdf"
    assert "error: attachment.contentType" in issues(nhn.provide(bundle))


def complete(bundle: Json) -> None:
    """Add everything that is a warning if it is missing."""
    role = {
        "resourceType": "PractitionerRole",
        "id": "role",
        "practitioner": {"reference": "#person"},
        "organization": {"reference": "#department"},
        "code": [concept("urn:oid:2.999", "lege")],
        "specialty": [concept("urn:oid:2.999", "indremedisin")],
    }
    resource = of("DocumentReference")(bundle)
    resource["contained"] = [PERSON, ORGANIZATION, ORGANIZATION | {"id": "department"}, role]
    resource["author"] = [{"reference": "#role"}, {"reference": "#organization"}]
    resource["context"]["period"] = {"start": "2026-11-20T10:00:00Z", "end": "2026-11-20T11:00:00Z"}


def test_a_complete_bundle_gets_no_remarks(nhn: Nhn) -> None:
    bundle = nhn.bundle("complete", "a.pdf")
    complete(bundle)
    assert [list(each) for each in nhn.provide(bundle).json()["entry"]] == [["response"]]


REMARKS: dict[str, Change] = {
    "warning: DocumentReference.date": without("DocumentReference", "date"),
    "warning: DocumentReference.type": with_other(concept("urn:oid:2.999", "x"), "DocumentReference", "type"),
    "warning: DocumentReference.author has no role": without("DocumentReference", "contained", 3, "code"),
    "warning: DocumentReference.author has no role or no": without("DocumentReference", "contained", 3, "specialty"),
    "information: DocumentReference.author": without("DocumentReference", "contained", 2),
    "warning: context.period": without("DocumentReference", "context", "period", "start"),
    "warning: context.period, start and": without("DocumentReference", "context", "period", "end"),
    "warning: attachment.title": without(*ATTACHMENT, "title"),
    "warning: attachment.creation": without(*ATTACHMENT, "creation"),
}


@pytest.mark.parametrize("remark", REMARKS)
def test_what_is_wanting_is_remarked_upon_beside_the_success(nhn: Nhn, remark: str) -> None:
    bundle = nhn.bundle("remarks", "a.pdf")
    complete(bundle)
    REMARKS[remark](bundle)
    answer = nhn.provide(bundle)
    assert answer.status_code == 200, answer.text
    (issue,) = answer.json()["entry"][-1]["resource"]["issue"]
    assert f"{issue['severity']}: {issue['diagnostics']}".startswith(remark)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"resourceType": "Patient"}', b'{"resourceType": "Bundle"}'])
def test_a_body_that_is_not_a_bundle_is_refused(nhn: Nhn, body: bytes) -> None:
    assert nhn.call("POST", "Bundle", content=body, headers=FHIR).status_code == 400


def test_a_document_has_at_most_60_mb_and_a_body_100(nhn: Nhn) -> None:
    answer = nhn.provide(nhn.bundle("large", "too-long.pdf", bytes(60_000_001)))
    assert (answer.status_code, "60000000 bytes" in issues(answer)) == (400, True)
    assert nhn.call("POST", "Bundle", content=bytes(100_000_001), headers=FHIR).status_code == 413
    assert nhn.records("large") == []


def test_an_answer_may_be_lost_after_the_document_was_stored(nhn: Nhn) -> None:
    lost = nhn.bundle("lost", "LOSTCREATE.pdf")
    with pytest.raises(httpx.TransportError):
        nhn.provide(lost)
    assert len(nhn.records("lost")) == 1
    assert "XDSDuplicateUniqueIdInRegistry" in issues(nhn.provide(lost))
    assert len(nhn.records("lost")) == 1


@pytest.mark.parametrize("word", ["VIRUS", "INVALID"])
def test_a_document_may_be_refused(nhn: Nhn, word: str) -> None:
    assert nhn.provide(nhn.bundle("refused", f"{word}.pdf")).status_code == 400
    assert nhn.records("refused") == []


def test_a_bundle_may_come_at_a_bad_time_and_then_be_cut_off(nhn: Nhn) -> None:
    bundle = nhn.bundle("unlucky", "CUT BUSY-1 TIMEOUT504.pdf")
    assert nhn.provide(bundle).status_code == 503
    with pytest.raises(httpx.TransportError):
        nhn.provide(bundle)
    assert nhn.records("unlucky") == []
    assert nhn.provide(bundle).status_code == 504
    assert len(nhn.records("unlucky")) == 1


@pytest.mark.parametrize(
    ("patient_id", "statuses"), [("404-a", [400] * 3), ("401-a", [401] * 3), ("500-a", [500, 500, 200])]
)
def test_a_troubled_patient_makes_trouble(nhn: Nhn, patient_id: str, statuses: list[int]) -> None:
    assert [nhn.provide(nhn.bundle(patient_id, "a.pdf")).status_code for _ in range(3)] == statuses


@pytest.mark.parametrize("status", [503, 504])
def test_either_server_may_be_down(changed: SandboxProcess, nhn: Nhn, status: int) -> None:
    changed.world(down={"nhn": str(status)})
    assert (nhn.patch("down", [NORMAL]).status_code, nhn.ask_for_token().status_code) == (status, 200)
    changed.world(down={"nhn": None, "helseid": str(status)})
    assert (nhn.patch("down", [NORMAL]).status_code, nhn.ask_for_token().status_code) == (200, status)


def test_a_throttled_api_names_the_time_to_come_back(changed: SandboxProcess, nhn: Nhn) -> None:
    changed.world(throttle={"nhn": {"per_minute": 0}})
    answer = nhn.patch("throttled", [NORMAL])
    assert (answer.status_code, int(answer.headers["Retry-After"])) == (429, 60)
    changed.world(throttle={"nhn": None, "helseid": {"per_minute": 0}})
    assert nhn.ask_for_token().status_code == 429


def test_no_token_and_no_key_is_logged_or_remembered(sandbox: SandboxProcess, nhn: Nhn) -> None:
    assertion, proof = nhn.assertion(), dpop(nhn.key, "POST", nhn.token_url)
    nhn.ask_for_token(assertion, proof)
    nhn.ask_for_token(assertion, proof)
    kept = sandbox.log() + str(sandbox.requests()) + str(sandbox.world())
    for secret in (assertion, proof, nhn.token, nhn.settings["private_key"].splitlines()[1]):
        assert secret not in kept
