"""What is special to Cliniko, against answers that the vendor's pages leave possible, and against the sandbox."""

from __future__ import annotations

import base64
import json
import string
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.accounts import ClinikoAccount
from tasks.http.clients import Clients
from tasks.model.errors import (
    AccountBlocked,
    Code,
    DocumentRefused,
    LeaseLost,
    OutcomeUnknown,
    PresignAgain,
    RetryLater,
    StepError,
)
from tasks.model.job import Counts, Job, Record, Stored
from tasks.model.route import Stage
from tasks.providers.base import RecordQuery
from tasks.providers.cliniko.client import Cliniko
from tasks.providers.cliniko.naming import MAX_DESCRIPTION, MAX_NAME, description, sent_name, token
from tests.harness.sandbox import SandboxProcess
from tests.tasks.providers.at_work import AtWork, eventually
from tests.tasks.providers.doubles import NO_OWNERS, THEN, CountingGate, DictCache, Slots, clock_ahead, connected, job
from tests.tasks.providers.odd_server import OddServer, Reply, Request

KEY = "the-users-key-au1"
CONTACT = "A Clinic (it@clinic.example)"
PRESIGN = "GET /v1/patients/4711/attachment_presigned_post"
REGISTER = "POST /v1/patient_attachments"
RECENT = "GET /v1/patient_attachments"
OF_PATIENT = "GET /v1/patients/4711/patient_attachments"
BUCKET = "https://files.s3.amazonaws.com/"
TEMP = "123/patients/4711/attachments/temp/0f/referral.pdf"
FORM = {"url": BUCKET, "fields": {"key": "123/temp/${filename}", "policy": "p", "acl": "private"}}
URL_IS_INVALID = {"message": "Validation Failed", "errors": {"temp_attachment_url": "is invalid"}}


@pytest.fixture
def odd() -> Iterator[OddServer]:
    with OddServer() as server:
        yield server


def made(odd: OddServer, clients: Clients, cache: DictCache, slots: Slots, key: str = KEY) -> Cliniko:
    account = ClinikoAccount.model_validate(
        {"provider": "cliniko", "base_url": f"{odd.base}/v1", "api_key": key, "contact": CONTACT, "insecure": True}
    )
    return Cliniko("clinic", account, connected(clients, slots, cache), now=lambda: THEN)


@pytest.fixture
def cliniko(odd: OddServer, clients: Clients, cache: DictCache, slots: Slots) -> Cliniko:
    return made(odd, clients, cache, slots)


def record(number: object, **more: Any) -> dict[str, Any]:
    """A record as the API shows it once it is processed; `bears` is the job whose token it has."""
    bears: Job | None = more.pop("bears", None)
    shown = {
        "id": number,
        "filename": "referral.pdf",
        "size": 10,
        "content_type": "application/pdf",
        "description": f"({token(bears)})" if bears else None,
        "processing_completed": True,
        "created_at": "2026-11-21T10:00:00Z",
    }
    return shown | more


def pending(number: object, **more: Any) -> dict[str, Any]:
    nothing_yet = {"filename": None, "size": None, "content_type": None, "processing_completed": False}
    return record(number, **{**nothing_yet, **more})


def page(*records: dict[str, Any], **more: Any) -> Reply:
    return Reply(body={"patient_attachments": list(records), "total_entries": len(records), "links": {}} | more)


def stored_job(**changes: Any) -> Job:
    """A job whose document is in its temporary place."""
    landed = Stored(TEMP, None, False, "5" * 64, "e" * 32, form_url=BUCKET)
    return replace(job(stored=landed, **changes), counts=Counts(presigns=1))


def lost_job(**changes: Any) -> Job:
    """A job whose registering was sent, and its answer not seen."""
    return stored_job(provider={"since": THEN.isoformat()}, **changes)


def registered_job(record_id: str, **changes: Any) -> Job:
    return stored_job(record=Record(record_id), provider={"since": THEN.isoformat()}, **changes)


# --- who is calling --------------------------------------------------------------------------------------------------


def test_the_key_goes_as_user_name_with_an_empty_password_and_the_contact_as_user_agent(
    odd: OddServer, cliniko: Cliniko
) -> None:
    odd.answers[PRESIGN] = Reply(body=FORM)
    odd.answers[REGISTER] = Reply(201, pending(7))
    cliniko.presign(job(), CountingGate())
    cliniko.register(stored_job(), CountingGate())
    for request in odd.requests:
        scheme, _, encoded = request.headers["authorization"].partition(" ")
        assert (scheme, base64.b64decode(encoded).decode()) == ("Basic", f"{KEY}:")
        assert request.headers["user-agent"] == CONTACT
        assert request.headers["accept"] == "application/json"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_is_never_carried_along_a_redirect(odd: OddServer, cliniko: Cliniko, status: int) -> None:
    with OddServer() as elsewhere:
        for place in (PRESIGN, REGISTER, OF_PATIENT, RECENT):
            odd.answers[place] = Reply(status, headers={"Location": elsewhere.base + "/v1/patient_attachments"})
        for act in every_call(cliniko):
            with pytest.raises(AccountBlocked, match="redirect"):
                act()
        assert elsewhere.requests == []


def no_wait(_: float) -> None:
    """Time passes by itself."""


def every_call(cliniko: Cliniko) -> Sequence[Callable[[], object]]:
    return (
        lambda: cliniko.presign(job(), CountingGate()),
        lambda: cliniko.register(stored_job(), CountingGate()),
        lambda: cliniko.find([lost_job()], NO_OWNERS),
        lambda: cliniko.find([registered_job("7")], NO_OWNERS),
        cliniko.probe,
    )


def test_one_user_has_one_limit_whatever_the_shard_in_the_key_and_it_shows_nothing(
    odd: OddServer, clients: Clients, cache: DictCache, slots: Slots
) -> None:
    groups = [made(odd, clients, cache, slots, key).limit_group for key in ("key-au1", "key", "other-au1")]
    assert groups[0] == groups[1] != groups[2]
    assert "key" not in groups[0]


# --- before any call -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"patient_id": None}, Code.PATIENT_REQUIRED),
        ({"size_bytes": 0}, Code.FILE_EMPTY),
        ({"size_bytes": 100_000_001}, Code.FILE_TOO_LARGE),
        ({"file_name": "a\nb.pdf"}, Code.INVALID_REQUEST),
        ({"file_name": "${filename}.pdf"}, Code.INVALID_REQUEST),
        ({"options": {"document_id": "7"}}, Code.INVALID_REQUEST),
        ({"options": {"metadata": {}, "Anna Meier": 1}}, Code.INVALID_REQUEST),
    ],
)
def test_what_could_never_arrive_as_asked_is_refused_without_a_call(
    odd: OddServer, cliniko: Cliniko, change: dict[str, Any], code: Code
) -> None:
    with pytest.raises(DocumentRefused) as refused:
        cliniko.check(replace(job().document, **change))
    assert refused.value.code is code
    assert refused.value.hint
    assert odd.requests == []
    for name in change.get("options", {}):
        assert (name in refused.value.message) == (name in ("document_id", "metadata")), "who knows what a key holds"


# --- names and descriptions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("referral.pdf", "referral.pdf"),
        ("UPPER-case_1.2.PDF", "UPPER-case_1.2.PDF"),
        ("Über weisung (1).pdf", "Uber_weisung_1.pdf"),
        ("naïve café ☕.pdf", "naive_cafe.pdf"),
        ("日本語.pdf", "document.pdf"),
        ("日本語", "document"),
        ("scan.tar.gz", "scan.tar.gz"),
        ("x" * 300 + ".jpeg", "x" * 95 + ".jpeg"),
        ("no-suffix", "no-suffix"),
        (".pdf", "document.pdf"),
        ("...", "document"),
        ("ends.with.dot.", "ends.with.dot."),
        ("a b. pdf", "a_b.pdf"),
        ("e\u0301tude.pdf", "etude.pdf"),
        ("a_.pdf", "a_.pdf"),
        ("‥0", "document.0"),
    ],
)
def test_names_are_sent_in_plain_letters_with_their_ending(name: str, sent: str) -> None:
    assert sent_name(replace(job().document, file_name=name)) == sent


@given(st.text(min_size=1, max_size=300))
def test_any_name_is_sent_in_characters_that_need_no_encoding(name: str) -> None:
    sent = sent_name(replace(job().document, file_name=name))
    assert 0 < len(sent) <= MAX_NAME
    assert set(sent) <= set(string.ascii_letters + string.digits + "._-")
    assert sent not in (".", "..")
    assert sent_name(replace(job().document, file_name=sent)) == sent, "a sent name is sent as it is"


@given(st.text(max_size=400) | st.none(), st.text(min_size=1, max_size=300))
def test_any_description_fits_on_one_line_and_ends_with_our_token(words: str | None, name: str) -> None:
    asked = job()
    asked = replace(asked, document=replace(asked.document, description=words, file_name=name))
    said = description(asked)
    assert len(said) <= MAX_DESCRIPTION
    assert said.endswith(f"({token(asked)})")
    assert said.isprintable() or not (words or "").isprintable() or not name.isprintable()
    said.encode()


def test_the_description_keeps_what_the_sender_said_and_the_name_that_could_not_be_sent() -> None:
    asked = job(file_name="Überweisung.pdf")
    asked = replace(asked, document=replace(asked.document, description="From\nDr. Zoë"))
    assert description(asked) == f"From Dr. Zoë · Überweisung.pdf ({token(asked)})"
    plain = job()
    assert description(plain) == f"({token(plain)})"


def test_neither_a_long_name_nor_a_long_description_leaves_no_room_for_the_other() -> None:
    asked = job(file_name="ü" * 251 + ".pdf")
    asked = replace(asked, document=replace(asked.document, description="ä" * 400))
    said = description(asked)
    assert len(said) == MAX_DESCRIPTION
    assert min(said.count("ä"), said.count("ü")) > 80


def test_the_token_follows_from_the_jobs_id_and_tells_jobs_apart() -> None:
    first, second = job(), job()
    assert token(replace(second, id=first.id)) == token(first) != token(second)
    assert first.id not in token(first)


# --- presign ---------------------------------------------------------------------------------------------------------


def test_a_form_keeps_the_order_of_its_fields_and_obtaining_it_creates_nothing(
    odd: OddServer, cliniko: Cliniko
) -> None:
    fields = {"key": "temp/${filename}", "policy": "p", "x-amz-date": "d", "acl": "private", "more": "m"}
    odd.answers[PRESIGN] = Reply(body={"url": BUCKET, "fields": fields, "new": [1]})
    gate = CountingGate()
    form = cliniko.presign(job(), gate)
    assert (form.url, list(form.fields.items())) == (BUCKET, list(fields.items()))
    assert gate.commits == 0
    assert not cliniko.presign_creates
    assert not cliniko.route(job().document).upload_creates


@pytest.mark.parametrize(
    "body",
    [
        "null",
        {"url": None, "fields": None},
        {"url": None, "fields": {}},
        {"url": None},
        {"url": "", "fields": {}},
        {"url": BUCKET, "fields": None},
    ],
)
def test_an_address_that_is_not_there_yet_is_asked_for_later(odd: OddServer, cliniko: Cliniko, body: object) -> None:
    odd.answers[PRESIGN] = Reply(body=body)
    with pytest.raises(RetryLater) as later:
        cliniko.presign(job(), CountingGate())
    assert not later.value.throttled


@pytest.mark.parametrize(
    "body",
    [
        "",
        [],
        {},
        {"fields": {}},
        {"url": 5, "fields": {}},
        {"url": BUCKET},
        {"url": BUCKET, "fields": []},
        {"url": BUCKET, "fields": {"key": 5}},
        {"url": BUCKET, "fields": {"key": None}},
    ],
)
def test_a_form_of_another_shape_blocks_the_account(odd: OddServer, cliniko: Cliniko, body: object) -> None:
    odd.answers[PRESIGN] = Reply(body=body)
    with pytest.raises(AccountBlocked, match="answered in a shape that is not understood") as blocked:
        cliniko.presign(job(), CountingGate())
    assert not blocked.value.credentials


# --- the error table -------------------------------------------------------------------------------------------------

MEANT: list[tuple[int, type[StepError]]] = [
    (400, DocumentRefused),
    (401, AccountBlocked),
    (402, AccountBlocked),
    (403, AccountBlocked),
    (404, DocumentRefused),
    (405, AccountBlocked),
    (408, RetryLater),
    (418, AccountBlocked),
    (422, DocumentRefused),
    (429, RetryLater),
]
UNWELL = (500, 502, 503, 504)


@pytest.mark.parametrize(("status", "meant"), [*MEANT, *((status, RetryLater) for status in UNWELL)])
def test_each_status_of_presign_says_what_happens_next(
    odd: OddServer, cliniko: Cliniko, status: int, meant: type[StepError]
) -> None:
    odd.answers[PRESIGN] = Reply(status)
    with pytest.raises(StepError) as raised:
        cliniko.presign(job(), CountingGate())
    assert type(raised.value) is meant


@pytest.mark.parametrize(("status", "meant"), [*MEANT, *((status, OutcomeUnknown) for status in UNWELL)])
def test_each_status_of_registering_says_what_happens_next(
    odd: OddServer, cliniko: Cliniko, status: int, meant: type[StepError]
) -> None:
    odd.answers[REGISTER] = Reply(status)
    with pytest.raises(StepError) as raised:
        cliniko.register(stored_job(), CountingGate())
    assert type(raised.value) is meant


@pytest.mark.parametrize("status", [401, 403])
def test_refused_keys_are_told_from_other_faults_of_the_account(odd: OddServer, cliniko: Cliniko, status: int) -> None:
    odd.otherwise = Reply(status)
    for act in every_call(cliniko):
        with pytest.raises(AccountBlocked) as blocked:
            act()
        assert blocked.value.credentials
        assert KEY not in "".join(traceback.format_exception(blocked.value))
    odd.otherwise = Reply(405)
    with pytest.raises(AccountBlocked) as blocked:
        cliniko.probe()
    assert not blocked.value.credentials


def test_a_base_url_that_leads_nowhere_is_the_accounts_fault_and_no_documents(odd: OddServer, cliniko: Cliniko) -> None:
    with pytest.raises(AccountBlocked, match="base_url"):
        cliniko.probe()
    with pytest.raises(AccountBlocked, match="base_url"):
        cliniko.find([registered_job("7")], NO_OWNERS)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 60),
        ({"X-RateLimit-Reset": "soon"}, 60),
        ({"X-RateLimit-Reset": "1"}, 1),
        ({"X-RateLimit-Reset": "99999999999"}, 120),
        ({"Retry-After": "7"}, 7),
    ],
)
def test_a_throttled_user_waits_until_the_limit_is_reset_or_a_minute(
    odd: OddServer, cliniko: Cliniko, headers: dict[str, str], seconds: float
) -> None:
    odd.otherwise = Reply(429, headers=headers)
    for act in every_call(cliniko):
        with pytest.raises(RetryLater) as later:
            act()
        assert (later.value.throttled, later.value.after_seconds) == (True, seconds)


def test_what_cliniko_says_of_a_refused_document_is_kept_apart(odd: OddServer, cliniko: Cliniko) -> None:
    said = {"message": "Validation Failed", "errors": {"patient": "Anna Meier is archived", "x": ["y"]}}
    odd.answers[REGISTER] = Reply(422, said)
    with pytest.raises(DocumentRefused) as refused:
        cliniko.register(stored_job(), CountingGate())
    assert refused.value.code is Code.REFUSED_BY_PROVIDER
    assert refused.value.detail == "Validation Failed; patient Anna Meier is archived; x ['y']"
    assert "Anna" not in "".join(traceback.format_exception(refused.value, limit=0))


# --- register --------------------------------------------------------------------------------------------------------


def test_the_upload_is_named_by_the_forms_address_and_its_raw_key(odd: OddServer, cliniko: Cliniko) -> None:
    odd.answers[REGISTER] = Reply(201, pending("1152921504606846977"))
    gate, asked = CountingGate(), stored_job(patient_id="0456")
    registered = cliniko.register(asked, gate)
    (request,) = odd.requests
    assert json.loads(request.body) == {
        "description": f"({token(asked)})",
        "patient_id": "0456",
        "upload_url": BUCKET + TEMP,
    }
    assert request.headers["content-type"] == "application/json"
    assert (registered.record.id, registered.processed) == ("1152921504606846977", False)
    assert registered.record.url == f"{odd.base}/v1/patient_attachments/1152921504606846977"
    assert gate.commits == 1


@pytest.mark.parametrize(
    ("answered", "processed"),
    [
        (pending(7), False),
        (pending("7", processing_completed=None), False),
        (record(7), True),
        (record(7, size="10"), True),
        (record(7, size=9), False),
    ],
)
def test_a_record_that_is_processed_at_once_needs_no_search_unless_it_has_a_fault(
    odd: OddServer, cliniko: Cliniko, answered: dict[str, Any], processed: bool
) -> None:
    odd.answers[REGISTER] = Reply(201, answered)
    registered = cliniko.register(stored_job(), CountingGate())
    assert (registered.record.id, registered.processed) == ("7", processed)


@pytest.mark.parametrize(
    "reply", [Reply(0), Reply(201, headers={"Content-Length": "999", "Connection": "close"}), *map(Reply, UNWELL)]
)
def test_an_answer_that_is_lost_or_unwell_leaves_open_what_became_of_it(
    odd: OddServer, cliniko: Cliniko, reply: Reply
) -> None:
    odd.answers[REGISTER] = reply
    with pytest.raises(OutcomeUnknown) as unknown:
        cliniko.register(stored_job(), CountingGate())
    assert unknown.value.unreachable


@pytest.mark.parametrize("body", ["", [], {}, {"id": None}, {"id": ""}, {"id": {}}, "null"])
def test_a_success_that_cannot_be_read_is_a_record_that_must_be_searched_for(
    odd: OddServer, cliniko: Cliniko, body: object
) -> None:
    elsewhere = "https://elsewhere.example/v1/patient_attachments/8"
    for headers in ({}, {"Location": elsewhere}, {"Location": f"{odd.base}/v1/patient_attachments/"}):
        odd.answers[REGISTER] = Reply(201, body, headers)
        with pytest.raises(OutcomeUnknown):
            cliniko.register(stored_job(), CountingGate())
    odd.answers[REGISTER] = Reply(201, body, {"Location": f"{odd.base}/v1/patient_attachments/8"})
    assert cliniko.register(stored_job(), CountingGate()).record.id == "8"


def test_a_worker_that_may_not_commit_registers_nothing(odd: OddServer, cliniko: Cliniko) -> None:
    class Late(CountingGate):
        def commit(self) -> None:
            raise LeaseLost("lost")

    odd.answers[REGISTER] = Reply(201, pending(7))
    with pytest.raises(LeaseLost):
        cliniko.register(stored_job(), Late())
    assert all(not request.body for request in odd.requests)


@pytest.mark.parametrize("stored", [None, Stored(TEMP, None, False, "5" * 64, "e" * 32)])
def test_an_upload_that_is_forgotten_is_sent_again(odd: OddServer, cliniko: Cliniko, stored: Stored | None) -> None:
    with pytest.raises(PresignAgain):
        cliniko.register(job(stored=stored), CountingGate())
    assert odd.requests == []


# --- an upload that is not there any more ----------------------------------------------------------------------------


def test_an_upload_that_an_unseen_registering_has_taken_leads_to_its_record(odd: OddServer, cliniko: Cliniko) -> None:
    """The first was carried out after all; the second finds the temporary place empty."""
    asked = lost_job()
    odd.answers[REGISTER] = Reply(422, URL_IS_INVALID)
    for answered, processed in ((record(7, bears=asked), True), (pending(7, bears=asked), False)):
        odd.answers[OF_PATIENT] = page(record(1), answered, record(2, bears=job()))
        registered = cliniko.register(asked, CountingGate())
        assert (registered.record.id, registered.processed) == ("7", processed)


def test_an_upload_that_is_gone_is_sent_once_more_and_then_refused(odd: OddServer, cliniko: Cliniko) -> None:
    asked = lost_job()
    odd.answers[REGISTER] = Reply(422, URL_IS_INVALID)
    odd.answers[OF_PATIENT] = page()
    with pytest.raises(PresignAgain):
        cliniko.register(asked, CountingGate())
    with pytest.raises(DocumentRefused) as refused:
        cliniko.register(replace(asked, counts=Counts(presigns=2)), CountingGate())
    assert refused.value.detail == "Validation Failed; temp_attachment_url is invalid"
    assert "patient" not in refused.value.message + refused.value.hint
    assert "web filter" in refused.value.hint
    assert odd.paths().count(OF_PATIENT) == 2, "looked for before each"
    with pytest.raises(PresignAgain):
        cliniko.register(asked, CountingGate())  # retried by a person, it starts over


def test_forms_that_had_expired_before_do_not_count(odd: OddServer, cliniko: Cliniko) -> None:
    odd.answers[REGISTER] = Reply(422, URL_IS_INVALID)
    odd.answers[OF_PATIENT] = page()
    with pytest.raises(PresignAgain):
        cliniko.register(replace(lost_job(), counts=Counts(presigns=4)), CountingGate())


def test_an_upload_is_not_sent_again_for_a_patient_that_cliniko_refuses(odd: OddServer, cliniko: Cliniko) -> None:
    errors = {"patient": "can't be blank", **URL_IS_INVALID["errors"]}  # type: ignore[dict-item]
    odd.answers[REGISTER] = Reply(422, {"message": "Validation Failed", "errors": errors})
    odd.answers[OF_PATIENT] = page()
    with pytest.raises(DocumentRefused):
        cliniko.register(lost_job(), CountingGate())


# --- finding ---------------------------------------------------------------------------------------------------------


def found_of(cliniko: Cliniko, asked: Job) -> tuple[str, Stage] | None:
    found = cliniko.find([asked], NO_OWNERS).get(asked.id)
    return (found.record.id, found.stage) if found else None


@pytest.mark.parametrize("number", [7, "7"])
def test_a_known_record_is_found_in_the_list_of_what_changed_lately(
    odd: OddServer, cliniko: Cliniko, number: object
) -> None:
    odd.answers[RECENT] = page(record(1), record(number), record("x"))
    assert found_of(cliniko, registered_job("7")) == ("7", Stage.DELIVERED)
    (request,) = odd.requests
    assert request.query["q[]"] == ["updated_at:>=2026-11-21T09:00:00Z", "archived_at:*"]
    assert (request.query["sort"], request.query["per_page"]) == (["updated_at:desc"], ["100"])


def test_one_list_serves_many_patients_and_forgets_within_seconds(
    odd: OddServer, cliniko: Cliniko, cache: DictCache
) -> None:
    odd.answers[RECENT] = page(*(record(number) for number in range(60)))
    for number in range(60):
        assert found_of(cliniko, registered_job(str(number), patient_id=f"p{number}")) == (
            str(number),
            Stage.DELIVERED,
        )
    assert odd.paths() == [RECENT]
    assert max(cache.seconds) <= 2
    assert not any("description" in value for value in cache.values.values()), "nothing that names a patient is kept"


def test_a_record_that_is_not_in_that_list_is_read_on_its_own(odd: OddServer, cliniko: Cliniko) -> None:
    odd.answers[RECENT] = page(record(1))
    odd.answers["GET /v1/patient_attachments/7"] = Reply(body=pending(7))
    assert found_of(cliniko, registered_job("7")) == ("7", Stage.REGISTERED)
    assert found_of(cliniko, registered_job("8")) is None
    assert odd.requests[-1].query["q[]"] == ["archived_at:*"], "archived is there all the same"


def test_several_of_a_patient_that_are_not_in_that_list_are_read_in_one_of_theirs(
    odd: OddServer, cliniko: Cliniko
) -> None:
    odd.answers[RECENT] = page()
    odd.answers[OF_PATIENT] = page(*(record(number) for number in range(30)))
    jobs = [registered_job(str(number)) for number in range(30)]
    assert len(cliniko.find(jobs, NO_OWNERS)) == 30
    assert odd.paths() == [RECENT, OF_PATIENT]


def test_the_list_is_read_only_as_far_as_records_are_missing(odd: OddServer, cliniko: Cliniko) -> None:
    def pages(request: Request) -> Reply:
        number = int(request.query["page"][0])
        query = f"q%5B%5D=updated_at%3A%3E%3D2026-11-21T09%3A00%3A00Z&page={number + 1}"
        return page(record(number), total_entries=1000, links={"next": f"{odd.base}/v1/patient_attachments?{query}"})

    odd.answers[RECENT] = pages
    assert found_of(cliniko, registered_job("2")) == ("2", Stage.DELIVERED)
    assert odd.paths() == [RECENT] * 2
    assert all(request.query["q[]"] for request in odd.requests)


def test_a_link_that_leads_elsewhere_is_not_followed(odd: OddServer, cliniko: Cliniko) -> None:
    with OddServer() as elsewhere:
        leads = [f"{elsewhere.base}/v1/patient_attachments?page=2", f"{odd.base}/v1/patients?page=2", "::", 5]
        for lead in leads:
            asked = registered_job("9", patient_id=f"p{leads.index(lead)}")
            odd.requests.clear()
            cliniko._cache = DictCache()
            odd.answers[RECENT] = page(record(1), total_entries=2, links={"next": lead})
            odd.answers["GET /v1/patient_attachments/9"] = Reply(body=record(9))
            assert found_of(cliniko, asked) == ("9", Stage.DELIVERED)
            assert set(odd.paths()) == {RECENT, "GET /v1/patient_attachments/9"}
            assert all("q[]" in request.query for request in odd.requests), "its query is of another list"
        assert elsewhere.requests == []


def test_a_lost_registering_is_found_by_our_token_processed_or_not(odd: OddServer, cliniko: Cliniko) -> None:
    asked, other = lost_job(), lost_job()
    odd.answers[OF_PATIENT] = page(record(1), record(2, bears=other), pending(3, bears=asked))
    assert found_of(cliniko, asked) == ("3", Stage.REGISTERED)
    odd.answers[OF_PATIENT] = page(record(3, bears=asked, description=f"Renamed by a person ({token(asked)}) today"))
    assert found_of(cliniko, asked) == ("3", Stage.DELIVERED)
    odd.answers[OF_PATIENT] = page(record(1), record(4, description=None), record(5, description=7))
    assert found_of(cliniko, asked) is None


def test_a_search_goes_back_before_the_job_was_opened_since_clocks_differ(odd: OddServer, cliniko: Cliniko) -> None:
    odd.answers[OF_PATIENT] = page()
    opened = cliniko.before_sending(job())
    assert cliniko.before_sending(replace(job(), facts=opened)) == opened, "the first sending counts"
    cliniko.find([lost_job()], NO_OWNERS)
    assert odd.requests[-1].query["q[]"] == ["created_at:>=2026-11-20T10:00:00Z", "archived_at:*"]
    cliniko.find([stored_job()], NO_OWNERS)
    assert odd.requests[-1].query["q[]"] == ["archived_at:*"], "all of it where nobody knows since when"


@pytest.mark.parametrize("has_called", [True, False])
def test_a_search_goes_back_before_the_first_sending_even_if_redis_clock_was_a_year_ahead(
    odd: OddServer, cliniko: Cliniko, has_called: bool
) -> None:
    odd.answers[OF_PATIENT] = page()
    odd.answers[RECENT] = page()
    if has_called:
        cliniko.probe()
    now = datetime.now(UTC)
    opened = replace(job(), created_at=now + timedelta(days=365))
    cliniko.find([replace(lost_job(), facts=cliniko.before_sending(opened))], NO_OWNERS)
    asked = odd.requests[-1].query["q[]"][0].removeprefix("created_at:>=")
    gone_back = now - datetime.fromisoformat(asked)
    assert timedelta(days=1 if has_called else 2) <= gone_back + timedelta(minutes=1) <= timedelta(days=2, minutes=2)


@pytest.mark.parametrize("ahead", [0, 7200, -7200])
def test_the_latest_changes_are_asked_for_by_clinikos_clock(
    odd: OddServer, clients: Clients, cache: DictCache, slots: Slots, ahead: float
) -> None:
    """By a clock that is ahead the list would be empty, and each record be asked for on its own."""
    account = ClinikoAccount.model_validate(
        {"provider": "cliniko", "base_url": f"{odd.base}/v1", "api_key": KEY, "contact": CONTACT, "insecure": True}
    )
    cliniko = Cliniko("clinic", account, connected(clients, slots, cache, clock=clock_ahead(ahead)))
    odd.answers[RECENT] = page(record(1))
    cliniko.probe()
    assert found_of(cliniko, registered_job("1")) == ("1", Stage.DELIVERED)
    asked = odd.requests[-1].query["q[]"][0].removeprefix("updated_at:>=")
    gone_back = datetime.now(UTC) - datetime.fromisoformat(asked)
    assert abs(gone_back - timedelta(hours=1)) < timedelta(minutes=2)


def test_of_several_records_of_one_document_a_processed_one_counts_and_a_person_is_told(
    odd: OddServer, cliniko: Cliniko
) -> None:
    asked = lost_job()
    odd.answers[OF_PATIENT] = page(pending(3, bears=asked), record(2, bears=asked))
    found = cliniko.find([asked], NO_OWNERS)[asked.id]
    assert found.record.id == "2"
    assert any("2 records" in remark for remark in found.remarks)
    owners = cliniko.find([asked], {"2": "another-job"})[asked.id]
    assert (owners.record.id, owners.remarks) == ("3", ())


def test_a_list_that_lacks_some_is_no_proof_that_nothing_was_registered(odd: OddServer, cliniko: Cliniko) -> None:
    odd.answers[OF_PATIENT] = page(record(1), total_entries=2)
    assert cliniko.find([lost_job()], NO_OWNERS) == {}, "a search that another one follows"
    with pytest.raises(RetryLater, match="does not add up"):
        cliniko.find([lost_job()], NO_OWNERS, thorough=True)


def test_a_patient_who_is_gone_by_now_leaves_the_answer_to_the_deadline(odd: OddServer, cliniko: Cliniko) -> None:
    assert cliniko.find([lost_job()], NO_OWNERS) == {}
    assert cliniko.find([], NO_OWNERS) == {}


@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_a_search_that_failed_is_not_a_search(odd: OddServer, cliniko: Cliniko, status: int) -> None:
    odd.otherwise = Reply(status)
    for asked in (lost_job(), registered_job("7")):
        with pytest.raises(RetryLater):
            cliniko.find([asked], NO_OWNERS)


# --- what was made of it ---------------------------------------------------------------------------------------------


def made_of_it(odd: OddServer, cliniko: Cliniko, **change: Any) -> tuple[tuple[str, ...], DocumentRefused | None]:
    odd.answers[RECENT] = page(record(7, **change))
    asked = registered_job("7")
    found = cliniko.find([asked], NO_OWNERS)[asked.id]
    return found.remarks, found.fault


@pytest.mark.parametrize("size", [10, "10"])
def test_a_record_of_the_right_size_and_name_needs_no_remark(odd: OddServer, cliniko: Cliniko, size: object) -> None:
    assert made_of_it(odd, cliniko, size=size) == ((), None)


def test_what_is_not_processed_yet_is_not_judged(odd: OddServer, cliniko: Cliniko) -> None:
    assert made_of_it(odd, cliniko, size=9, processing_completed=False) == ((), None)


@pytest.mark.parametrize("size", [0, 9, 11, "11"])
def test_a_record_of_another_size_is_a_fault(odd: OddServer, cliniko: Cliniko, size: object) -> None:
    _, fault = made_of_it(odd, cliniko, size=size)
    assert fault is not None
    assert fault.code is Code.REFUSED_BY_PROVIDER
    assert fault.hint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"content_type": "invalid/invalid"}, "invalid/invalid"),
        ({"filename": "referral (1).pdf"}, "another file name"),
        ({"size": None}, "how large"),
    ],
)
def test_what_a_person_should_check_is_a_remark(
    odd: OddServer, cliniko: Cliniko, change: dict[str, Any], says: str
) -> None:
    (remark,), fault = made_of_it(odd, cliniko, **change)
    assert says in remark
    assert fault is None
    assert "referral" not in remark


# --- records that stand, for duplicates and people -------------------------------------------------------------------


def test_an_archived_or_unknown_record_does_not_stand(odd: OddServer, cliniko: Cliniko) -> None:
    place, document = "GET /v1/patient_attachments/7", job().document
    odd.answers[place] = Reply(body=record(7))
    assert cliniko.still_there(document, Record("7"))
    assert "q[]" not in odd.requests[-1].query
    odd.answers[place] = Reply(body=record(7, archived_at="2026-11-21T10:00:00Z"))
    assert not cliniko.still_there(document, Record("7"))
    assert not cliniko.still_there(document, Record("8"))


def test_a_record_is_archived_by_the_call_that_is_not_deprecated(odd: OddServer, cliniko: Cliniko) -> None:
    odd.answers["POST /v1/patient_attachments/7/archive"] = Reply(204)
    cliniko.archive("7")
    with pytest.raises(DocumentRefused):
        cliniko.archive("8")
    with pytest.raises(DocumentRefused):
        cliniko.record("8")


def test_archiving_a_record_that_is_archived_already_is_no_error(odd: OddServer, cliniko: Cliniko) -> None:
    odd.answers["POST /v1/patient_attachments/7/archive"] = Reply(404)
    odd.answers["GET /v1/patient_attachments/7"] = Reply(body=record(7, archived_at="2026-11-21T10:00:00Z"))
    cliniko.archive("7")
    assert odd.requests[-1].query["q[]"] == ["archived_at:*"]


# --- whatever it answers ---------------------------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("id", "processing_completed", "filename", "size", "content_type", "description", "links", "archived_at")
RECORDS = st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=8) | ANYTHING
PAGES = st.fixed_dictionaries(
    {"patient_attachments": st.lists(RECORDS, max_size=3)},
    optional={"total_entries": ANYTHING, "links": st.dictionaries(st.just("next"), ANYTHING) | ANYTHING},
)
FORMS = st.fixed_dictionaries({}, optional={"url": ANYTHING, "fields": ANYTHING})
REFUSALS = st.fixed_dictionaries({}, optional={"message": ANYTHING, "errors": ANYTHING})
BODIES = ANYTHING | RECORDS | PAGES | FORMS | REFUSALS


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(BODIES, st.sampled_from([200, 201, 400, 404, 422, 429, 500]), st.sampled_from([None, "7", "x/y", "::"]))
def test_no_answer_leads_to_anything_but_our_own_errors(
    odd: OddServer, cliniko: Cliniko, body: object, status: int, location: str | None
) -> None:
    cliniko._cache = DictCache()
    headers = {"Location": f"{odd.base}/v1/patient_attachments/{location}"} if location else {}
    odd.otherwise = Reply(status, json.dumps(body), headers)
    by_people: Sequence[Callable[[], object]] = (
        lambda: list(cliniko.records(RecordQuery("4711", wait=no_wait))),
        lambda: list(cliniko.records(RecordQuery(filters=("archived_at:*",), page=2, wait=no_wait))),
        lambda: cliniko.download("7", bytes, most_bytes=10),
        lambda: cliniko.record("7"),
        lambda: cliniko.still_there(job().document, Record("7")),
    )
    for act in (*every_call(cliniko), *by_people):
        with suppress(StepError):
            act()


@given(st.binary(max_size=60))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_bytes_lead_to_anything_but_our_own_errors(odd: OddServer, cliniko: Cliniko, body: bytes) -> None:
    cliniko._cache = DictCache()
    odd.otherwise = Reply(200, body.decode("latin-1"))
    for act in every_call(cliniko)[:4]:
        with pytest.raises(StepError):
            act()


# --- at the sandbox --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_sandbox() -> Iterator[SandboxProcess]:
    """A sandbox of our own: so many calls would use up the minute's allowance of others' tests."""
    with SandboxProcess("--providers", "cliniko", validation_seconds=0.1) as process:
        yield process
        assert process.leaks() == []


@pytest.fixture
def at_work(own_sandbox: SandboxProcess, clients: Clients, tmp_path: Path) -> AtWork:
    own_sandbox.world(reset=True)
    own_sandbox.world(throttle={"cliniko": {"per_minute": 100_000}})
    return AtWork(own_sandbox, clients, tmp_path, "cliniko_clinic")


def test_a_registering_that_is_answered_with_a_502_is_never_repeated_without_a_search(at_work: AtWork) -> None:
    for word, made_one in (("DOWNCOMMIT", False), ("LOSTCOMMIT", True)):
        asked = at_work.ready(at_work.named(word))
        with pytest.raises(OutcomeUnknown):
            at_work.registered(asked)
        assert (at_work.found(asked) is not None) is made_one
        after = asked if made_one else at_work.registered(asked)
        at_work.record_of(after)
        assert len(at_work.chart(asked)) == 1


def test_a_second_registering_after_the_first_has_taken_the_upload_finds_its_record(at_work: AtWork) -> None:
    asked = at_work.ready(at_work.named("LOSTCOMMIT"))
    with pytest.raises(OutcomeUnknown):
        at_work.registered(asked)
    (charted,) = eventually(lambda: at_work.chart(asked))
    again = at_work.registered(asked)
    assert again.facts.record is not None
    assert (again.facts.record.id, again.stage) == (charted["record_id"], Stage.DELIVERED)
    assert len(at_work.chart(asked)) == 1


def test_a_type_that_cliniko_could_not_tell_is_a_remark(at_work: AtWork) -> None:
    asked = at_work.sent(at_work.named("BADTYPE"))
    at_work.record_of(asked)
    found = at_work.found(asked)
    assert found is not None
    assert len(found.remarks) == 1


@pytest.mark.parametrize("as_numbers", [False, True])
def test_ids_of_either_kind_do(at_work: AtWork, as_numbers: bool) -> None:
    at_work.sandbox.world(cliniko_ids_as_numbers=as_numbers, throttle={"cliniko": {"per_minute": 100_000}})
    asked = at_work.sent(at_work.job())
    assert at_work.record_of(asked).id == at_work.chart(asked)[0]["record_id"]


def test_what_a_person_archived_meanwhile_is_found_and_does_not_stand(at_work: AtWork) -> None:
    asked = at_work.sent(at_work.named("SLOW-0.3"))
    assert asked.facts.record is not None
    provider = at_work.provider
    assert isinstance(provider, Cliniko)
    provider.archive(asked.facts.record.id)
    assert at_work.record_of(asked) == asked.facts.record
    assert not provider.still_there(asked.document, asked.facts.record)
    assert list(provider.records(RecordQuery(asked.document.patient_id))) == []
    assert provider.record(asked.facts.record.id).processed


def test_sixty_documents_of_sixty_patients_cost_three_calls_each_and_few_lists(at_work: AtWork) -> None:
    jobs = [at_work.sent(at_work.job()) for _ in range(60)]
    assert at_work.slots.calls == 60 * 3
    eventually(lambda: all(at_work.chart(asked) for asked in jobs))
    at_work.cache.clock = lambda: 0.0  # a list that was read is good for two seconds, which these calls may exceed
    assert all(at_work.provider.find([asked], NO_OWNERS)[asked.id].stage is Stage.DELIVERED for asked in jobs)
    assert at_work.slots.calls <= 60 * 3 + 3
