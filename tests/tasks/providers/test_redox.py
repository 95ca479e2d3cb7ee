"""What is special to Redox, against answers that the vendor's pages leave possible."""

from __future__ import annotations

import base64
import json
import re
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import md5, sha256
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import ValidationError

from config.accounts import RedoxAccount
from tasks.http.clients import Clients
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, LeaseLost, OutcomeUnknown, RetryLater, StepError
from tasks.model.job import Job, Record, Stored, Uncertainty
from tasks.model.route import OnUnknownOutcome, Stage, Step
from tasks.providers.document_body import DocumentBody
from tasks.providers.redox.message import CONTENT_TYPE, embedding_message
from tests.tasks.providers.doubles import NO_OWNERS, CountingGate
from tests.tasks.providers.odd_redox import (
    BINARY,
    BLOB,
    CREATE,
    LOST,
    METADATA,
    TOKEN,
    AtOdd,
    OddRedox,
    created,
    forms,
    gate_for,
    outcome,
    private_key,
    token,
)
from tests.tasks.providers.odd_server import Reply

LARGE = b"x" * 300_000
NO_SECONDS: list[Any] = [-1, "soon", None, [], 1e300]
PATIENT = {"name": [{"family": "Meier", "given": ["Anna"]}], "birthDate": "1980-12-31", "gender": "female"}


@pytest.fixture
def odd() -> Iterator[OddRedox]:
    with OddRedox() as server:
        yield server


@pytest.fixture
def at(odd: OddRedox, clients: Clients) -> AtOdd:
    return AtOdd(odd, clients)


@pytest.fixture
def making(odd: OddRedox, clients: Clients) -> Callable[..., AtOdd]:
    """An account with settings of its own."""
    return lambda **settings: AtOdd(odd, clients, **settings)


def uploaded(job: Job, place: str = BLOB, ago: timedelta = timedelta()) -> Job:
    """The job with its document uploaded so long ago."""
    facts = replace(job.facts, stored=Stored(place, None, False, "5" * 64, "e" * 32, location=place))
    times = {"stored": datetime.now(UTC) - ago}
    return replace(job, facts=facts, stage=Stage.STORED, step=Step.REGISTER, times=times)


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, limit=0))


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_is_bought_with_an_assertion_as_the_vendor_asks_for_it(at: AtOdd) -> None:
    at.redox.register(at.job(), gate_for())
    (request,) = at.odd.sent(TOKEN)
    form = forms(request)
    assertion = jwt.decode(form.pop("client_assertion"), RSAKey.import_key(private_key()), algorithms=["RS384"])
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert form == {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    assert assertion.header == {"alg": "RS384", "kid": "the-key", "typ": "JWT"}
    claims = assertion.claims
    assert (claims["iss"], claims["sub"]) == ("the-client", "the-client")
    assert claims["aud"] == at.settings.token_url
    assert 0 < claims["exp"] - time.time() <= 300
    assert "authorization" not in request.headers


def test_no_assertion_is_used_twice(at: AtOdd) -> None:
    at.redox.probe()
    at.redox.probe()
    first, second = (forms(request)["client_assertion"] for request in at.odd.sent(TOKEN))
    key = RSAKey.import_key(private_key())
    ids = {jwt.decode(said, key, algorithms=["RS384"]).claims["jti"] for said in (first, second)}
    assert len(ids) == 2


def test_one_token_serves_all_calls_of_all_workers(at: AtOdd) -> None:
    at.redox.register(at.job(), gate_for())
    at.another().register(at.job(LARGE), gate_for(LARGE))
    assert len(at.odd.sent(TOKEN)) == 1
    assert {request.headers["authorization"] for request in at.odd.requests[1:]} == {"Bearer a-token"}


def test_another_account_does_not_use_it(at: AtOdd, making: Callable[..., AtOdd]) -> None:
    at.redox.register(at.job(), gate_for())
    other = making(client_id="another")
    other.cache = at.cache
    other.another().register(other.job(), gate_for())
    assert len(at.odd.sent(TOKEN)) == 2


def test_a_token_lives_as_long_as_its_server_says(at: AtOdd) -> None:
    at.odd.answers[TOKEN] = token(expires_in=0)
    for _ in range(2):
        at.redox.register(at.job(), gate_for())
    assert len(at.odd.sent(TOKEN)) == 2


@pytest.mark.parametrize("more", [{"expires_in": "300"}, {"expires_in": 299.5}, {"token_type": "bearer", "more": [1]}])
def test_a_token_answer_may_be_written_in_more_than_one_way(at: AtOdd, more: dict[str, Any]) -> None:
    at.odd.answers[TOKEN] = token(**more)
    for _ in range(2):
        at.redox.register(at.job(), gate_for())
    assert len(at.odd.sent(TOKEN)) == 1


@pytest.mark.parametrize(
    "body",
    ["", [], {}, {"access_token": 5}, {"access_token": ""}, {"access_token": "a\nb"}, {"access_token": "é"}]
    + [{"access_token": "a", "expires_in": wrong} for wrong in NO_SECONDS],
)
def test_a_token_answer_of_another_shape_blocks_the_account(at: AtOdd, body: object) -> None:
    at.odd.answers[TOKEN] = Reply(body=body)
    with pytest.raises(AccountBlocked, match="not understood") as blocked:
        at.redox.register(at.job(), gate_for())
    assert not blocked.value.credentials
    assert at.odd.sent(CREATE) == []


@pytest.mark.parametrize(
    ("status", "meant"),
    [
        *((status, AccountBlocked) for status in (302, 400, 401, 403, 404)),
        *((status, RetryLater) for status in (429, 500, 502, 503, 504)),
    ],
)
def test_each_status_of_the_token_server_says_what_happens_next(at: AtOdd, status: int, meant: type[StepError]) -> None:
    at.odd.answers[TOKEN] = Reply(status, {"error": "invalid_client"})
    gate = gate_for()
    for act in (lambda: at.redox.register(at.job(), gate), at.redox.probe):
        with pytest.raises(meant) as raised:
            act()
        if isinstance(raised.value, AccountBlocked):
            assert raised.value.credentials is (status in (400, 401, 403))
        elif isinstance(raised.value, RetryLater):
            assert raised.value.unreachable is (status != 429)
    assert gate.commits == 0


def test_a_call_whose_token_is_refused_is_made_once_more_with_another(at: AtOdd) -> None:
    names = iter(["first", "second"])
    at.odd.answers[TOKEN] = lambda request: token(next(names))
    at.odd.answers[CREATE] = lambda request: (
        created() if request.headers["authorization"] == "Bearer second" else Reply(401)
    )
    registered = at.redox.register(at.job(), gate_for())
    assert [request.headers["authorization"] for request in at.odd.sent(CREATE)] == ["Bearer first", "Bearer second"]
    assert registered.stored is not None
    assert registered.stored.sha256 == sha256(b"some bytes").hexdigest()


@pytest.mark.parametrize("call", [CREATE, BINARY])
def test_a_token_that_is_refused_fresh_as_it_is_blocks_the_account(at: AtOdd, call: str) -> None:
    at.odd.answers[call] = outcome("error", "login", status=401)
    with pytest.raises(AccountBlocked) as blocked:
        act(at, call)
    assert blocked.value.credentials
    assert len(at.odd.sent(TOKEN)) == 2
    assert len(at.odd.sent(call)) == 2


def act(at: AtOdd, call: str) -> object:
    if call == BINARY:
        return at.redox.store(at.job(LARGE), gate_for(LARGE))
    return at.redox.register(at.job(), gate_for())


def test_neither_key_nor_token_nor_assertion_is_in_any_error(at: AtOdd) -> None:
    secrets: list[str] = ["a-token"]
    lines = [line for line in private_key().splitlines() if not line.startswith("-")]
    for call, reply in [
        (TOKEN, Reply(401)),
        (TOKEN, Reply(500)),
        (CREATE, Reply(403)),
        (CREATE, Reply(401)),
        (CREATE, LOST),
    ]:
        at.odd.answers |= {TOKEN: token(), CREATE: created()} | {call: reply}
        with pytest.raises(StepError) as raised:
            at.redox.register(at.job(options={"patient": PATIENT}, patient_id="4711-secret"), gate_for())
        secrets += [forms(request)["client_assertion"] for request in at.odd.sent(TOKEN)]
        for secret in (*secrets, *lines, "4711-secret", "Meier", "referral.pdf"):
            assert secret not in shown(raised.value)


# --- probing ---------------------------------------------------------------------------------------------------------


def test_a_probe_never_trusts_a_token_that_is_remembered(at: AtOdd) -> None:
    at.redox.register(at.job(), gate_for())
    at.odd.answers[TOKEN] = Reply(401, {"error": "invalid_client"})
    with pytest.raises(AccountBlocked) as blocked:
        at.redox.probe()
    assert blocked.value.credentials


@pytest.mark.parametrize(
    ("reply", "meant", "named"),
    [
        (Reply(401), AccountBlocked, "401"),
        (Reply(429), RetryLater, "429"),
        *[(Reply(status), RetryLater, str(status)) for status in (500, 502, 503, 504)],
        (outcome("error", "not-found", status=404), AccountBlocked, "destination"),
        (outcome("error", "forbidden", status=403), AccountBlocked, "environment"),
        (Reply(403), AccountBlocked, "destination"),
        # What answers in something else than FHIR is not its FHIR API.
        (Reply(404), AccountBlocked, "base_url"),
        (Reply(404, {"message": "Cannot GET"}), AccountBlocked, "base_url"),
        (Reply(405), AccountBlocked, "base_url"),
        (Reply(302, headers={"Location": "https://example.org"}), AccountBlocked, "base_url"),
        (Reply(200, "welcome"), AccountBlocked, "base_url"),
        (Reply(200, {"name": "an API"}), AccountBlocked, "base_url"),
        # A destination that is there, and does not tell what it can do.
        (outcome("error", "not-supported", status=404), None, ""),
        (outcome("error", "not-supported", status=405), None, ""),
        (outcome("error", "invalid", status=400), None, ""),
    ],
)
def test_a_probe_says_yes_only_to_a_destination_that_is_there(
    at: AtOdd, reply: Reply, meant: type[StepError] | None, named: str
) -> None:
    at.odd.answers[METADATA] = reply
    if meant is None:
        at.redox.probe()
    else:
        with pytest.raises(meant, match=named):
            at.redox.probe()
    (request,) = at.odd.sent(METADATA)
    assert request.headers["authorization"] == "Bearer a-token"


def test_a_refused_client_is_told_what_may_be_wrong(at: AtOdd) -> None:
    at.odd.answers[TOKEN] = Reply(401, {"error": "invalid_client"})
    with pytest.raises(AccountBlocked) as blocked:
        at.redox.probe()
    for word in ("client_id", "key_id", "algorithm", "RS384", "clock"):
        assert word in str(blocked.value)


def test_tokens_come_from_where_the_api_is_unless_the_settings_say_otherwise(making: Callable[..., AtOdd]) -> None:
    said = making().settings.model_dump(exclude={"token_url", "base_url", "private_key"})
    said["private_key"] = private_key()

    def token_url(**more: str) -> str:
        return RedoxAccount.model_validate(said | more).token_url

    assert token_url() == "https://api.redoxengine.com/v2/auth/token"
    assert token_url(base_url="https://api.ca.example/fhir/R4/") == "https://api.ca.example/v2/auth/token"
    assert token_url(base_url="https://proxy.example/redox/fhir/R4") == "https://proxy.example/redox/v2/auth/token"
    assert token_url(base_url="https://proxy.example") == "https://proxy.example/v2/auth/token"
    assert token_url(base_url="https://a.example/fhir/R4", token_url="https://b.example/t") == "https://b.example/t"


# --- the source ------------------------------------------------------------------------------------------------------


def test_a_source_is_named_in_every_call_and_in_the_message(making: Callable[..., AtOdd]) -> None:
    source = "0C5B7E22-8a54-4f0e-9d6b-000000000002"
    at = making(source_id=source)
    at.redox.probe()
    at.redox.register(at.job(LARGE), gate_for(LARGE))
    calls = [at.odd.sent(call)[0] for call in (METADATA, BINARY, CREATE)]
    assert {call.headers["redox-source-id"] for call in calls} == {source.lower()}
    assert "redox-source-id" not in at.odd.sent(TOKEN)[0].headers
    assert at.odd.resource("MessageHeader")["source"]["endpoint"] == f"urn:uuid:{source.lower()}"


def test_without_a_source_nothing_looks_like_the_id_of_one(at: AtOdd) -> None:
    at.redox.register(at.job(), gate_for())
    assert "redox-source-id" not in at.odd.sent(CREATE)[0].headers
    assert at.odd.resource("MessageHeader")["source"]["endpoint"].startswith("https://")


@pytest.mark.parametrize(
    "source", ["our-source", "0c5b7e22-8a54-4f0e-9d6b", "urn:uuid:0c5b7e22-8a54-4f0e-9d6b-000000000002"]
)
def test_a_source_id_that_is_none_is_a_fault_of_the_settings(making: Callable[..., AtOdd], source: str) -> None:
    with pytest.raises(ValidationError, match="source ID"):
        making(source_id=source)


# --- routes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "embedded"), [(1, True), (199_999, True), (200_000, False), (30_000_000, False)])
def test_small_documents_travel_in_the_message_and_larger_ones_are_uploaded_first(
    at: AtOdd, size: int, embedded: bool
) -> None:
    route = at.redox.route(replace(at.job().document, size_bytes=size))
    assert route.stages == ((Stage.REGISTERED,) if embedded else (Stage.STORED, Stage.REGISTERED))
    assert route.first is (Step.REGISTER if embedded else Step.POST)
    assert not route.together


@pytest.mark.parametrize(
    ("said", "on_unknown_outcome"), [("hold", OnUnknownOutcome.HOLD), ("resend", OnUnknownOutcome.RESEND)]
)
def test_the_account_says_what_follows_an_unknown_outcome(
    making: Callable[..., AtOdd], said: str, on_unknown_outcome: OnUnknownOutcome
) -> None:
    at = making(on_unknown_outcome=said)
    for size in (1, 300_000):
        assert at.redox.route(replace(at.job().document, size_bytes=size)).on_unknown_outcome is on_unknown_outcome


def test_with_no_bytes_to_be_embedded_every_document_is_uploaded(making: Callable[..., AtOdd]) -> None:
    at = making(embed_below_bytes=0)
    assert at.redox.route(at.job(b"x").document).first is Step.POST


def test_all_accounts_at_one_address_share_a_limit(making: Callable[..., AtOdd]) -> None:
    ours = making().redox.limit_group
    assert making(client_id="another", destination="elsewhere").redox.limit_group == ours
    assert making(base_url="https://api.redox.example/fhir/R4").redox.limit_group != ours
    assert ours.startswith("redox:")


def test_there_is_no_search(at: AtOdd) -> None:
    job = at.job()
    assert at.redox.find([job], NO_OWNERS) == {}
    assert at.redox.still_there(job.document, Record("r-1"))
    assert at.redox.before_sending(job) == job.facts
    assert at.odd.requests == []


# --- before any call -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"patient_id": None}, Code.PATIENT_REQUIRED, "patient"),
        ({"size_bytes": 0}, Code.FILE_EMPTY, "empty"),
        ({"size_bytes": 30_000_001}, Code.FILE_TOO_LARGE, "30000001"),
        ({"file_name": "a\nb.pdf"}, Code.INVALID_REQUEST, "file name"),
        ({"content_type": "pdf"}, Code.UNSUPPORTED_TYPE, "content_type"),
        ({"options": {"document_id": "1"}}, Code.INVALID_REQUEST, "options"),
        ({"options": {"metadata": 5}}, Code.INVALID_REQUEST, "options.metadata"),
        ({"options": {"metadata": {"type": "no code"}}}, Code.INVALID_REQUEST, "type"),
        ({"options": {"metadata": {"type": ""}}}, Code.INVALID_REQUEST, "metadata.type is missing"),
        ({"options": {"patient": []}}, Code.INVALID_REQUEST, "it is not an object"),
        ({"options": {"patient": {}}}, Code.INVALID_REQUEST, "birthDate, name missing"),
        ({"options": {"patient": {"gender": "male"}}}, Code.INVALID_REQUEST, "birthDate, name missing"),
        ({"options": {"patient": {**PATIENT, "birthDate": "31.12.1980"}}}, Code.INVALID_REQUEST, "birthDate wrong"),
        ({"options": {"patient": {**PATIENT, "birthDate": "1980-02-30"}}}, Code.INVALID_REQUEST, "birthDate wrong"),
        ({"options": {"patient": {**PATIENT, "birthDate": 1980}}}, Code.INVALID_REQUEST, "birthDate wrong"),
        ({"options": {"patient": {**PATIENT, "gender": "f"}}}, Code.INVALID_REQUEST, "gender wrong"),
        ({"options": {"patient": {**PATIENT, "name": []}}}, Code.INVALID_REQUEST, "name wrong"),
        ({"options": {"patient": {**PATIENT, "name": "Meier"}}}, Code.INVALID_REQUEST, "name wrong"),
        ({"options": {"patient": {**PATIENT, "name": [{"given": ["A"]}]}}}, Code.INVALID_REQUEST, "name wrong"),
        ({"options": {"patient": {**PATIENT, "name": [{"famly": "M"}]}}}, Code.INVALID_REQUEST, "name wrong"),
        ({"options": {"patient": {**PATIENT, "Meier": 1}}}, Code.INVALID_REQUEST, "a field that is not known"),
        ({"options": {"patient": {**PATIENT, "resourceType": "Person"}}}, Code.INVALID_REQUEST, "resourceType wrong"),
        ({"options": {"patient": {**PATIENT, "telecom": [{"value": "1" * 60_000}]}}}, Code.INVALID_REQUEST, "50000"),
    ],
)
def test_what_could_never_arrive_is_refused_without_a_call_and_without_naming_anybody(
    at: AtOdd, change: dict[str, Any], code: Code, named: str
) -> None:
    with pytest.raises(DocumentRefused) as refused:
        at.redox.check(replace(at.job().document, **change))
    assert refused.value.code is code
    assert refused.value.hint
    assert named in refused.value.message
    for private in ("Meier", "1980", "31.12"):
        assert private not in shown(refused.value) + refused.value.hint.replace("1980-12-31", "")
    assert at.odd.requests == []


WRONG_OPTIONS: dict[str, list[Any]] = {
    "patient_reference": ["Meier", "Patient/", "Patient/a b", "Encounter/1", 17, {"id": "1"}],
    "encounter": ["Meier", "Patient/1", "Encounter/a/b", "|17", "urn:oid:1|", 17],
    "authenticator": ["Dr Meier", "Patient/1", {"name": ""}, {"nam": "Meier"}, {"identifier": "Meier"}, 1],
    "doc_status": ["done", "Final", "", ["final"], True],
    "period": [
        *({}, {"start": "31.12.1980"}, {"start": "2026-02-30"}, {"begin": "2026"}, "2026", []),
        {"start": "2026-05-02", "end": "2026-05-01"},
        {"start": "2026-05-02T10:00:00"},
        {"start": "2026-05-02T10:00:00Z", "end": "2026-05-02T10:30:00+02:00"},
        {"start": "2026-05", "end": "2026-04-30"},
    ],
    "title": ["", " ", "Meier\nAnna", "x" * 256, 5],
}


def test_an_option_that_is_wrong_is_refused_by_its_name_and_says_what_it_takes(at: AtOdd) -> None:
    for name, values in WRONG_OPTIONS.items():
        for value in values:
            with pytest.raises(DocumentRefused) as refused:
                at.redox.check(at.job(options={name: value}).document)
            assert refused.value.code is Code.INVALID_REQUEST
            assert f"options.{name}" in refused.value.message
            assert refused.value.hint.startswith(f"{name} takes ")
            assert "Meier" not in shown(refused.value) + refused.value.hint
    assert at.odd.requests == []


def test_an_account_without_a_type_for_its_documents_takes_those_that_have_one(making: Callable[..., AtOdd]) -> None:
    at = making(metadata={})
    with pytest.raises(DocumentRefused, match=r"metadata\.type is missing"):
        at.redox.check(at.job().document)
    at.redox.check(at.job(options={"metadata": {"type": "http://loinc.org|11488-4"}}).document)


@pytest.mark.parametrize("birth", ["1980", "1980-12", "1980-12-31", "2000-02-29"])
def test_a_date_of_birth_may_be_as_exact_as_it_is_known(at: AtOdd, birth: str) -> None:
    at.redox.check(at.job(options={"patient": {**PATIENT, "birthDate": birth}}).document)


# --- the message -----------------------------------------------------------------------------------------------------


def test_the_message_is_what_fhir_and_the_vendor_ask_for(making: Callable[..., AtOdd]) -> None:
    metadata = {
        "type": "http://loinc.org|34133-9|Summary",
        "category": "http://loinc.org|11488-4|Consult note",
        "format": "urn:oid:1.3|f|Format",
        "facility_type": "urn:oid:2.3|h|Hospital",
        "practice_setting": "urn:oid:3.3|c|Cardiology",
        "security_label": "urn:oid:4.3|N|Normal",
        "author": {"name": "Dr North", "identifier": "urn:oid:5.3|17"},
    }
    at = making(metadata=metadata)
    own = {"metadata": {"type": "http://loinc.org|11502-2|Lab report"}, "patient": PATIENT}
    made = at.job(b"abc", options=own, description="of May", content_type="Application/PDF; x=1", file_name="Über.pdf")
    at.redox.register(made, gate_for(b"abc"))
    message, document = at.odd.message(), at.odd.resource("DocumentReference")
    assert [each["resource"]["resourceType"] for each in message["entry"]] == [
        "MessageHeader",
        "DocumentReference",
        "Patient",
    ]
    assert all(each["fullUrl"] == f"urn:uuid:{each['resource']['id']}" for each in message["entry"])
    assert (message["resourceType"], message["type"]) == ("Bundle", "message")
    header = at.odd.resource("MessageHeader")
    assert header["eventUri"] == "https://fhir.redoxengine.com/EventDefinition/DocumentReferenceCreate"
    assert header["focus"] == [{"reference": f"urn:uuid:{document['id']}"}]
    assert document["type"]["coding"] == [{"system": "http://loinc.org", "code": "11502-2", "display": "Lab report"}]
    assert document["category"][0]["coding"][0]["code"] == "11488-4"
    assert document["securityLabel"][0]["coding"][0]["code"] == "N"
    assert document["context"]["facilityType"]["coding"][0]["code"] == "h"
    assert document["context"]["practiceSetting"]["coding"][0]["code"] == "c"
    assert document["content"][0]["format"] == {"system": "urn:oid:1.3", "code": "f", "display": "Format"}
    assert document["author"] == [{"display": "Dr North", "identifier": {"system": "urn:oid:5.3", "value": "17"}}]
    assert (document["status"], document["description"]) == ("current", "of May")
    assert at.odd.attachment() == {"contentType": "application/pdf", "data": "YWJj", "title": "Über.pdf"}
    patient = at.odd.resource("Patient")
    assert document["subject"] == {"reference": f"urn:uuid:{patient['id']}"}
    assert {name: patient[name] for name in PATIENT} == PATIENT
    assert patient["identifier"] == [{"system": "urn:oid:2.999.1", "value": "4711"}]


def test_options_say_more_of_the_document(at: AtOdd) -> None:
    period = {"start": "2026-05-01", "end": "2026-05-02T10:00:00+02:00"}
    options = {
        "encounter": "urn:oid:2.999.7|visit 17",
        "authenticator": {"name": "Dr North", "identifier": "urn:oid:5.3|17"},
        "doc_status": "final",
        "period": period,
        "title": "Discharge summary",
    }
    at.redox.check(at.job(options=options).document)
    at.redox.register(at.job(options=options), gate_for())
    document = at.odd.resource("DocumentReference")
    visit = {"type": "Encounter", "identifier": {"system": "urn:oid:2.999.7", "value": "visit 17"}}
    assert document["context"] == {"encounter": [visit], "period": period}
    assert document["authenticator"] == {"display": "Dr North", "identifier": {"system": "urn:oid:5.3", "value": "17"}}
    assert document["docStatus"] == "final"
    assert document["content"][0]["attachment"]["title"] == "Discharge summary"


def test_what_the_destination_has_already_is_named_by_its_whole_address(at: AtOdd) -> None:
    """A relative reference would not resolve beside a fullUrl of urn:uuid."""
    options = {"patient_reference": "Patient/p-1", "encounter": "Encounter/e.1", "authenticator": "Practitioner/7"}
    at.redox.register(at.job(options=options | {"patient": PATIENT}), gate_for())
    there = at.settings.base_url + "/north-hospital/Staging"
    document = at.odd.resource("DocumentReference")
    assert document["subject"] == {"reference": f"{there}/Patient/p-1"}
    assert document["context"]["encounter"] == [{"reference": f"{there}/Encounter/e.1", "type": "Encounter"}]
    assert document["authenticator"] == {"reference": f"{there}/Practitioner/7"}
    (entry,) = (each for each in at.odd.message()["entry"] if each["resource"]["resourceType"] == "Patient")
    assert (entry["fullUrl"], entry["resource"]["id"]) == (f"{there}/Patient/p-1", "p-1")
    assert entry["resource"]["identifier"] == [{"system": "urn:oid:2.999.1", "value": "4711"}]
    assert entry["resource"]["birthDate"] == PATIENT["birthDate"]


def test_fields_without_a_value_are_left_out_of_the_message(at: AtOdd) -> None:
    at.redox.register(at.job(), gate_for())
    assert set(at.odd.resource("Patient")) == {"resourceType", "id", "identifier"}
    assert set(at.odd.resource("DocumentReference")) == {
        *("resourceType", "id", "identifier", "status", "type", "subject", "date", "content")
    }


def test_the_patients_id_comes_before_other_identifiers(at: AtOdd) -> None:
    others = [{"system": "urn:oid:9", "value": "another"}]
    at.redox.register(at.job(options={"patient": {**PATIENT, "identifier": others}}), gate_for())
    assert [each["value"] for each in at.odd.resource("Patient")["identifier"]] == ["4711", "another"]


def test_the_call_is_a_fhir_call_to_the_destination_with_a_dollar_in_its_address(at: AtOdd) -> None:
    at.redox.register(at.job(), gate_for())
    (request,) = at.odd.sent(CREATE)
    assert request.path.endswith("/north-hospital/Staging/DocumentReference/$documentreference-create")
    assert request.headers["content-type"] == "application/fhir+json"
    assert request.headers["accept"].startswith("application/fhir+json")
    assert int(request.headers["content-length"]) == len(request.body)


def test_a_message_that_is_sent_again_is_the_same_message(at: AtOdd) -> None:
    made = at.job(options={"patient": PATIENT})
    for _ in range(2):
        at.redox.register(made, gate_for())
    first, second = (request.body for request in at.odd.sent(CREATE))
    assert first == second
    at.another().register(at.job(), gate_for())
    ids = [re.findall(rb'"id": "([^"]+)"', request.body) for request in at.odd.sent(CREATE)]
    assert not set(ids[0]) & set(ids[2]), "another document has ids of its own"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 196_607, 196_608, 196_609, 199_999])
def test_an_embedded_document_arrives_as_it_is(at: AtOdd, size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    registered = at.redox.register(at.job(content), gate_for(content))
    assert base64.b64decode(at.odd.attachment()["data"], validate=True) == content
    assert registered.stored is not None
    assert registered.stored.sha256 == sha256(content).hexdigest()
    assert registered.stored.md5 == md5(content, usedforsecurity=False).hexdigest()


def test_an_embedded_document_passes_in_constant_memory(at: AtOdd) -> None:
    peaks = [peak_of_embedding(at, size) for size in (600_000, 7_400_000)]
    assert peaks[1] < peaks[0] + 200_000


def peak_of_embedding(at: AtOdd, size: int) -> int:
    """In bytes, without the document itself."""
    made = at.job(size_bytes=size)
    document = DocumentBody(made.document, gate_for(b"x" * size))
    body = document.in_json(CONTENT_TYPE, lambda data: embedding_message(made, at.settings, data))
    tracemalloc.start()
    sent = sum(map(len, body.blocks()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sent == body.length
    return peak


# --- uploads ---------------------------------------------------------------------------------------------------------


def test_an_upload_is_the_documents_bytes_and_its_media_type_without_a_commit(at: AtOdd) -> None:
    gate = gate_for(LARGE)
    stored = at.redox.store(at.job(LARGE, file_name="scan.tiff"), gate)
    (request,) = at.odd.sent(BINARY)
    assert request.body == LARGE
    assert request.headers["content-type"] == "image/tiff"
    assert request.headers["content-length"] == "300000"
    assert (stored.location, stored.sha256) == (BLOB, sha256(LARGE).hexdigest())
    assert (gate.commits, stored.etag_verified) == (0, False)


@pytest.mark.parametrize(
    "reply",
    [Reply(200, headers={"location": BLOB}), Reply(201, {"location": BLOB}), Reply(201, {"location": BLOB, "a": [1]})],
)
def test_where_an_upload_lies_is_read_from_header_or_body(at: AtOdd, reply: Reply) -> None:
    at.odd.answers[BINARY] = reply
    assert at.redox.store(at.job(LARGE), gate_for(LARGE)).location == BLOB


@pytest.mark.parametrize(
    "reply",
    [Reply(201), Reply(201, "<html>"), Reply(201, []), Reply(201, {"location": 5}), Reply(201, {"location": ""})]
    + [Reply(201, {"location": place}) for place in ("ftp://blob.redoxengine.com/1", "https://evil.example/1")]
    + [Reply(201, {"location": place}) for place in ("/blob/1", "https://redoxengine.com.evil.example/", "https://a b")]
    + [Reply(201, headers={"Location": "https://evil.example/1"})],
)
def test_an_upload_without_a_known_location_blocks_the_account(at: AtOdd, reply: Reply) -> None:
    at.odd.answers[BINARY] = reply
    with pytest.raises(AccountBlocked) as blocked:
        at.redox.store(at.job(LARGE), gate_for(LARGE))
    assert not blocked.value.credentials
    assert ".example/" not in shown(blocked.value), "a host may be named, an address not"


@pytest.mark.parametrize(
    ("reply", "meant", "code"),
    [
        (outcome("error", status=400), DocumentRefused, Code.REFUSED_BY_PROVIDER),
        (Reply(413), DocumentRefused, Code.FILE_TOO_LARGE),
        (Reply(403), AccountBlocked, None),
        (Reply(404), AccountBlocked, None),
        (Reply(405), AccountBlocked, None),
        (Reply(307, headers={"Location": BLOB}), AccountBlocked, None),
        (Reply(429), RetryLater, None),
        (Reply(500), RetryLater, None),
        (Reply(502), RetryLater, None),
        (Reply(503), RetryLater, None),
        (Reply(504), RetryLater, None),
        (LOST, RetryLater, None),
    ],
)
def test_each_answer_to_an_upload_says_what_happens_next(
    at: AtOdd, reply: Reply, meant: type[StepError], code: Code | None
) -> None:
    at.odd.answers[BINARY] = reply
    gate = gate_for(LARGE)
    with pytest.raises(StepError) as raised:
        at.redox.store(at.job(LARGE), gate)
    assert type(raised.value) is meant
    assert getattr(raised.value, "code", None) is code
    assert getattr(raised.value, "unreachable", False) is (reply is LOST or reply.status >= 500)
    assert not getattr(raised.value, "credentials", False)
    assert gate.commits == 0


def test_a_document_that_changed_is_not_uploaded(at: AtOdd) -> None:
    with pytest.raises(DocumentRefused) as refused:
        at.redox.store(at.job(LARGE), gate_for(LARGE[:-1], size=len(LARGE)))
    assert refused.value.code is Code.FILE_CHANGED


def test_an_uploaded_document_is_referred_to_and_not_embedded(at: AtOdd) -> None:
    registered = at.redox.register(uploaded(at.job(LARGE)), CountingGate())
    assert at.odd.attachment() == {"contentType": "application/pdf", "url": BLOB, "title": "referral.pdf"}
    assert registered.stored is not None
    assert registered.stored.location == BLOB
    assert at.odd.sent(BINARY) == []


@pytest.mark.parametrize(
    "late",
    [
        lambda job: uploaded(job, ago=timedelta(minutes=20)),
        lambda job: uploaded(job, ago=-timedelta(minutes=20)),  # this machine's clock is behind: nobody knows
        lambda job: replace(uploaded(job), uncertainty=Uncertainty(earlier_sending_unknown=True)),
        lambda job: replace(uploaded(job), uncertainty=Uncertainty(committed=True)),
        lambda job: job,
    ],
)
def test_a_message_that_goes_late_or_again_has_a_new_upload(at: AtOdd, late: Callable[[Job], Job]) -> None:
    """An uploaded file may be gone by then, or good for one message only."""
    fresh = "https://blob.redoxengine.com/another"
    at.odd.answers[BINARY] = Reply(201, headers={"Location": fresh})
    registered = at.redox.register(late(at.job(LARGE)), gate_for(LARGE))
    assert at.odd.attachment()["url"] == fresh
    assert registered.stored is not None
    assert (registered.stored.location, registered.stored.sha256) == (fresh, sha256(LARGE).hexdigest())


def test_what_is_too_large_for_a_message_after_all_is_uploaded_once(at: AtOdd) -> None:
    replies = iter([Reply(413), created()])
    at.odd.answers[CREATE] = lambda request: next(replies)
    registered = at.redox.register(at.job(), gate_for())
    assert "data" not in at.odd.attachment()
    assert at.odd.attachment()["url"] == BLOB
    assert len(registered.remarks) == 1
    assert "embed_below_bytes" in registered.remarks[0]


def test_what_is_too_large_even_then_is_refused(at: AtOdd) -> None:
    at.odd.answers[CREATE] = outcome("error", "too-long", status=413)
    with pytest.raises(DocumentRefused) as refused:
        at.redox.register(at.job(), gate_for())
    assert refused.value.code is Code.FILE_TOO_LARGE
    assert len(at.odd.sent(CREATE)) == 2


# --- what the message is answered with -------------------------------------------------------------------------------


def test_the_record_is_the_one_that_is_named(at: AtOdd) -> None:
    at.odd.answers[CREATE] = created("DocumentReference/abc-1")
    registered = at.redox.register(at.job(), gate_for())
    assert (registered.record, registered.processed) == (Record("abc-1"), True)


@pytest.mark.parametrize("place", ["{base}/fhir/R4/x/Staging/DocumentReference/abc-1/_history/2"])
def test_a_whole_address_is_kept(at: AtOdd, place: str) -> None:
    whole = place.format(base=at.odd.base)
    at.odd.answers[CREATE] = created(whole)
    assert at.redox.register(at.job(), gate_for()).record == Record("abc-1", whole)


@pytest.mark.parametrize(
    "reply",
    [
        outcome("information", "informational"),
        outcome("warning"),
        outcome("success", "success"),
        created(""),
        created("Patient/5"),
        Reply(202, {"resourceType": "OperationOutcome", "issue": []}),
        Reply(body={"resourceType": "Bundle", "entry": [{"response": {"status": 201}}]}),
        Reply(
            body={
                "resourceType": "Bundle",
                "entry": [{"resource": {"resourceType": "OperationOutcome", "issue": [{"severity": "information"}]}}],
            }
        ),
    ],
)
def test_a_success_without_a_record_is_known_by_our_own_identifier(at: AtOdd, reply: Reply) -> None:
    at.odd.answers[CREATE] = reply
    record = at.redox.register(at.job(), gate_for()).record
    assert record.id == at.odd.resource("DocumentReference")["identifier"][0]["value"]
    assert record.url is None


@pytest.mark.parametrize(
    "reply",
    [
        outcome("error"),
        outcome("fatal"),
        created(status="422 Unprocessable Entity"),
        created(status="400"),
        created(status="302 Found"),
        Reply(
            body={
                "resourceType": "Bundle",
                "entry": [
                    {"response": {"status": "201 Created", "location": "DocumentReference/1"}},
                    {"resource": {"resourceType": "OperationOutcome", "issue": [{"severity": "error"}]}},
                ],
            }
        ),
        Reply(
            body={
                "resourceType": "Bundle",
                "entry": [{"response": {"status": "201", "outcome": outcome("error").body}}],
            }
        ),
    ],
)
def test_an_error_in_a_200_refuses_the_document(at: AtOdd, reply: Reply) -> None:
    at.odd.answers[CREATE] = reply
    with pytest.raises(DocumentRefused) as refused:
        at.redox.register(at.job(), gate_for())
    assert refused.value.code is Code.REFUSED_BY_PROVIDER
    assert "its own words" not in shown(refused.value)


@pytest.mark.parametrize("resource", [{}, {"resourceType": "OperationOutcome", "issue": []}, created().body])
def test_issues_of_an_unknown_form_in_a_200_go_into_the_receipt(at: AtOdd, resource: dict[str, Any]) -> None:
    issues = [
        "the room is not known",
        {"severity": "warning", "code": "value", "details": {"text": "no such category"}},
        {"Message": "x"},
        {"text": "it is late", "severity": "Low"},
        17,
    ]
    at.odd.answers[CREATE] = Reply(body=resource | {"issues": issues})
    job = at.job()
    registered = at.redox.register(job, gate_for())
    assert registered.record.id
    (remark,) = registered.remarks
    assert "unknown unknown (4), warning value (1)" in remark
    assert not any(word in remark for word in ("room", "category", "late", "17"))  # they may name the patient


def test_an_issue_that_calls_itself_an_error_refuses_the_document(at: AtOdd) -> None:
    at.odd.answers[CREATE] = Reply(body={"issues": [{"severity": "error", "details": {"text": "no such patient"}}]})
    with pytest.raises(DocumentRefused) as refused:
        at.redox.register(at.job(), gate_for())
    assert "no such patient" in refused.value.detail


def test_very_many_issues_do_not_swell_a_receipt(at: AtOdd) -> None:
    at.odd.answers[CREATE] = Reply(body={"issues": [f"{number} " + "x" * 5000 for number in range(100)]})
    (remark,) = at.redox.register(at.job(), gate_for()).remarks
    assert len(remark) < 300


def test_the_providers_words_are_kept_apart(at: AtOdd) -> None:
    for reply in (outcome("error", text="No Anna Meier here"), outcome("error", text="No Anna Meier here", status=400)):
        at.odd.answers[CREATE] = reply
        with pytest.raises(DocumentRefused) as refused:
            at.redox.register(at.job(), gate_for())
        assert refused.value.detail == "processing: No Anna Meier here."
        assert "Anna" not in str(refused.value) + refused.value.hint


@pytest.mark.parametrize(
    "reply",
    [
        created(status="503 Service Unavailable"),
        created(status="504"),
        outcome("error", "timeout"),
        outcome("fatal", "transient"),
        Reply(500),
        Reply(503),
        Reply(504),
        LOST,
    ],
)
def test_what_may_have_been_taken_is_of_unknown_outcome_and_counts_as_the_providers_trouble(
    at: AtOdd, reply: Reply
) -> None:
    at.odd.answers[CREATE] = reply
    with pytest.raises(OutcomeUnknown) as unknown:
        at.redox.register(at.job(), gate_for())
    assert unknown.value.unreachable
    assert len(at.odd.sent(CREATE)) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200),
        Reply(204),
        Reply(200, []),
        Reply(200, {}),
        Reply(200, {"resourceType": "Patient"}),
        Reply(200, {"resourceType": "Bundle"}),
        Reply(200, {"resourceType": "Bundle", "entry": [{}]}),
        Reply(200, {"resourceType": "Bundle", "entry": "x"}),
        Reply(200, {"resourceType": "Bundle", "entry": [{"response": {"status": "created"}}]}),
    ],
)
def test_a_success_that_is_not_understood_blocks_the_account_and_leaves_the_commit_standing(
    at: AtOdd, reply: Reply
) -> None:
    at.odd.answers[CREATE] = reply
    with pytest.raises(AccountBlocked, match="not understood") as blocked:
        at.redox.register(at.job(), gate_for())
    assert blocked.value.outcome_unknown
    assert not blocked.value.credentials


@pytest.mark.parametrize(
    ("reply", "meant"),
    [
        (Reply(400), DocumentRefused),
        (Reply(409), DocumentRefused),
        (Reply(422), DocumentRefused),
        (Reply(403), AccountBlocked),
        (Reply(404), AccountBlocked),
        (Reply(405), AccountBlocked),
        (Reply(308, headers={"Location": BLOB}), AccountBlocked),
        (Reply(408), RetryLater),
        (Reply(429), RetryLater),
        (Reply(502), RetryLater),
    ],
)
def test_what_was_certainly_not_taken_is_told_from_what_may_have_been(
    at: AtOdd, reply: Reply, meant: type[StepError]
) -> None:
    at.odd.answers[CREATE] = reply
    with pytest.raises(StepError) as raised:
        at.redox.register(at.job(), gate_for())
    assert type(raised.value) is meant
    assert not getattr(raised.value, "credentials", False)
    assert getattr(raised.value, "throttled", False) is (reply.status == 429)


def test_a_throttle_waits_as_long_as_the_reset_says(at: AtOdd) -> None:
    reset_at = int(time.time()) + 30
    at.odd.answers[CREATE] = Reply(429, headers={"X-RateLimit-Reset": str(reset_at)})
    with pytest.raises(RetryLater) as later:
        at.redox.register(at.job(), gate_for())
    assert reset_at - time.time() <= (later.value.after_seconds or 0) <= 30
    at.odd.answers[CREATE] = Reply(429)
    with pytest.raises(RetryLater) as later:
        at.redox.register(at.job(), gate_for())
    assert later.value.after_seconds is None


@pytest.mark.parametrize("reply", [Reply(409), Reply(400), Reply(413), outcome("error", "duplicate")])
@pytest.mark.parametrize("before", [Uncertainty(earlier_sending_unknown=True), Uncertainty(committed=True)])
def test_the_refusal_of_a_repetition_leaves_the_first_sending_to_a_human(
    at: AtOdd, reply: Reply, before: Uncertainty
) -> None:
    """It may be refused because it has arrived."""
    at.odd.answers[CREATE] = reply
    with pytest.raises(DocumentRefused) as refused:
        at.redox.register(replace(at.job(), uncertainty=before), gate_for())
    assert refused.value.code is Code.OUTCOME_UNKNOWN
    assert "resolve" in refused.value.hint


# --- the commit point ------------------------------------------------------------------------------------------------


class Refusing(CountingGate):
    """Its lease is lost at the commit."""

    def commit(self) -> None:
        super().commit()
        raise LeaseLost("lost")


@pytest.mark.parametrize("embedded", [True, False])
def test_without_the_commit_no_message_is_whole(at: AtOdd, embedded: bool) -> None:
    made = at.job() if embedded else uploaded(at.job(LARGE))
    content = b"some bytes"
    gate = Refusing(lambda: gate_for(content).open())
    with pytest.raises(LeaseLost):
        at.redox.register(made, gate)
    assert gate.commits == 1
    assert at.odd.sent(CREATE) == []


@pytest.mark.parametrize(("content", "size"), [(b"some byte", 10), (b"some bytes!", 10)])
def test_a_document_that_changed_is_not_committed(at: AtOdd, content: bytes, size: int) -> None:
    gate = gate_for(content, size)
    with pytest.raises(DocumentRefused) as refused:
        at.redox.register(at.job(), gate)
    assert refused.value.code is Code.FILE_CHANGED
    assert gate.commits == 0
    assert at.odd.sent(CREATE) == []


def test_without_a_free_slot_nothing_leaves(at: AtOdd) -> None:
    at.redox.register(at.job(), gate_for())
    at.odd.requests.clear()
    at.slots.free = 0
    for call in (CREATE, BINARY):
        with pytest.raises(RetryLater):
            act(at, call)
    assert at.odd.requests == []


def test_every_call_is_counted(at: AtOdd) -> None:
    made = at.job(LARGE)
    at.redox.register(made, gate_for(LARGE))
    assert at.slots.calls == len(at.odd.requests) == 3


# --- anything at all -------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["resourceType", "entry", "issue", "response", "status", "location", "outcome", "resource"])
            | st.sampled_from(["severity", "code", "details", "text", "diagnostics", "access_token", "expires_in"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
BUNDLE = st.builds(lambda entry: {"resourceType": "Bundle", "entry": entry}, st.lists(JSON, max_size=3))
OUTCOME = st.builds(lambda issue: {"resourceType": "OperationOutcome", "issue": issue}, st.lists(JSON, max_size=3))
BODY = st.one_of(JSON.map(json.dumps), BUNDLE.map(json.dumps), OUTCOME.map(json.dumps), st.text(max_size=50))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(call=st.sampled_from([TOKEN, BINARY, CREATE]), status=st.sampled_from([200, 201, 400, 401, 500]), body=BODY)
def test_no_answer_raises_anything_but_our_errors(at: AtOdd, call: str, status: int, body: str) -> None:
    at.cache.values.clear()
    at.odd.requests.clear()
    at.odd.answers |= {TOKEN: token(), CREATE: created(), BINARY: Reply(201, headers={"Location": BLOB})}
    at.odd.answers[call] = Reply(status, body.encode("utf-8", "replace").decode())
    with suppress(StepError):
        at.redox.register(at.job(LARGE), gate_for(LARGE))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    patient=st.dictionaries(st.sampled_from(["name", "birthDate", "gender", "telecom", "identifier", "x"]), JSON)
    | JSON,
    metadata=st.dictionaries(st.sampled_from(["type", "author", "category", "x"]), JSON) | JSON,
    others=st.dictionaries(
        st.sampled_from([*WRONG_OPTIONS]),
        JSON | st.dictionaries(st.sampled_from(["start", "end", "name", "identifier"]), JSON | st.text("0-:TZ+.")),
    ),
)
def test_no_options_raise_anything_but_our_errors(
    at: AtOdd, patient: object, metadata: object, others: dict[str, Any]
) -> None:
    for options in ({"patient": patient, "metadata": metadata}, others):
        with suppress(DocumentRefused):
            at.redox.check(at.job(options=options).document)
