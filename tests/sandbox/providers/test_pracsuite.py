"""PracSuite's API as its pages describe it."""

import hashlib
import time

import httpx
import pytest

from tests.harness.sandbox import SandboxProcess
from tests.sandbox.providers.pracsuite_clinic import Clinic, eventually

FIELDS_ON_THE_VENDORS_PAGE = [
    "key",
    "Policy",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-signature",
    "x-amz-security-token",
]


def test_a_form_has_the_fields_of_the_vendors_page(north: Clinic) -> None:
    form = north.form("form", "example-file.txt")
    assert list(form["fields"]) == FIELDS_ON_THE_VENDORS_PAGE
    assert form["fields"]["key"].startswith("temp/")
    assert form["fields"]["key"].endswith("/example-file.txt")


def test_a_document_gets_a_record_with_the_bytes_that_were_sent(north: Clinic) -> None:
    content = bytes(range(256)) * 300
    sent_at = time.time()
    assert north.send("4711", "referral.pdf", content).status_code == 204
    (record,) = north.records_once_there("4711")
    assert sent_at < record["appeared_at"] <= time.time()
    assert record["size_bytes"] == len(content)
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["file_name"] == "referral.pdf"
    (listed,) = north.chart("4711").json()["attachment_clients"]
    assert str(listed["attachment_client_id"]) == record["record_id"]
    assert listed["file_size"] == len(content)
    assert "file_name" not in listed


def test_one_clinics_patient_is_not_the_others(north: Clinic, south: Clinic) -> None:
    north.send("same-number", "a.txt", b"a")
    (record,) = north.records_once_there("same-number")
    assert south.chart("same-number").json()["total_entries"] == 0
    assert south.api.get(f"/patient_attachment/{record['record_id']}").status_code == 404


def test_a_records_name_and_content_can_be_read(north: Clinic) -> None:
    north.send("reader", 'a "quoted" Ü.txt', b"to be read back")
    (record,) = north.records_once_there("reader")
    address = f"/patient_attachment/{record['record_id']}"
    link = north.api.get(address + "/presign_url").json()
    assert link["file_name"] == 'a "quoted" Ü.txt'
    assert north.storage.get(link["url"]).content == b"to be read back"
    redirect = north.api.get(address + "/content")
    assert redirect.status_code == 307
    assert north.storage.get(redirect.headers["Location"]).content == b"to be read back"


def test_content_with_an_api_key_is_refused_and_reported(north: Clinic) -> None:
    north.send("leak-get", "a.txt", b"a")
    (record,) = north.records_once_there("leak-get")
    before = len(north.sandbox.leaks())
    redirect = north.api.get(f"/patient_attachment/{record['record_id']}/content")
    assert north.storage.get(redirect.headers["Location"], headers=north.keys).status_code == 400
    assert [leak["header"] for leak in north.sandbox.leaks()[before:]] == ["x-api-key", "a-api-key"]


@pytest.mark.parametrize("wrong", [{"x-api-key": "wrong"}, {"a-api-key": "wrong"}, {"a-api-key": ""}])
def test_both_keys_are_required(north: Clinic, wrong: dict[str, str]) -> None:
    answer = north.api.get("/patient/1/patient_attachment", headers=wrong)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "UNAUTHORIZED"


def test_an_unknown_address_is_a_missing_authentication_token(north: Clinic) -> None:
    answer = north.api.put("/patient/1/patient_attachment")
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "MISSING_AUTHENTICATION_TOKEN"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"file_name": 7}', b'{"file_name": ""}', b'{"file_name": "a/b"}']
)
def test_a_form_without_a_good_file_name_is_refused(north: Clinic, body: bytes) -> None:
    answer = north.api.post("/patient/1/patient_attachment", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "INVALID_PARAMS"
    assert answer.json()["request_id"]


def test_an_unknown_record_is_not_found(north: Clinic) -> None:
    answer = north.api.get("/patient_attachment/1/presign_url")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "NOT_FOUND"


def test_a_long_list_comes_in_pages(north: Clinic) -> None:
    first = north.chart("old-120").json()
    assert (len(first["attachment_clients"]), first["total_entries"]) == (50, 120)
    assert first["links"]["previous"] is None
    second = north.api.get(first["links"]["next"]).json()
    third = north.api.get(second["links"]["next"]).json()
    assert (len(third["attachment_clients"]), third["links"]["next"]) == (20, None)
    pages = [first, second, third]
    ids = {each["attachment_client_id"] for page in pages for each in page["attachment_clients"]}
    assert len(ids) == 120


def test_a_page_has_at_most_a_hundred_records(north: Clinic) -> None:
    assert len(north.chart("old-150", page_size=100).json()["attachment_clients"]) == 100
    assert north.chart("old-150", page_size=101).status_code == 400
    assert north.chart("old-150", page=0).status_code == 400


def test_some_patients_have_old_records(north: Clinic) -> None:
    listed = north.chart("old").json()["attachment_clients"]
    assert [each["file_size"] for each in listed] == [1024, 2048, 4096]
    assert north.records("old") == []
    link = north.api.get(listed[1]["links"]["presign_url"]).json()
    assert link["file_name"] == "referral.pdf"
    assert len(north.storage.get(link["url"]).content) == 2048


@pytest.mark.parametrize(
    ("patient_id", "status", "code"), [("429-a", 429, "TOO_MANY_REQUESTS"), ("500-a", 500, "SERVER_ERROR")]
)
def test_a_troubled_patient_is_served_at_the_third_call(north: Clinic, patient_id: str, status: int, code: str) -> None:
    answers = [north.chart(patient_id), north.ask_for_form(patient_id, "a.txt"), north.chart(patient_id)]
    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert answers[0].json()["error"]["code"] == code
    assert answers[0].headers.get("Retry-After") == ("1" if status == 429 else None)


def test_a_patient_named_404_is_unknown(north: Clinic) -> None:
    assert [north.chart("404-a").status_code, north.ask_for_form("404-a", "a.txt").status_code] == [404, 404]


def test_a_revoked_key_is_refused_until_it_is_restored(changed: SandboxProcess, north: Clinic, south: Clinic) -> None:
    changed.world(revoke=[north.api_key])
    assert (north.chart("1").status_code, south.chart("1").status_code) == (401, 200)
    changed.world(restore=[north.api_key])
    assert north.chart("1").status_code == 200


@pytest.mark.parametrize("status", [503, 504])
def test_a_provider_that_is_down_says_so(changed: SandboxProcess, north: Clinic, status: int) -> None:
    changed.world(down={"pracsuite": str(status)})
    assert north.chart("1").status_code == status
    changed.world(down={"pracsuite": None})
    assert north.chart("1").status_code == 200


def test_a_provider_may_reset_connections_or_hang(changed: SandboxProcess, north: Clinic) -> None:
    changed.world(down={"pracsuite": "reset"})
    with pytest.raises(httpx.TransportError):
        north.chart("1")
    changed.world(down={"pracsuite": "hang"})
    with pytest.raises(httpx.ReadTimeout):
        north.api.get("/patient/1/patient_attachment", timeout=httpx.Timeout(60, read=0.2))


def test_a_throttled_provider_names_the_time_to_come_back(changed: SandboxProcess, north: Clinic) -> None:
    changed.world(throttle={"pracsuite": {"per_minute": 1}})
    answers = [north.chart("1"), north.chart("1")]
    assert answers[1].status_code == 429
    assert 1 <= int(answers[1].headers["Retry-After"]) <= 60


def test_what_the_vendor_leaves_open_can_be_switched(changed: SandboxProcess, north: Clinic) -> None:
    changed.world(list_key="attachments", ids_as_text=True, name_in_record=True, newest_first=True)
    listed = north.chart("old").json()["attachments"]
    assert [each["file_name"] for each in listed] == ["scan.png", "referral.pdf", "intake-form.pdf"]
    assert all(isinstance(each["attachment_client_id"], str) for each in listed)
    changed.world(reset=True)
    assert "attachment_clients" in north.chart("old").json()


def test_an_unknown_change_changes_nothing(sandbox: SandboxProcess) -> None:
    answer = httpx.post(f"{sandbox.base}/_sandbox/world", json={"list_key": "x", "weather": "rain"})
    assert answer.status_code == 400
    assert "weather" in answer.json()["error"]
    assert sandbox.world()["list_key"] == "attachment_clients"


def test_requests_are_counted_and_kept_in_order(north: Clinic) -> None:
    north.sandbox.forget_requests()
    north.send("counted", "a.txt", b"a")
    north.chart("counted")
    requests = north.sandbox.requests()
    assert requests["counts"]["GET /pracsuite/v1/patient/{patient}/patient_attachment 200"] == 1
    assert [(each["method"], each["status"]) for each in requests["last"]] == [
        ("POST", "200"),
        ("POST", "204"),
        ("GET", "200"),
    ]


def test_validation_takes_its_time(changed: SandboxProcess, north: Clinic) -> None:
    changed.world(validation_seconds=3600)
    north.send("waiting", "slow.txt", b"a")
    changed.world(validation_seconds=0)
    assert north.records_after_validation("waiting") == []
    north.send("quick", "quick.txt", b"a")
    assert eventually(lambda: north.records("quick"))


def test_a_validation_can_be_held_for_documents_of_some_name(changed: SandboxProcess, north: Clinic) -> None:
    changed.world(hold_validation="held", validation_seconds=0)
    north.send("on hold", "held.txt", b"a")
    assert north.records_after_validation("on hold") == []
    changed.world(hold_validation=None)
    assert north.records_once_there("on hold")
