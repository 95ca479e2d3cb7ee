"""Cliniko's API as its pages describe it."""

import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote_plus

import httpx
import pytest

from tests.harness.sandbox import SandboxProcess
from tests.sandbox.providers.cliniko_clinic import JSON, ClinikoClinic, as_json, post_response, reset_at
from tests.sandbox.providers.pracsuite_clinic import eventually
from tests.sandbox.s3.engine_view import stored

BUCKET = "cliniko-files-region1"
CONTENT = b"a clinical document, " * 20_000
FIELDS_ON_THE_VENDORS_PAGE = {
    "key",
    "policy",
    "x-amz-credential",
    "x-amz-signature",
    "x-amz-algorithm",
    "x-amz-date",
    "success_action_status",
    "acl",
}
TEMP_URL_IS_INVALID = {"message": "Validation Failed", "errors": {"temp_attachment_url": "is invalid"}}


@pytest.fixture(scope="module")
def cliniko() -> Iterator[ClinikoClinic]:
    process = SandboxProcess("--providers", "cliniko", validation_seconds=0.1)
    process.world(throttle={"cliniko": {"per_minute": 100_000}})
    yield ClinikoClinic(process)
    log = process.log()
    assert process.stop() == 0
    assert "Traceback" not in log, log


@pytest.fixture
def changed(cliniko: ClinikoClinic) -> Iterator[SandboxProcess]:
    """A sandbox whose behaviour a test changes; it is reset afterwards, with a throttle that no test reaches."""
    yield cliniko.sandbox
    cliniko.sandbox.world(reset=True)
    cliniko.sandbox.world(throttle={"cliniko": {"per_minute": 100_000}})


def test_the_settings_have_an_account_of_a_clinic_with_a_contact(cliniko: ClinikoClinic) -> None:
    assert set(cliniko.sandbox.settings["accounts"]) == {"cliniko_clinic"}
    account = cliniko.sandbox.settings["accounts"]["cliniko_clinic"]
    assert account["provider"] == "cliniko"
    assert account["base_url"] == f"{cliniko.sandbox.base}/cliniko/v1"
    assert account["api_key"].endswith("-au1")


def test_a_form_has_the_fields_of_the_vendors_page(cliniko: ClinikoClinic) -> None:
    form = cliniko.form("456")
    assert set(form["fields"]) == FIELDS_ON_THE_VENDORS_PAGE
    assert form["fields"]["key"].startswith("123/patients/456/attachments/temp/")
    assert form["fields"]["key"].endswith("/${filename}")
    assert form["fields"]["success_action_status"] == "201"
    assert form["fields"]["acl"] == "private"


@pytest.mark.parametrize("name", ["referral.pdf", "Brian Justice.pdf", "Überweisung + Bild.pdf"])
def test_storage_answers_with_a_raw_key_and_an_encoded_location(cliniko: ClinikoClinic, name: str) -> None:
    form = cliniko.form("stored")
    answer = cliniko.post(form, name, CONTENT)
    result = post_response(answer)
    assert answer.status_code == 201
    assert result["Key"] == form["fields"]["key"].replace("${filename}", name)
    assert result["Location"] == form["url"] + quote_plus(result["Key"])
    assert "%2F" in result["Location"]
    assert result["Bucket"] == BUCKET
    assert result["ETag"] == answer.headers["ETag"] == f'"{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"'


@pytest.mark.parametrize("field", ["key", "acl", "success_action_status", "x-amz-signature"])
def test_a_tampered_form_is_refused(cliniko: ClinikoClinic, field: str) -> None:
    form = cliniko.form("tampered")
    form["fields"][field] = "201/else"
    assert cliniko.post(form, "a.pdf", CONTENT).status_code == 403


def test_a_registered_document_is_processed_and_reaches_the_chart(cliniko: ClinikoClinic) -> None:
    upload_url = cliniko.upload("4711", "SLOW-0.5.pdf", CONTENT)
    answer = cliniko.ask_to_register("4711", upload_url, "from Dr. Zoë")
    first = as_json(answer, 201)
    assert first["processing_completed"] is False
    assert [first[name] for name in ("filename", "size", "content_type", "processed_at")] == [None] * 4
    assert answer.headers["Location"] == first["links"]["self"]
    assert cliniko.charts("4711") == []
    last = cliniko.processed(first["id"])
    assert (last["filename"], last["size"]) == ("SLOW-0.5.pdf", len(CONTENT))
    assert last["content_type"] == "application/pdf"
    assert last["description"] == "from Dr. Zoë"
    assert last["processed_at"] >= last["created_at"]
    (record,) = cliniko.charts("4711")
    assert (record["record_id"], record["file_name"]) == (first["id"], "SLOW-0.5.pdf")
    assert (record["size_bytes"], record["sha256"]) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def test_processing_takes_the_upload_from_its_temporary_place(changed: SandboxProcess, cliniko: ClinikoClinic) -> None:
    changed.world(hold_validation="taken.pdf")
    upload_url = cliniko.upload("taken", "taken.pdf", CONTENT)
    key = upload_url.partition(f"/{BUCKET}/")[2]
    first = as_json(cliniko.ask_to_register("taken", upload_url), 201)
    assert stored(cliniko.sandbox, key, BUCKET) == [key]
    changed.world(hold_validation=None)
    cliniko.processed(first["id"])
    assert stored(cliniko.sandbox, key, BUCKET) == []
    assert as_json(cliniko.ask_to_register("taken", upload_url), 422) == TEMP_URL_IS_INVALID


def test_registering_twice_before_processing_makes_two_records(changed: SandboxProcess, cliniko: ClinikoClinic) -> None:
    changed.world(hold_validation="twice.pdf", validation_seconds=0)
    upload_url = cliniko.upload("twice", "twice.pdf", CONTENT)
    first = as_json(cliniko.ask_to_register("twice", upload_url), 201)
    changed.world(validation_seconds=1)  # so that the first is complete long before the second
    second = as_json(cliniko.ask_to_register("twice", upload_url), 201)
    changed.world(hold_validation=None)
    assert cliniko.processed(first["id"])["id"] != cliniko.processed(second["id"])["id"]
    assert len(cliniko.charts("twice")) == 2


def test_only_the_address_of_a_stored_upload_can_be_registered(cliniko: ClinikoClinic) -> None:
    form = cliniko.form("wrong-url")
    unused = form["url"] + form["fields"]["key"].replace("${filename}", "a.pdf")
    result = post_response(cliniko.post(form, "b.pdf", CONTENT))
    elsewhere = f"https://files.example/{result['Key']}"
    for wrong in (unused, result["Location"], result["Key"], elsewhere, form["url"], "", None):
        assert as_json(cliniko.ask_to_register("wrong-url", wrong), 422) == TEMP_URL_IS_INVALID
    assert cliniko.list_("wrong-url")["total_entries"] == 0


def test_a_description_has_255_characters_at_most(cliniko: ClinikoClinic) -> None:
    upload_url = cliniko.upload("described", "a.pdf", CONTENT)
    refused = as_json(cliniko.ask_to_register("described", upload_url, "ü" * 256), 422)
    assert set(refused["errors"]) == {"description"}
    assert cliniko.ask_to_register("described", upload_url, "ü" * 255).status_code == 201


def test_a_record_for_no_patient_or_an_unknown_one_is_refused(cliniko: ClinikoClinic) -> None:
    upload_url = cliniko.upload("somebody", "a.pdf", CONTENT)
    for patient_id in (None, "", True, "404-a"):
        body = {"patient_id": patient_id, "upload_url": upload_url}
        assert set(as_json(cliniko.api.post("/patient_attachments", json=body), 422)["errors"]) == {"patient"}
    assert cliniko.api.post("/patient_attachments", content=b"not json").status_code == 400


def test_an_invalid_document_is_never_completed(cliniko: ClinikoClinic) -> None:
    first = cliniko.send("invalid", "INVALID.pdf", CONTENT)
    witness = cliniko.send("invalid", "later.pdf", CONTENT)
    cliniko.processed(witness["id"])
    record = cliniko.record(first["id"])
    assert (record["processing_completed"], record["filename"], record["processed_at"]) == (False, None, None)
    assert [record["file_name"] for record in cliniko.charts("invalid")] == ["later.pdf"]


def test_slow_processing_takes_the_seconds_in_the_name(cliniko: ClinikoClinic) -> None:
    began = time.monotonic()
    first = cliniko.send("slow", "SLOW-0.6.pdf", CONTENT)
    cliniko.processed(first["id"])
    assert time.monotonic() - began >= 0.6


def test_a_type_that_is_not_recognised_is_called_invalid(cliniko: ClinikoClinic) -> None:
    record = cliniko.processed(cliniko.send("typed", "BADTYPE.pdf", CONTENT)["id"])
    assert (record["content_type"], record["size"]) == ("invalid/invalid", len(CONTENT))


def test_a_lost_commit_makes_the_record_and_loses_the_answer_once(cliniko: ClinikoClinic) -> None:
    upload_url = cliniko.upload("lost-commit", "LOSTCOMMIT.pdf", CONTENT)
    with pytest.raises(httpx.TransportError):
        cliniko.ask_to_register("lost-commit", upload_url, "token-17")
    assert cliniko.filtered("lost-commit", "description:~token-17") == ["token-17"]
    eventually(lambda: cliniko.charts("lost-commit"))
    assert as_json(cliniko.ask_to_register("lost-commit", upload_url), 422) == TEMP_URL_IS_INVALID


def test_a_commit_that_is_down_makes_no_record_and_works_the_second_time(cliniko: ClinikoClinic) -> None:
    upload_url = cliniko.upload("down-commit", "DOWNCOMMIT.pdf", CONTENT)
    assert cliniko.ask_to_register("down-commit", upload_url).status_code == 502
    assert cliniko.list_("down-commit")["total_entries"] == 0
    assert cliniko.ask_to_register("down-commit", upload_url).status_code == 201


def test_a_lost_answer_of_storage_leaves_the_upload_stored(cliniko: ClinikoClinic) -> None:
    form = cliniko.form("lost")
    with pytest.raises(httpx.TransportError):
        cliniko.post(form, "LOST.pdf", CONTENT)
    upload_url = form["url"] + form["fields"]["key"].replace("${filename}", "LOST.pdf")
    assert cliniko.ask_to_register("lost", upload_url).status_code == 201
    assert cliniko.post(form, "LOST.pdf", CONTENT).status_code == 201


def test_words_in_the_uploads_name_act_on_storage(cliniko: ClinikoClinic) -> None:
    form = cliniko.form("words")
    statuses = [cliniko.post(form, "BUSY-1 EXPIRED.pdf", CONTENT).status_code for _ in range(3)]
    assert sorted(statuses) == [201, 403, 503]
    with pytest.raises(httpx.TransportError):
        cliniko.post(form, "CUT.pdf", CONTENT)
    assert cliniko.post(form, "CUT.pdf", CONTENT).status_code == 201


def test_an_expired_upload_says_so(cliniko: ClinikoClinic) -> None:
    answer = cliniko.post(cliniko.form("expired"), "EXPIRED.pdf", CONTENT)
    assert "Invalid according to Policy: Policy expired." in answer.text
    assert cliniko.post(cliniko.form("expired"), "EXPIRED.pdf", CONTENT).status_code == 201


def test_the_content_is_in_storage_which_refuses_a_key(cliniko: ClinikoClinic) -> None:
    first = cliniko.send("content", "a b.pdf", CONTENT)
    address = cliniko.processed(first["id"])["content"]["links"]["self"]
    redirect = cliniko.api.get(address)
    assert redirect.status_code == 302
    before = len(cliniko.sandbox.leaks())
    assert cliniko.storage.get(redirect.headers["Location"]).content == CONTENT
    assert cliniko.storage.get(redirect.headers["Location"], auth=cliniko.auth).status_code == 400
    assert [leak["header"] for leak in cliniko.sandbox.leaks()[before:]] == ["Authorization"]


def test_there_is_no_content_before_processing(changed: SandboxProcess, cliniko: ClinikoClinic) -> None:
    changed.world(validation_seconds=60)
    first = cliniko.send("no-content", "a.pdf", CONTENT)
    assert cliniko.api.get(first["content"]["links"]["self"]).status_code == 404


def test_a_key_is_good_with_its_shard_and_without(cliniko: ClinikoClinic) -> None:
    for auth in (cliniko.auth, (cliniko.api_key.removesuffix("-au1"), "")):
        assert cliniko.api.get("/patient_attachments", auth=auth).status_code == 200


@pytest.mark.parametrize("auth", [("wrong-au1", ""), ("", ""), ("", "KEY"), ("KEY", "password")])
def test_anything_but_the_key_as_user_is_refused(cliniko: ClinikoClinic, auth: tuple[str, str]) -> None:
    user, password = (each.replace("KEY", cliniko.api_key) for each in auth)
    assert cliniko.api.get("/patient_attachments", auth=(user, password)).status_code == 401


def test_without_a_key_or_with_a_bearer_it_is_refused(cliniko: ClinikoClinic) -> None:
    address = str(cliniko.api.base_url) + "patient_attachments"
    for header in ({}, {"Authorization": f"Bearer {cliniko.api_key}"}, {"Authorization": "Basic ?"}):
        answer = httpx.get(address, headers=cliniko.user_agent | header, trust_env=False, timeout=60)
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "user_agent", ["", "python-httpx/0.28.1", "vendor mail@vendor.example", "(mail@vendor.example)"]
)
def test_a_caller_without_a_name_and_a_contact_is_blocked(cliniko: ClinikoClinic, user_agent: str) -> None:
    assert cliniko.api.get("/patient_attachments", headers={"User-Agent": user_agent}).status_code == 403


def test_a_key_has_200_calls_a_minute_and_is_told_when_to_come_back() -> None:
    with SandboxProcess("--providers", "cliniko") as fresh:
        clinic, began = ClinikoClinic(fresh), time.time()
        answers = [clinic.api.get("/patient_attachments") for _ in range(201)]
        ended = time.time()
        assert {answer.status_code for answer in answers[:200]} == {200}
        assert answers[200].status_code == 429
        assert began + 60 <= reset_at(answers[200]) < ended + 62, "a minute after the first"
        assert "Retry-After" not in answers[200].headers


def test_the_limit_can_be_changed(changed: SandboxProcess, cliniko: ClinikoClinic) -> None:
    changed.world(throttle={"cliniko": {"per_minute": 0}})
    assert cliniko.api.get("/patient_attachments").status_code == 429
    changed.world(throttle={"cliniko": {"per_minute": 100_000}})
    assert cliniko.api.get("/patient_attachments").status_code == 200


@pytest.mark.parametrize(("patient_id", "status"), [("404-a", 404), ("401-a", 401)])
def test_a_patient_may_be_unknown_or_refused(cliniko: ClinikoClinic, patient_id: str, status: int) -> None:
    assert cliniko.ask_for_form(patient_id).status_code == status
    assert cliniko.api.get(f"/patients/{patient_id}/patient_attachments").status_code == status


@pytest.mark.parametrize(("patient_id", "status"), [("429-a", 429), ("500-a", 500)])
def test_a_troubled_patient_is_served_at_the_third_call(cliniko: ClinikoClinic, patient_id: str, status: int) -> None:
    began = time.time()
    answers = [cliniko.ask_for_form(patient_id) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 200]
    if status == 429:
        assert began < reset_at(answers[0]) < time.time() + 2


def test_a_revoked_key_is_refused_until_it_is_restored(changed: SandboxProcess, cliniko: ClinikoClinic) -> None:
    changed.world(revoke=[cliniko.api_key])
    assert cliniko.ask_for_form("1").status_code == 401
    changed.world(restore=[cliniko.api_key])
    assert cliniko.ask_for_form("1").status_code == 200


def test_a_provider_that_is_down_says_so(changed: SandboxProcess, cliniko: ClinikoClinic) -> None:
    changed.world(down={"cliniko": "503"})
    assert cliniko.ask_for_form("1").status_code == 503
    changed.world(down={"cliniko": "reset"})
    with pytest.raises(httpx.TransportError):
        cliniko.ask_for_form("1")
    changed.world(down={"cliniko": None})
    assert cliniko.ask_for_form("1").status_code == 200


def test_an_unknown_address_or_record_is_not_found(cliniko: ClinikoClinic) -> None:
    for path in ("/patient_attachments/1", "/patient_attachments/1/content", "/anything"):
        assert "message" in as_json(cliniko.api.get(path), 404)


@pytest.fixture(scope="module")
def listed(cliniko: ClinikoClinic) -> list[JSON]:
    """Three processed records of the patient `listed`: small.txt, BADTYPE.pdf, INVALID.pdf (never complete)."""
    names = {"small.txt": b"a", "BADTYPE.pdf": CONTENT, "INVALID.pdf": b"a"}
    sent = [cliniko.send("listed", name, content, f"the {name}") for name, content in names.items()]
    cliniko.send("other", "small.txt", b"b", "another patient's")
    return [cliniko.processed(each["id"]) for each in sent[:2]] + sent[2:]


def test_a_list_has_records_total_and_only_the_links_that_make_sense(
    cliniko: ClinikoClinic, listed: list[JSON]
) -> None:
    pages = [cliniko.list_("listed", per_page=1)]
    while "next" in pages[-1]["links"]:
        pages.append(as_json(cliniko.api.get(pages[-1]["links"]["next"]), 200))
    assert [each["id"] for page in pages for each in page["patient_attachments"]] == [each["id"] for each in listed]
    assert {page["total_entries"] for page in pages} == {3}
    assert [sorted(page["links"]) for page in pages] == [
        ["next", "self"],
        ["next", "previous", "self"],
        ["previous", "self"],
    ]


def test_a_link_keeps_filters_and_order(cliniko: ClinikoClinic, listed: list[JSON]) -> None:
    query = {"per_page": 1, "sort": "created_at:desc", "q[]": ["size:?", "description:~the"]}
    first = cliniko.list_("listed", **query)
    second = as_json(cliniko.api.get(first["links"]["next"]), 200)
    assert [page["patient_attachments"][0]["id"] for page in (first, second)] == [listed[1]["id"], listed[0]["id"]]
    assert (second["total_entries"], "next" in second["links"]) == (2, False)


def test_the_list_of_all_patients_can_be_narrowed_to_some(cliniko: ClinikoClinic, listed: list[JSON]) -> None:
    def descriptions(test: str) -> set[str]:
        answer = as_json(cliniko.api.get("/patient_attachments", params={"q[]": test, "per_page": 100}), 200)
        return {each["description"] for each in answer["patient_attachments"]}

    assert descriptions("patient_id:=listed") == {each["description"] for each in listed}
    assert descriptions("patient_id:=listed,other") == {*descriptions("patient_id:=listed"), "another patient's"}
    assert descriptions(f"id:={listed[0]['id']},{listed[2]['id']}") == {"the small.txt", "the INVALID.pdf"}


SMALL, BAD, OPEN = "the small.txt", "the BADTYPE.pdf", "the INVALID.pdf"


@pytest.mark.parametrize(
    ("filters", "passing"),
    [
        (["description:~BADTYPE"], [BAD]),
        (["description:=the small.txt"], [SMALL]),
        (["description:!=the small.txt"], [BAD, OPEN]),
        (["description:~~the %.pdf"], [BAD, OPEN]),
        (["processed_at:?"], [SMALL, BAD]),
        (["processed_at:!?"], [OPEN]),
        (["filename:=small.txt"], [SMALL]),
        (["content_type:=invalid/invalid"], [BAD]),
        (["size:=1"], [SMALL]),
        (["size:!=1"], [BAD]),
        (["size:>1"], [BAD]),
        (["size:>=1"], [SMALL, BAD]),
        (["size:<1"], []),
        (["size:<=1"], [SMALL]),
        (["user_id:=1", "description:~pdf"], [BAD, OPEN]),
        (["created_at:>=2020-01-01T00:00:00Z"], [SMALL, BAD, OPEN]),
        (["created_at:<2020-01-01T00:00:00Z"], []),
    ],
)
def test_a_list_can_be_filtered(
    cliniko: ClinikoClinic, listed: list[JSON], filters: list[str], passing: list[str]
) -> None:
    assert cliniko.filtered("listed", *filters) == passing


def test_records_can_be_asked_for_by_their_age(cliniko: ClinikoClinic) -> None:
    cliniko.send("ages", "a.pdf", CONTENT, "older")
    time.sleep(0.05)
    between = datetime.now(UTC)
    cliniko.send("ages", "b.pdf", CONTENT, "younger")
    as_text = between.isoformat().replace("+00:00", "Z")
    assert cliniko.filtered("ages", f"created_at:>={as_text}") == ["younger"]
    assert cliniko.filtered("ages", f"created_at:<{as_text}") == ["older"]
    later = (between + timedelta(minutes=1)).isoformat().replace("+00:00", "Z")
    assert cliniko.filtered("ages", f"updated_at:>={later}") == []


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ({}, [SMALL, BAD, OPEN]),
        ({"sort": "created_at:desc"}, [OPEN, BAD, SMALL]),
        ({"sort": "created_at", "order": "desc"}, [OPEN, BAD, SMALL]),
        ({"sort": "description"}, [BAD, OPEN, SMALL]),
        ({"sort": "user_id,size"}, [SMALL, BAD, OPEN]),
    ],
)
def test_a_list_can_be_sorted(
    cliniko: ClinikoClinic, listed: list[JSON], query: dict[str, str], order: list[str]
) -> None:
    shown = cliniko.list_("listed", **query)["patient_attachments"]
    assert [each["description"] for each in shown] == order


def test_the_first_of_several_columns_counts_most(cliniko: ClinikoClinic, listed: list[JSON]) -> None:
    query = {"q[]": "patient_id:=listed,other", "sort": "patient_id:desc,size:desc"}
    shown = as_json(cliniko.api.get("/patient_attachments", params=query), 200)["patient_attachments"]
    assert [each["description"] for each in shown] == ["another patient's", OPEN, BAD, SMALL]


@pytest.mark.parametrize(
    "query",
    [
        {"q[]": "processing_completed:=true"},
        {"q[]": "patient_id:=1"},
        {"q[]": "size:~1"},
        {"q[]": "created_at:=2020-01-01T00:00:00Z"},
        {"q[]": "created_at:>yesterday"},
        {"q[]": "created_at:>2020-01-01T00:00:00+10:00"},
        {"sort": "colour"},
        {"sort": "created_at:down"},
        {"per_page": 101},
        {"per_page": 0},
        {"page": "first"},
    ],
)
def test_a_query_that_the_vendors_page_does_not_have_is_refused(cliniko: ClinikoClinic, query: dict[str, str]) -> None:
    assert cliniko.api.get("/patients/1/patient_attachments", params=query).status_code == 400


def test_a_patients_list_has_that_patients_records_only(cliniko: ClinikoClinic, listed: list[JSON]) -> None:
    assert cliniko.list_("listed")["total_entries"] == 3
    assert cliniko.list_("unused")["total_entries"] == 0


def test_the_list_of_a_case_is_empty(cliniko: ClinikoClinic, listed: list[JSON]) -> None:
    answer = as_json(cliniko.api.get("/patient_cases/1/patient_attachments"), 200)
    assert (answer["patient_attachments"], answer["total_entries"]) == ([], 0)


@pytest.mark.parametrize(("method", "path"), [("POST", "/archive"), ("DELETE", "")])
def test_an_archived_record_is_shown_only_on_demand(cliniko: ClinikoClinic, method: str, path: str) -> None:
    patient_id = f"archive-{method}"
    record_id = cliniko.send(patient_id, "a.pdf", CONTENT, "old")["id"]
    assert cliniko.api.request(method, f"/patient_attachments/{record_id}{path}").status_code == 204
    assert cliniko.api.get(f"/patient_attachments/{record_id}").status_code == 404
    assert cliniko.filtered(patient_id) == []
    anyhow = {"q[]": "archived_at:*"}
    assert cliniko.api.get(f"/patient_attachments/{record_id}", params=anyhow).json()["id"] == record_id
    assert cliniko.filtered(patient_id, "archived_at:*") == ["old"]
    assert cliniko.filtered(patient_id, "archived_at:?") == ["old"]


def test_ids_are_text_or_numbers_as_a_test_chooses(changed: SandboxProcess, cliniko: ClinikoClinic) -> None:
    record_id = cliniko.send("ids", "a.pdf", CONTENT)["id"]
    assert isinstance(record_id, str)
    assert int(record_id) > 2**53
    changed.world(cliniko_ids_as_numbers=True)
    assert cliniko.record(record_id)["id"] == int(record_id)
