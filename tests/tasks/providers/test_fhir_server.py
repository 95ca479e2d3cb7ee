"""What is special to FHIR servers, against answers that the specification leaves possible."""

from __future__ import annotations

import base64
import hashlib
import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.http.clients import Clients
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, OutcomeUnknown, RetryLater, StepError
from tasks.model.job import Job, Record, Stored, Uncertainty
from tasks.model.route import OnUnknownOutcome, Stage, Step
from tasks.providers.base import RecordQuery, Registered
from tasks.providers.fhir_server.resources import document_identifier
from tests.tasks.providers.doubles import NO_OWNERS
from tests.tasks.providers.odd_fhir import (
    BINARY,
    CONTENT,
    CREATE,
    METADATA,
    PATIENT,
    PATIENTS,
    READ,
    READ_BINARY,
    SEARCH,
    SMART,
    TOKEN,
    TRANSACTION,
    UPDATE,
    AtOdd,
    OddFhir,
    bundle,
    document,
    outcome,
    statement,
)
from tests.tasks.providers.odd_redox import forms, gate_for
from tests.tasks.providers.odd_server import Reply, Request

LOST = Reply(201, "{", {"Content-Length": "1000", "Connection": "close"})
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def odd() -> Iterator[OddFhir]:
    with OddFhir() as server:
        yield server


@pytest.fixture
def at(odd: OddFhir, clients: Clients) -> AtOdd:
    return AtOdd(odd, clients)


@pytest.fixture
def making(odd: OddFhir, clients: Clients) -> Callable[..., AtOdd]:
    """An account with settings of its own."""
    return lambda **settings: AtOdd(odd, clients, **settings)


def registered(at: AtOdd, job: Job, content: bytes = CONTENT) -> Registered:
    return at.fhir.register(job, gate_for(content))


def with_upload(job: Job, content: bytes = CONTENT) -> Job:
    """The job with its document uploaded as a Binary."""
    stored = Stored("b-1", None, False, hashlib.sha256(content).hexdigest(), "e" * 32, location="Binary/b-1")
    return replace(job, facts=replace(job.facts, stored=stored), stage=Stage.STORED)


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_the_resource_has_what_us_core_requires_and_what_is_known(odd: OddFhir, making: Callable[..., AtOdd]) -> None:
    at = making(
        author="Practitioner/p-1",
        custodian="Organization/o-1",
        metadata={"type": "http://loinc.org|34133-9|Summary", "security_label": "urn:x|R", "author": {"name": "Dr. A"}},
    )
    job = at.job(
        description="of May",
        options={
            "encounter": "Encounter/e-1",
            "title": "Letter",
            "authenticator": "Practitioner/p-2",
            "doc_status": "preliminary",
            "period": {"start": "2026-05-01", "end": "2026-05-02T10:00:00+02:00"},
        },
    )
    odd.answers[READ] = Reply(200, document(job))
    registered(at, job)
    sent = odd.resource()
    at_time = job.created_at.isoformat(timespec="milliseconds")
    assert sent["identifier"] == [{"system": "urn:ietf:rfc:3986", "value": document_identifier(job)}]
    assert (sent["status"], sent["docStatus"], sent["date"]) == ("current", "preliminary", at_time)
    assert sent["subject"] == {"reference": "Patient/4711"}
    assert sent["type"]["coding"][0]["code"] == "34133-9"
    assert sent["category"][0]["coding"][0]["code"] == "clinical-note"
    assert sent["author"] == [{"reference": "Practitioner/p-1", "display": "Dr. A"}]
    assert sent["authenticator"] == {"reference": "Practitioner/p-2"}
    assert sent["custodian"] == {"reference": "Organization/o-1"}
    assert sent["description"] == "of May"
    assert sent["securityLabel"] == [{"coding": [{"system": "urn:x", "code": "R"}]}]
    assert sent["context"] == {
        "encounter": [{"reference": "Encounter/e-1"}],
        "period": {"start": "2026-05-01", "end": "2026-05-02T10:00:00+02:00"},
    }
    (content,) = sent["content"]
    assert content["attachment"] == {
        "contentType": "application/pdf",
        "data": base64.b64encode(CONTENT).decode(),
        "size": len(CONTENT),
        "hash": base64.b64encode(hashlib.sha1(CONTENT, usedforsecurity=False).digest()).decode(),
        "title": "Letter",
        "creation": at_time,
    }


def test_a_create_names_its_identifier_as_the_condition_and_wants_no_resource_back(odd: OddFhir, at: AtOdd) -> None:
    job = at.job()
    registered(at, job)
    (request,) = odd.sent(CREATE)
    assert request.headers["if-none-exist"] == f"identifier=urn:ietf:rfc:3986|{document_identifier(job)}"
    assert request.headers["prefer"] == "return=minimal"
    assert request.headers["content-type"] == "application/fhir+json"


@pytest.mark.parametrize(
    ("settings", "changes"),
    [({"conditional": "never"}, {}), ({}, {"conditionalCreate": False})],
    ids=["not wanted", "not offered"],
)
def test_no_condition_goes_where_it_is_not_wanted_or_not_offered(
    odd: OddFhir, making: Callable[..., AtOdd], settings: dict[str, Any], changes: dict[str, Any]
) -> None:
    said = statement()
    said["rest"][0]["resource"][0] |= changes
    odd.answers[METADATA] = Reply(200, said)
    at = making(**settings)
    registered(at, at.job())
    assert "if-none-exist" not in odd.sent(CREATE)[0].headers


def test_a_conditional_update_is_a_put_with_the_search(odd: OddFhir, making: Callable[..., AtOdd]) -> None:
    at = making(conditional="update")
    job = at.job()
    odd.answers[UPDATE] = Reply(200, document(job))
    record = registered(at, job).record
    (request,) = odd.sent(UPDATE)
    assert request.query == {"identifier": [f"urn:ietf:rfc:3986|{document_identifier(job)}"]}
    assert record.id == "d-1"


def test_a_binary_goes_in_its_own_format_with_the_patient_as_its_context(
    odd: OddFhir, making: Callable[..., AtOdd]
) -> None:
    at = making(payload="binary")
    job = at.job()
    odd.answers[BINARY] = Reply(201, headers={"Location": "Binary/b-1/_history/1"})
    stored = at.fhir.store(job, gate_for())
    (request,) = odd.sent(BINARY)
    assert (request.headers["content-type"], request.body) == ("application/pdf", CONTENT)
    assert request.headers["x-security-context"] == "Patient/4711"
    assert (stored.location, stored.sha256) == ("Binary/b-1", SHA256)
    registered(at, with_upload(job))
    assert odd.resource()["content"][0]["attachment"]["url"] == "Binary/b-1"


def test_a_document_that_changes_after_its_upload_is_not_registered(odd: OddFhir, making: Callable[..., AtOdd]) -> None:
    at = making(payload="binary")
    with pytest.raises(DocumentRefused) as refused:
        registered(at, with_upload(at.job()), b"othr bytes")
    assert refused.value.code is Code.FILE_CHANGED
    assert odd.sent(CREATE) == []


def test_in_a_transaction_no_identifier_equals_a_full_url(odd: OddFhir, making: Callable[..., AtOdd]) -> None:
    """Servers replace every text that equals a fullUrl."""
    at = making(payload="transaction")
    job = at.job()
    made = {"response": {"status": "201 Created", "location": "DocumentReference/d-1/_history/1"}}
    binary = {"response": {"status": "201", "location": "Binary/b-1"}}
    odd.answers[TRANSACTION] = Reply(
        200, {"resourceType": "Bundle", "type": "transaction-response", "entry": [binary, made]}
    )
    assert registered(at, job).record.id == "d-1"
    binary_entry, document_entry = odd.resource(TRANSACTION)["entry"]
    urls = {binary_entry["fullUrl"], document_entry["fullUrl"]}
    assert document_identifier(job) not in urls
    assert document_entry["resource"]["content"][0]["attachment"]["url"] == binary_entry["fullUrl"]
    assert document_entry["request"]["ifNoneExist"].endswith(document_identifier(job))
    assert binary_entry["resource"]["securityContext"] == {"reference": "Patient/4711"}


# --- the answer to a create ------------------------------------------------------------------------------------------

PLACES = [
    ({"Location": "DocumentReference/d-1"}, "", None),
    ({"Location": "/R4/DocumentReference/d-1/_history/7"}, "", "7"),
    ({"Location": "https://behind-a-proxy.example/fhir/DocumentReference/d-1/_history/a.b-c"}, "", "a.b-c"),
    ({"Location": "DocumentReference/d-1", "ETag": 'W/"12"'}, "", "12"),
    ({"Content-Location": "DocumentReference/d-1"}, "", None),
    ({"Location": "https://elsewhere.example/nothing"}, {"resourceType": "DocumentReference", "id": "d-1"}, None),
    ({"ETag": 'W/"3"'}, {"resourceType": "DocumentReference", "id": "d-1"}, "3"),
    ({"Location": "DocumentReference/d-1"}, outcome("informational"), None),
]


@pytest.mark.parametrize(("headers", "body", "version"), PLACES)
@pytest.mark.parametrize("status", [200, 201])
def test_the_record_is_read_from_location_or_body(
    odd: OddFhir, at: AtOdd, headers: dict[str, str], body: Any, version: str | None, status: int
) -> None:
    odd.answers[CREATE] = Reply(status, body, headers)
    record = registered(at, at.job()).record
    assert (record.id, record.version) == ("d-1", version)
    assert record.url == f"{at.settings.base_url}/DocumentReference/d-1"


def test_an_empty_success_without_a_location_is_searched_for(odd: OddFhir, at: AtOdd) -> None:
    odd.answers[CREATE] = Reply(201)
    with pytest.raises(OutcomeUnknown, match="without a Location"):
        registered(at, at.job())


@pytest.mark.parametrize("body", ["[]", "so be it", {"resourceType": "Bundle"}, {"resourceType": "DocumentReference"}])
def test_a_success_that_is_not_understood_blocks_the_account_with_an_unknown_outcome(
    odd: OddFhir, at: AtOdd, body: Any
) -> None:
    odd.answers[CREATE] = Reply(200, body)
    with pytest.raises(AccountBlocked, match="not understood") as blocked:
        registered(at, at.job())
    assert blocked.value.outcome_unknown


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Code.REFUSED_BY_PROVIDER),
        (412, Code.OUTCOME_UNKNOWN),
        (413, Code.FILE_TOO_LARGE),
        (422, Code.REFUSED_BY_PROVIDER),
    ],
)
def test_a_refusal_is_a_sentence_and_the_servers_words_stand_in_the_detail_alone(
    odd: OddFhir, making: Callable[..., AtOdd], status: int, expected: Code
) -> None:
    at = making(payload="inline")
    odd.answers[CREATE] = Reply(status, outcome("invalid", "Anna Meier has no such thing"))
    with pytest.raises(DocumentRefused) as refused:
        registered(at, at.job())
    assert refused.value.code is expected
    assert refused.value.hint
    assert refused.value.detail == "invalid: Anna Meier has no such thing."
    assert "Meier" not in "".join(traceback.format_exception(refused.value, limit=0))


@pytest.mark.parametrize("status", [401, 403, 404, 405, 415, 501])
def test_what_is_the_accounts_fault_blocks_it(odd: OddFhir, at: AtOdd, status: int) -> None:
    odd.answers[CREATE] = Reply(status, outcome())
    with pytest.raises((AccountBlocked, OutcomeUnknown)) as blocked:
        registered(at, at.job())
    assert isinstance(blocked.value, OutcomeUnknown) == (status == 501)  # a gateway's 5xx says nothing of what was done


def test_a_conflict_of_two_writers_is_tried_again(odd: OddFhir, at: AtOdd) -> None:
    odd.answers[CREATE] = Reply(409, outcome("conflict"))
    with pytest.raises(RetryLater, match="409"):
        registered(at, at.job())


def test_too_many_requests_say_when_to_come_back(odd: OddFhir, at: AtOdd) -> None:
    odd.answers[CREATE] = Reply(429, outcome("throttled"), {"Retry-After": "7"})
    with pytest.raises(RetryLater) as later:
        registered(at, at.job())
    assert (later.value.throttled, later.value.after_seconds) == (True, 7)


def test_a_lost_answer_is_of_unknown_outcome(odd: OddFhir, at: AtOdd) -> None:
    odd.answers[CREATE] = LOST
    with pytest.raises(OutcomeUnknown):
        registered(at, at.job())


# --- reading back ----------------------------------------------------------------------------------------------------


def test_a_record_that_can_be_read_back_is_delivered_at_once_and_another_is_searched_for(
    odd: OddFhir, at: AtOdd
) -> None:
    job = at.job()
    assert not registered(at, job).processed
    odd.answers[READ] = Reply(503)
    assert not registered(at, job).processed
    odd.answers[READ] = Reply(200, document(job))
    seen = registered(at, job)
    assert (seen.processed, seen.remarks) == (True, ())


OTHERS = {
    "other bytes": {"data": base64.b64encode(b"othr bytes").decode()},
    "fewer bytes": {"data": base64.b64encode(b"some").decode(), "size": None},
    "another size": {"size": 11, "data": None},
    "no base64": {"data": "&&&"},
}


@pytest.mark.parametrize("attachment", OTHERS.values(), ids=OTHERS)
def test_a_record_with_other_bytes_is_a_fault_and_never_a_delivery(
    odd: OddFhir, at: AtOdd, attachment: dict[str, Any]
) -> None:
    job = at.job()
    odd.answers[READ] = Reply(200, document(job, **attachment))
    with pytest.raises(DocumentRefused, match="something else") as refused:
        registered(at, job)
    assert refused.value.code is Code.OUTCOME_UNKNOWN
    odd.answers[SEARCH] = Reply(200, bundle(document(job, **attachment)))
    stored = Stored("k", None, False, SHA256, "")
    found = at.fhir.find([replace(job, facts=replace(job.facts, stored=stored))], NO_OWNERS)[job.id]
    assert found.fault is not None


def test_after_a_lost_answer_the_hash_in_the_record_proves_the_bytes(odd: OddFhir, at: AtOdd) -> None:
    """Nothing else is left of what was sent."""
    job = at.job()
    odd.answers[SEARCH] = Reply(200, bundle(document(job)))
    assert at.fhir.find([job], NO_OWNERS)[job.id].fault is None
    other = base64.b64encode(b"othr bytes").decode()
    odd.answers[SEARCH] = Reply(200, bundle(document(job, data=other)))
    assert at.fhir.find([job], NO_OWNERS)[job.id].fault is not None


BINARIES: dict[str, tuple[Reply, str]] = {
    "whole": (Reply(200, CONTENT.decode(), {"Content-Type": "application/pdf"}), ""),
    "as FHIR": (Reply(200, {"resourceType": "Binary"}, {"Content-Type": "application/fhir+json"}), "as FHIR only"),
    "forbidden": (Reply(403, outcome("forbidden")), "403"),
    "elsewhere": (Reply(302, headers={"Location": "https://elsewhere.example/"}), "302"),
}


@pytest.mark.parametrize("url", ["Binary/b-1", "{base}/R4/Binary/b-1"])
@pytest.mark.parametrize(("reply", "remark"), BINARIES.values(), ids=BINARIES)
def test_the_bytes_of_a_binary_are_read_back(odd: OddFhir, at: AtOdd, url: str, reply: Reply, remark: str) -> None:
    job = with_upload(at.job())
    odd.answers[READ] = Reply(200, document(job, data=None, url=url.format(base=odd.base)))
    odd.answers[READ_BINARY] = reply
    seen = registered(at, job)
    assert seen.processed
    assert remark in "".join(seen.remarks)
    assert bool(seen.remarks) == bool(remark)


@pytest.mark.parametrize(
    "reply", [Reply(200, "othr bytes"), Reply(200, "x" * 200_000), Reply(200, "")], ids=["other", "many", "none"]
)
def test_a_binary_with_other_bytes_is_a_fault(odd: OddFhir, at: AtOdd, reply: Reply) -> None:
    job = with_upload(at.job())
    odd.answers[READ] = Reply(200, document(job, data=None, url="Binary/b-1"))
    odd.answers[READ_BINARY] = reply
    with pytest.raises(DocumentRefused, match="something else"):
        registered(at, job)


def test_a_page_instead_of_a_binary_is_not_the_document(odd: OddFhir, at: AtOdd) -> None:
    job = with_upload(at.job())
    odd.answers[SEARCH] = Reply(200, bundle(document(job, data=None, url="Binary/b-1")))
    odd.answers[READ_BINARY] = Reply(200, "<html>", {"Content-Type": "text/html"})
    with pytest.raises(AccountBlocked, match="stands between"):
        at.fhir.find([job], NO_OWNERS)


def test_a_record_whose_binary_is_not_there_is_not_confirmed(odd: OddFhir, at: AtOdd) -> None:
    job = with_upload(at.job())
    odd.answers[SEARCH] = Reply(200, bundle(document(job, data=None, url="Binary/b-1")))
    assert at.fhir.find([job], NO_OWNERS) == {}


@pytest.mark.parametrize(
    "url", ["https://elsewhere.example/b", "http://127.0.0.2.nip.example/b", "file:///etc/passwd", "//x/b"]
)
def test_bytes_elsewhere_are_read_only_from_hosts_that_are_allowed(odd: OddFhir, at: AtOdd, url: str) -> None:
    job = with_upload(at.job())
    odd.answers[READ] = Reply(200, document(job, data=None, url=url))
    (remark,) = registered(at, job).remarks
    assert "download_hosts" in remark


def test_bytes_on_another_allowed_host_are_read_without_our_login(odd: OddFhir, making: Callable[..., AtOdd]) -> None:
    at = making(auth="bearer", token="secret-token", download_hosts=["127.0.0.1"])
    job = with_upload(at.job())
    odd.answers[READ] = Reply(200, document(job, data=None, url=f"{odd.base}/storage/b-1?signed=yes"))
    odd.answers["GET /storage/b-1"] = Reply(200, CONTENT.decode())
    seen = registered(at, job)
    assert (seen.processed, seen.remarks) == (True, ())
    (request,) = odd.sent("GET /storage/b-1")
    assert "authorization" not in request.headers


def test_documents_larger_than_the_bound_are_not_downloaded(odd: OddFhir, making: Callable[..., AtOdd]) -> None:
    at = making(read_back_below_bytes=5)
    job = with_upload(at.job())
    odd.answers[READ] = Reply(200, document(job, data=None, url="Binary/b-1"))
    (remark,) = registered(at, job).remarks
    assert "read_back_below_bytes" in remark
    assert odd.sent(READ_BINARY) == []


def test_what_is_too_large_to_be_embedded_goes_as_a_binary_where_there_are_binaries(
    odd: OddFhir, making: Callable[..., AtOdd]
) -> None:
    job = making().job()

    def answer(request: Request) -> Reply:
        inline = "data" in json.loads(request.body)["content"][0]["attachment"]
        return Reply(413, outcome("too-long")) if inline else Reply(201, headers={"Location": "DocumentReference/d-1"})

    read = document(job, data=None, url="Binary/b-1")
    odd.answers |= {CREATE: answer, BINARY: Reply(201, headers={"Location": "Binary/b-1"}), READ: Reply(200, read)}
    odd.answers[READ_BINARY] = Reply(200, CONTENT.decode())
    seen = registered(making(), job)
    assert seen.processed
    assert "embed_below_bytes" in "".join(seen.remarks)
    with pytest.raises(DocumentRefused) as refused:
        registered(making(payload="inline"), job)
    assert refused.value.code is Code.FILE_TOO_LARGE


@pytest.mark.parametrize(
    ("subject", "same"),
    [("Patient/4711", True), ("https://x.example/R4/Patient/4711/_history/2", True), ("Patient/14711", False)],
)
def test_a_record_under_another_patient_is_remarked_upon(odd: OddFhir, at: AtOdd, subject: str, same: bool) -> None:
    job = at.job()
    job = replace(job, facts=at.fhir.before_sending(job))
    odd.answers[READ] = Reply(200, document(job) | {"subject": {"reference": subject}})
    assert ("another patient" in "".join(registered(at, job).remarks)) != same


# --- finding ---------------------------------------------------------------------------------------------------------


def test_a_server_that_ignores_the_search_and_shows_everything_proves_nothing(odd: OddFhir, at: AtOdd) -> None:
    job, other = at.job(), at.job()
    odd.answers[SEARCH] = Reply(200, bundle(document(other), {"resourceType": "OperationOutcome", "issue": []}))
    assert at.fhir.find([job], NO_OWNERS) == {}


def test_two_records_with_one_identifier_are_a_doubt(odd: OddFhir, at: AtOdd) -> None:
    job = at.job()
    odd.answers[SEARCH] = Reply(200, bundle(document(job), document(job) | {"id": "d-2"}))
    assert at.fhir.find([job], NO_OWNERS)[job.id].doubt


def test_a_document_sent_again_is_searched_for_first(odd: OddFhir, making: Callable[..., AtOdd]) -> None:
    at = making(on_unknown_outcome="resend")
    job = replace(at.job(), uncertainty=Uncertainty(earlier_sending_unknown=True))
    odd.answers[SEARCH] = Reply(200, bundle(document(job)))
    assert registered(at, job).processed
    assert odd.sent(CREATE) == []


def test_a_record_stands_unless_it_is_gone_or_was_entered_in_error(odd: OddFhir, at: AtOdd) -> None:
    job, record = at.job(), Record("d-1")
    for status, body, stands in (
        (200, document(job), True),
        (200, document(job) | {"status": "entered-in-error"}, False),
        (404, outcome("not-found"), False),
        (410, outcome("deleted"), False),
    ):
        odd.answers[READ] = Reply(status, body)
        assert at.fhir.still_there(job.document, record) is stands
    odd.answers[READ] = Reply(200, document(job) | {"id": "d-2"})
    with pytest.raises(AccountBlocked):
        at.fhir.still_there(job.document, record)


# --- routes, options, settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("unknown", ["reconcile", "resend", "hold"])
def test_the_route_follows_from_settings_and_size(making: Callable[..., AtOdd], unknown: str) -> None:
    at = making(on_unknown_outcome=unknown, embed_below_bytes=10)
    small, large = at.fhir.route(at.job(b"9 bytes..").document), at.fhir.route(at.job().document)
    assert (small.stages, small.first) == ((Stage.REGISTERED,), Step.REGISTER)
    assert (large.stages, large.first) == ((Stage.STORED, Stage.REGISTERED), Step.POST)
    assert {small.on_unknown_outcome, large.on_unknown_outcome} == {OnUnknownOutcome(unknown)}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"nonsense": 1}, "hold something"),
    ({"patient": "4711"}, "patient wrong"),
    ({"patient": "Practitioner/1"}, "patient wrong"),
    ({"encounter": "Patient/1"}, "encounter wrong"),
    ({"author": "https://elsewhere.example/Practitioner/1"}, "author wrong"),
    ({"doc_status": "done"}, "doc_status wrong"),
    ({"title": "\x00"}, "title wrong"),
    ({"title": "\ud800"}, "not understood"),
    ({"period": {"start": "yesterday"}}, "period wrong"),
    ({"period": {"start": "2026-05-01T10:00:00"}}, "period wrong"),
    ({"period": {"from": "2026"}}, "period wrong"),
    ({"metadata": {"type": "x"}}, "options.metadata"),
    ({"metadata": {"author": {"name": "\x01"}}}, "not text"),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG)
def test_options_that_cannot_be_are_refused_without_a_call(at: AtOdd, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DocumentRefused, match=sentence) as refused:
        at.fhir.check(at.job(options=options).document)
    assert refused.value.code is Code.INVALID_REQUEST
    assert at.slots.calls == 0


def test_a_document_needs_a_type_a_patient_and_an_id_that_fhir_can_have(making: Callable[..., AtOdd]) -> None:
    at = making(metadata={})
    with pytest.raises(DocumentRefused, match=r"metadata\.type is missing"):
        at.fhir.check(at.job().document)
    at = making()
    with pytest.raises(DocumentRefused) as refused:
        at.fhir.check(at.job(patient_id=None).document)
    assert refused.value.code is Code.PATIENT_REQUIRED
    at.fhir.check(at.job(patient_id=None, options={"patient": "Patient/1"}).document)
    with pytest.raises(DocumentRefused, match="not an id of FHIR"):
        at.fhir.check(at.job(patient_id="a@b").document)
    making(patient_system="urn:x").fhir.check(at.job(patient_id="a@b").document)


def test_a_patient_that_is_not_in_use_any_more_gets_nothing(odd: OddFhir, at: AtOdd) -> None:
    odd.answers[PATIENT] = Reply(200, {"resourceType": "Patient", "id": "4711", "active": False})
    with pytest.raises(DocumentRefused, match="not in use any more"):
        registered(at, at.job())
    assert odd.sent(CREATE) == []


@pytest.mark.parametrize(
    ("patients", "sentence"),
    [
        ([{"id": "p-1", "identifier": [{"system": "urn:x", "value": "other"}]}], "no such patient"),
        ([{"id": "p-1", "identifier": [{"system": "urn:y", "value": "4711"}]}], "no such patient"),
        ([{"id": "p-1"}], "no such patient"),
    ],
)
def test_a_patient_search_that_shows_others_finds_nobody(
    odd: OddFhir, making: Callable[..., AtOdd], patients: list[dict[str, Any]], sentence: str
) -> None:
    at = making(patient_system="urn:x")
    odd.answers[PATIENTS] = Reply(200, bundle(*({"resourceType": "Patient"} | each for each in patients)))
    with pytest.raises(DocumentRefused, match=sentence):
        registered(at, at.job())


def test_a_patients_identifier_is_escaped_and_the_one_that_has_it_is_taken(
    odd: OddFhir, making: Callable[..., AtOdd]
) -> None:
    at = making(patient_system="urn:x,y|z")
    found = {"resourceType": "Patient", "id": "p-1", "identifier": [{"system": "urn:x,y|z", "value": "4711"}]}
    odd.answers[PATIENTS] = Reply(200, bundle(found))
    registered(at, at.job())
    assert odd.sent(PATIENTS)[0].query["identifier"] == [r"urn:x\,y\|z|4711"]
    assert odd.resource()["subject"] == {"reference": "Patient/p-1"}


# --- logging in ------------------------------------------------------------------------------------------------------


def secret_account(making: Callable[..., AtOdd], **more: Any) -> AtOdd:
    return making(auth="secret", client_id="the client", client_secret="a:b/c", scope="system/*.crs", **more)


def test_the_token_address_is_found_by_smart_then_by_the_statement(odd: OddFhir, making: Callable[..., AtOdd]) -> None:
    odd.answers[TOKEN] = Reply(200, {"access_token": "t-1", "token_type": "Bearer", "expires_in": 300})
    odd.answers[SMART] = Reply(200, {"token_endpoint": odd.base + "/token"})
    at = secret_account(making)
    registered(at, at.job())
    assert odd.sent(CREATE)[0].headers["authorization"] == "Bearer t-1"
    (request,) = odd.sent(TOKEN)
    assert forms(request) == {"grant_type": "client_credentials", "scope": "system/*.crs"}
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"the%20client:a%3Ab%2Fc").decode()
    oauth = {
        "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
        "extension": [{"url": "token", "valueUri": odd.base + "/token"}],
    }
    said = statement()
    said["rest"][0]["security"] = {"extension": [oauth]}
    odd.answers |= {SMART: Reply(404), METADATA: Reply(200, said)}
    at = secret_account(making, client_auth="body")
    registered(at, at.job())
    assert forms(odd.sent(TOKEN)[-1])["client_secret"] == "a:b/c"
    assert "authorization" not in odd.sent(TOKEN)[-1].headers


@pytest.mark.parametrize("said", ["", "ftp://x/", "http://", "nonsense", 7])
def test_a_server_without_a_token_address_is_named(odd: OddFhir, making: Callable[..., AtOdd], said: Any) -> None:
    odd.answers[SMART] = Reply(200, {"token_endpoint": said})
    at = secret_account(making)
    with pytest.raises(AccountBlocked, match="token"):
        registered(at, at.job())


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_token_server_that_refuses_names_what_to_check(
    odd: OddFhir, making: Callable[..., AtOdd], status: int
) -> None:
    odd.answers[TOKEN] = Reply(status, {"error": "invalid_client", "error_description": "a:b/c"})
    at = secret_account(making, token_url=odd.base + "/token")
    with pytest.raises(AccountBlocked, match="client_secret") as blocked:
        at.fhir.probe()
    assert blocked.value.credentials
    assert "a:b/c" not in str(blocked.value)


# --- statements ------------------------------------------------------------------------------------------------------


def test_a_statement_of_many_values_is_read_and_remembered(odd: OddFhir, at: AtOdd) -> None:
    said = statement()
    params = [{"name": f"parameter-{number}", "type": "token"} for number in range(100)]
    said["rest"][0]["resource"] += [{"type": f"Kind{number}", "searchParam": params} for number in range(150)]
    odd.answers[METADATA] = Reply(200, said)
    at.fhir.probe()
    registered(at, at.job())
    assert len(odd.sent(METADATA)) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, "<html>"),
        Reply(200, "[]"),
        Reply(200, {"resourceType": "Bundle"}),
        Reply(200, {"resourceType": "CapabilityStatement"}),
        Reply(200, {"resourceType": "CapabilityStatement", "fhirVersion": 4, "rest": [{"resource": [{}]}]}),
        Reply(200, {"resourceType": "CapabilityStatement", "rest": "no"}),
        Reply(404),
    ],
)
def test_what_is_no_statement_of_r4_blocks_the_account(odd: OddFhir, at: AtOdd, answer: Reply) -> None:
    odd.answers[METADATA] = answer
    with pytest.raises(AccountBlocked):
        at.fhir.probe()


def test_a_client_that_may_not_search_is_told_only_where_it_must(odd: OddFhir, making: Callable[..., AtOdd]) -> None:
    odd.answers[SEARCH] = Reply(403, outcome("forbidden"))
    making(on_unknown_outcome="resend").fhir.probe()
    with pytest.raises(AccountBlocked, match="scope"):
        making().fhir.probe()


# --- records for people ----------------------------------------------------------------------------------------------

HAPI = "{base}/R4?_getpages=a-b&_getpagesoffset=1"
RELATIVE = "DocumentReference?_offset=1"


@pytest.mark.parametrize("link", [HAPI, RELATIVE, "{base}/R4/DocumentReference/_search/page%2F2?x="])
def test_a_page_leads_to_the_next_by_the_servers_own_address(odd: OddFhir, at: AtOdd, link: str) -> None:
    job = at.job()
    second = Reply(200, bundle(document(job) | {"id": "d-2"}))

    def answer(request: Request) -> Reply:
        if "_offset" in request.query:
            return second
        return Reply(200, bundle(document(job), link=[{"relation": "next", "url": link.format(base=odd.base)}]))

    odd.answers |= {SEARCH: answer, "GET /R4": second, "GET /R4/DocumentReference/_search/page%2F2": second}
    assert [each.id for each in at.fhir.records(RecordQuery("4711"))] == ["d-1", "d-2"]


ELSEWHERE = (
    "https://elsewhere.example/R4/DocumentReference?page=2",
    "//elsewhere.example/R4/DocumentReference",
    "{base}/other/DocumentReference",
    "{base}/R4/../admin",
    "{base}/R4/%2e%2e/admin",
    "http://user@127.0.0.1:1/R4/DocumentReference",
    "http://[",
)


@pytest.mark.parametrize("link", ELSEWHERE)
def test_a_page_that_leads_elsewhere_is_never_followed_with_the_login(odd: OddFhir, at: AtOdd, link: str) -> None:
    next_page = {"relation": "next", "url": link.format(base=odd.base)}
    odd.answers[SEARCH] = Reply(200, bundle(document(at.job()), link=[next_page]))
    shown = at.fhir.records(RecordQuery("4711"))
    assert next(shown).id == "d-1"
    with pytest.raises(AccountBlocked, match="below base_url"):
        next(shown)
    assert {request.path for request in odd.requests} <= {"/R4/metadata", "/R4/Patient/4711", "/R4/DocumentReference"}


def test_a_list_that_leads_back_to_itself_ends(odd: OddFhir, at: AtOdd) -> None:
    itself = [{"relation": "next", "url": "DocumentReference"}]
    odd.answers[SEARCH] = Reply(200, bundle(document(at.job()), link=itself))
    assert len(list(at.fhir.records(RecordQuery("4711")))) == 1


def test_filters_and_order_are_the_servers_search_parameters(odd: OddFhir, at: AtOdd) -> None:
    query = RecordQuery(filters=("date=ge2026-01-01", "type=http://loinc.org|34133-9"), sort="-date")
    at.fhir.check_query(query)
    assert list(at.fhir.records(query)) == []
    sent = odd.sent(SEARCH)[-1].query
    assert (sent["date"], sent["type"], sent["_sort"]) == (["ge2026-01-01"], ["http://loinc.org|34133-9"], ["-date"])
    assert sent["_summary"] == ["true"]
    assert "patient" not in sent
    odd.answers[SEARCH] = Reply(400, outcome("invalid", "no such parameter"))
    with pytest.raises(DocumentRefused) as refused:
        list(at.fhir.records(query))
    assert (refused.value.code, refused.value.detail) == (Code.INVALID_REQUEST, "invalid: no such parameter.")


@pytest.mark.parametrize(
    "query",
    [
        RecordQuery("4711", page=2),
        RecordQuery("4711", filters=("nonsense",)),
        RecordQuery("4711", filters=("=x",)),
        RecordQuery("4711", case_id="c"),
        RecordQuery("4711", archived=True),
        RecordQuery("a@b"),
    ],
)
def test_what_cannot_be_listed_is_refused_without_a_call(at: AtOdd, query: RecordQuery) -> None:
    with pytest.raises(DocumentRefused):
        at.fhir.check_query(query)
    assert at.slots.calls == 0


def test_a_record_shows_no_address_that_opens_without_the_login(odd: OddFhir, at: AtOdd) -> None:
    job = at.job()
    odd.answers[READ] = Reply(200, document(job, data=None, url="https://storage.example/b?signature=secret"))
    assert at.fhir.record("d-1").content_url is None
    odd.answers[READ] = Reply(200, document(job, data=None, url="Binary/b-1"))
    assert at.fhir.record("d-1").content_url == f"{odd.base}/R4/Binary/b-1"
    with pytest.raises(DocumentRefused, match="no such record"):
        at.fhir.record("d-2")


# --- anything at all -------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "resourceType",
                    "id",
                    "entry",
                    "resource",
                    "content",
                    "attachment",
                    "data",
                    "url",
                    "size",
                    "identifier",
                    "meta",
                    "rest",
                    "link",
                    "search",
                    "issue",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_JSON, kind=st.sampled_from(["Bundle", "DocumentReference", "Patient", "CapabilityStatement", ""]))
def test_whatever_is_answered_ends_in_one_of_our_errors(odd: OddFhir, at: AtOdd, body: Any, kind: str) -> None:
    said = {"resourceType": kind, **body} if isinstance(body, dict) else body
    for call in (METADATA, PATIENT, CREATE, READ, SEARCH):
        before = odd.answers[call] if call in odd.answers else Reply(404)
        odd.answers[call] = Reply(200, json.dumps(said))
        at.cache.values.clear()
        job = at.job()
        for act in (at.fhir.probe, lambda job=job: registered(at, job), lambda job=job: at.fhir.find([job], NO_OWNERS)):
            with suppress(StepError):
                act()
        odd.answers[call] = before
