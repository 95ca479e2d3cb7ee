"""Ovok's API as its pages describe it."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.harness.sandbox import SandboxProcess
from tests.sandbox.providers.ovok_clinic import JSON, OvokClinic, as_json
from tests.sandbox.providers.pracsuite_clinic import eventually
from tests.sandbox.s3.engine_view import stored

BUCKET = "ovok-files-region1"
CONTENT = b"a clinical document, " * 20_000
FIELDS_ON_THE_VENDORS_PAGE = [
    "bucket",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "key",
    "Policy",
    "X-Amz-Signature",
]


@pytest.fixture(scope="module")
def ovok() -> Iterator[OvokClinic]:
    process = SandboxProcess("--providers", "ovok", validation_seconds=0.1)
    yield OvokClinic(process)
    log = process.log()
    assert process.stop() == 0
    assert "Traceback" not in log, log


@pytest.fixture
def changed(ovok: OvokClinic) -> Iterator[SandboxProcess]:
    """A sandbox whose behaviour a test changes; it is reset afterwards."""
    yield ovok.sandbox
    ovok.sandbox.world(reset=True)
    ovok.use(ovok.log_in()["accessToken"])


def test_the_settings_have_an_account_with_a_login(ovok: OvokClinic) -> None:
    assert set(ovok.sandbox.settings["accounts"]) == {"ovok_clinic"}
    account = ovok.sandbox.settings["accounts"]["ovok_clinic"]
    assert (account["provider"], account["base_url"]) == ("ovok", f"{ovok.sandbox.base}/ovok")


def test_a_login_gives_a_token_that_says_when_it_ends(ovok: OvokClinic) -> None:
    began, login = time.time(), ovok.log_in()
    assert login["expiresIn"] == 3600
    head, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in login["accessToken"].split(".")[:2])
    assert head["typ"] == "JWT"
    assert began + 3599 <= claims["exp"] <= time.time() + 3600
    assert set(login["project"]) == set(login["profile"]) == {"reference", "display"}


@pytest.mark.parametrize("wrong", [{"email": "x@y.example"}, {"password": "wrong"}, {"clientId": "wrong"}])
def test_a_wrong_login_is_refused(ovok: OvokClinic, wrong: dict[str, str]) -> None:
    assert ovok.ask_to_log_in(**wrong).status_code == 401


def test_an_incomplete_login_is_refused(ovok: OvokClinic) -> None:
    assert ovok.ask_to_log_in(password=None).status_code == 422
    assert ovok.api.post("/v2/auth/login", content=b"not json").status_code == 400


def test_a_refresh_token_is_good_once_and_its_answer_has_other_names(ovok: OvokClinic) -> None:
    login = ovok.log_in()
    refreshed = as_json(ovok.ask_to_refresh(login["refreshToken"]), 200)
    assert set(refreshed) == {"access_token", "refresh_token", "expires_in"}
    assert refreshed["access_token"] != login["accessToken"]
    bearer = {"Authorization": f"Bearer {refreshed['access_token']}"}
    assert ovok.api.get("/document", headers=bearer).status_code == 200
    assert ovok.ask_to_refresh(login["refreshToken"]).status_code == 401
    assert ovok.ask_to_refresh(refreshed["refresh_token"]).status_code == 200


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x.y.z", "Basic TOKEN", "TOKEN"])
def test_only_a_bearer_token_that_was_given_out_is_good(ovok: OvokClinic, authorization: str) -> None:
    header = authorization.replace("TOKEN", ovok.log_in()["accessToken"])
    assert ovok.api.get("/document", headers={"Authorization": header}).status_code == 401


def test_a_token_runs_out_and_is_refreshed(changed: SandboxProcess, ovok: OvokClinic) -> None:
    changed.world(ovok_token_seconds=1)
    began, login = time.time(), ovok.log_in()
    assert login["expiresIn"] == 1
    ovok.use(login["accessToken"])
    eventually(lambda: ovok.api.get("/document").status_code == 401)
    assert time.time() - began >= 1
    changed.world(ovok_token_seconds=3600)
    ovok.use(ovok.ask_to_refresh(login["refreshToken"]).json()["access_token"])
    assert ovok.api.get("/document").status_code == 200


def test_tokens_can_be_forgotten_before_their_end(changed: SandboxProcess, ovok: OvokClinic) -> None:
    changed.world(kill_tokens=["ovok"])
    assert ovok.api.get("/document").status_code == 401
    ovok.use(ovok.log_in()["accessToken"])
    assert ovok.api.get("/document").status_code == 200


@pytest.mark.parametrize("credential", ["email", "password", "clientId"])
def test_a_revoked_login_is_refused_until_it_is_restored(
    changed: SandboxProcess, ovok: OvokClinic, credential: str
) -> None:
    login = ovok.log_in()
    changed.world(revoke=[ovok.login[credential]])
    assert ovok.api.get("/document").status_code == 401
    assert ovok.ask_to_log_in().status_code == 401
    assert ovok.ask_to_refresh(login["refreshToken"]).status_code == 401
    changed.world(restore=[ovok.login[credential]])
    assert ovok.api.get("/document").status_code == 200


def test_a_new_document_has_the_shape_of_the_vendors_page(ovok: OvokClinic) -> None:
    document = ovok.create("cat.png", "image/png")
    assert (document["fileName"], document["contentType"]) == ("cat.png", "image/png")
    assert document["meta"]["lastUpdated"].endswith("Z")
    assert set(document["author"]) == {"reference", "display"}
    assert list(document["uploadOptions"]["fields"]) == FIELDS_ON_THE_VENDORS_PAGE
    assert document["uploadOptions"]["fields"]["bucket"] == BUCKET
    assert document["publicToken"]


def test_a_stored_document_is_in_the_chart_as_soon_as_storage_answers(ovok: OvokClinic) -> None:
    document = ovok.create("referral.pdf")
    assert ovok.charts(document["id"]) == []
    answer = ovok.post(document, CONTENT)
    assert (answer.status_code, answer.content) == (204, b"")
    (record,) = ovok.charts(document["id"])
    assert (record["patient_id"], record["file_name"]) == (None, "referral.pdf")
    assert (record["size_bytes"], record["sha256"]) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.mark.parametrize("field", ["bucket", "key", "Policy", "X-Amz-Signature"])
def test_a_form_needs_every_field_as_it_was_given(ovok: OvokClinic, field: str) -> None:
    tampered = ovok.create("tampered.pdf")
    tampered["uploadOptions"]["fields"][field] += "x"
    assert ovok.post(tampered, CONTENT).status_code in {400, 403}
    assert ovok.charts(tampered["id"]) == []


def test_a_field_that_was_not_given_is_refused(ovok: OvokClinic) -> None:
    document = ovok.create("extra.pdf")
    document["uploadOptions"]["fields"]["Content-Type"] = "application/pdf"
    answer = ovok.post(document, CONTENT)
    assert "Extra input fields: content-type" in answer.text


def test_a_replacement_changes_the_record_in_place(ovok: OvokClinic) -> None:
    document = ovok.send("first.pdf", CONTENT)
    replacement = ovok.replace(document["id"], "second.pdf")
    assert replacement["id"] == document["id"]
    assert ovok.content(document["id"]).content == CONTENT
    assert ovok.post(replacement, b"other bytes").status_code == 204
    assert ovok.content(document["id"]).content == b"other bytes"
    (record,) = ovok.charts(document["id"])
    assert (record["file_name"], record["size_bytes"]) == ("second.pdf", len(b"other bytes"))
    assert record["sha256"] == hashlib.sha256(b"other bytes").hexdigest()


def test_creating_twice_makes_two_documents_and_two_records(ovok: OvokClinic) -> None:
    sent = [ovok.send("twice.pdf", CONTENT) for _ in range(2)]
    assert [each["id"] for each in ovok.made("twice.pdf")] == [each["id"] for each in sent]
    assert [len(ovok.charts(each["id"])) for each in sent] == [1, 1]


def test_a_document_without_an_upload_is_counted_and_has_no_record(ovok: OvokClinic) -> None:
    ovok.create("never-sent.pdf")
    ovok.post(ovok.replace(ovok.create("sent-twice.pdf")["id"], "sent-twice.pdf"), b"a")
    assert [each["uploads"] for each in ovok.made("never-sent.pdf")] == [0]
    assert [each["uploads"] for each in ovok.made("sent-twice.pdf")] == [1]
    assert ovok.sandbox.charts(file_name="never-sent.pdf") == []


def test_a_lost_create_makes_the_document_and_loses_the_answer_once(ovok: OvokClinic) -> None:
    with pytest.raises(httpx.TransportError):
        ovok.create("LOSTCREATE.pdf")
    (listed,) = [each for each in ovok.listed()["resources"] if each["fileName"] == "LOSTCREATE.pdf"]
    replacement = ovok.replace(listed["id"], "LOSTCREATE.pdf")
    assert ovok.post(replacement, CONTENT).status_code == 204
    assert len(ovok.charts(listed["id"])) == 1
    ovok.create("LOSTCREATE.pdf")
    assert len(ovok.made("LOSTCREATE.pdf")) == 2


def test_words_in_the_name_act_on_storage(ovok: OvokClinic) -> None:
    document = ovok.create("BUSY-1 CUT LOST.pdf")
    assert ovok.post(document, CONTENT).status_code == 503
    with pytest.raises(httpx.TransportError):
        ovok.post(document, CONTENT)
    assert ovok.charts(document["id"]) == []
    with pytest.raises(httpx.TransportError):
        ovok.post(document, CONTENT)
    assert len(ovok.charts(document["id"])) == 1
    assert ovok.post(document, CONTENT).status_code == 204
    assert len(ovok.charts(document["id"])) == 1


def test_an_expired_form_is_given_once_and_replaced_by_a_good_one(ovok: OvokClinic) -> None:
    document = ovok.create("EXPIRED.pdf")
    answer = ovok.post(document, CONTENT)
    assert answer.status_code == 403
    assert "Policy expired" in answer.text
    assert ovok.post(ovok.replace(document["id"], "EXPIRED.pdf"), CONTENT).status_code == 204
    assert len(ovok.made("EXPIRED.pdf")) == 1


def test_an_invalid_document_is_stored_and_then_gone(ovok: OvokClinic) -> None:
    document = ovok.send("INVALID.pdf", CONTENT)
    assert ovok.charts(document["id"]) == []
    assert stored(ovok.sandbox, f"binary/{document['id']}", BUCKET) == []
    assert ovok.content(document["id"]).status_code == 404


def test_a_download_is_in_storage_which_refuses_a_token(ovok: OvokClinic) -> None:
    document = ovok.send("download.pdf", CONTENT)
    address = ovok.where(document["id"])
    assert not address.startswith(str(ovok.api.base_url))
    before = len(ovok.sandbox.leaks())
    answer = ovok.storage.get(address)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    bearer = {"Authorization": ovok.api.headers["Authorization"]}
    assert ovok.storage.get(address, headers=bearer).status_code == 400
    assert [leak["header"] for leak in ovok.sandbox.leaks()[before:]] == ["Authorization"]


def test_one_byte_tells_size_and_etag(ovok: OvokClinic) -> None:
    document = ovok.send("range.pdf", CONTENT)
    answer = ovok.content(document["id"], Range="bytes=0-0")
    assert (answer.status_code, answer.content) == (206, CONTENT[:1])
    assert answer.headers["Content-Range"] == f"bytes 0-0/{len(CONTENT)}"
    assert answer.headers["ETag"] == f'"{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"'


def test_a_download_of_what_is_known_already_is_not_modified(ovok: OvokClinic) -> None:
    document = ovok.send("known.pdf", CONTENT)
    etag = ovok.content(document["id"], Range="bytes=0-0").headers["ETag"]
    assert ovok.api.get(f"/document/{document['id']}", headers={"ETag": etag}).status_code == 304
    assert ovok.api.get(f"/document/{document['id']}", headers={"ETag": '"other"'}).status_code == 307


def test_a_document_without_a_file_leads_to_nothing(ovok: OvokClinic) -> None:
    answer = ovok.content(ovok.create("empty.pdf")["id"])
    assert answer.status_code == 404
    assert "<Code>NoSuchKey</Code>" in answer.text


def test_an_address_to_a_file_is_signed(ovok: OvokClinic) -> None:
    address = ovok.where(ovok.send("signed.pdf", CONTENT)["id"])
    assert ovok.storage.get(address.partition("?")[0]).status_code == 403


def test_a_public_token_opens_public_documents_only(ovok: OvokClinic) -> None:
    public, private = ovok.send("public.pdf", CONTENT, isPublic="true"), ovok.send("private.pdf", CONTENT)
    statuses = [
        httpx.get(public_address(ovok, each), trust_env=False, timeout=60).status_code for each in (public, private)
    ]
    assert statuses == [307, 404]


def public_address(ovok: OvokClinic, document: JSON) -> str:
    return f"{ovok.api.base_url}document/public/{document['publicToken']}"


def test_a_private_document_may_have_no_public_token(changed: SandboxProcess, ovok: OvokClinic) -> None:
    changed.world(ovok_public_tokens=False)
    assert ovok.create("private.pdf")["publicToken"] is None
    assert ovok.create("public.pdf", isPublic=True)["publicToken"]


def test_the_list_shows_the_latest_first_and_pages(ovok: OvokClinic) -> None:
    names = [f"listed-{number}.pdf" for number in range(3)]
    for name in names:
        ovok.create(name)
    latest = ovok.listed(_count=2)
    assert [each["fileName"] for each in latest["resources"]] == [names[2], names[1]]
    assert latest["total"] > 2
    assert "uploadOptions" not in latest["resources"][0]
    next_ = ovok.listed(_count=1, _offset=2, _sort="-_lastUpdated")
    assert [each["fileName"] for each in next_["resources"]] == [names[0]]
    oldest = ovok.listed(_count=1, _sort="_lastUpdated", _offset=latest["total"] - 1)
    assert [each["fileName"] for each in oldest["resources"]] == [names[2]]


def test_a_replacement_brings_its_document_to_the_top(ovok: OvokClinic) -> None:
    document = ovok.create("to-the-top.pdf")
    ovok.create("later.pdf")
    ovok.replace(document["id"], "to-the-top.pdf")
    assert ovok.listed(_count=1)["resources"][0]["id"] == document["id"]


@pytest.mark.parametrize("query", [{"_count": "x"}, {"_offset": "-1"}, {"_sort": "colour"}])
def test_a_list_that_cannot_be_is_refused(ovok: OvokClinic, query: dict[str, str]) -> None:
    assert ovok.api.get("/document", params=query).status_code == 400


GOOD = {"fileName": "a.pdf", "contentType": "application/pdf"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"contentType": "pdf"},
        {"contentType": ""},
        {"contentType": None},
        {"contentType": "a/b/c"},
        {"fileName": ""},
        {"fileName": 7},
        {"isPublic": "maybe"},
    ],
)
def test_a_body_with_a_wrong_value_is_refused(ovok: OvokClinic, wrong: dict[str, Any]) -> None:
    before = len(ovok.sandbox.ovok_documents())
    assert ovok.api.post("/document", json=GOOD | wrong).status_code == 422
    document = ovok.create("a.pdf")
    assert ovok.api.post(f"/document/{document['id']}", json=GOOD | wrong).status_code == 422
    assert len(ovok.sandbox.ovok_documents()) == before + 1


def test_a_body_that_is_not_json_is_refused(ovok: OvokClinic) -> None:
    assert ovok.api.post("/document", content=b"{").status_code == 400


@pytest.mark.parametrize("method", ["POST", "GET", "PATCH", "DELETE"])
def test_an_unknown_document_is_not_found(ovok: OvokClinic, method: str) -> None:
    answer = ovok.api.request(method, "/document/87ea5dfc-8b8e-384d-8489-79496e706390", json=GOOD)
    assert answer.status_code == 404


def test_metadata_can_be_changed_without_touching_the_file(ovok: OvokClinic) -> None:
    document = ovok.send("before.pdf", CONTENT)
    changed = as_json(ovok.api.patch(f"/document/{document['id']}", json={"fileName": "after.pdf"}), 200)
    assert (changed["fileName"], changed["contentType"]) == ("after.pdf", "application/pdf")
    assert "uploadOptions" not in changed
    (record,) = ovok.charts(document["id"])
    assert (record["file_name"], record["size_bytes"]) == ("after.pdf", len(CONTENT))


def test_a_deleted_document_is_gone_with_its_file(ovok: OvokClinic) -> None:
    document = ovok.send("deleted.pdf", CONTENT)
    answer = ovok.api.delete(f"/document/{document['id']}")
    assert as_json(answer, 200) == {"message": "Document deleted successfully"}
    assert ovok.api.get(f"/document/{document['id']}").status_code == 404
    assert stored(ovok.sandbox, f"binary/{document['id']}", BUCKET) == []
    assert ovok.charts(document["id"]) == []
    assert [each["deleted"] for each in ovok.made("deleted.pdf")] == [True]


def test_an_upload_to_a_deleted_document_does_not_bring_it_back(ovok: OvokClinic) -> None:
    document = ovok.create("deleted-early.pdf")
    ovok.api.delete(f"/document/{document['id']}")
    assert ovok.post(document, CONTENT).status_code == 204
    assert ovok.charts(document["id"]) == []


def test_a_provider_that_is_down_says_so(changed: SandboxProcess, ovok: OvokClinic) -> None:
    changed.world(down={"ovok": "503"})
    assert (ovok.ask_to_log_in().status_code, ovok.api.get("/document").status_code) == (503, 503)
    changed.world(down={"ovok": "reset"})
    with pytest.raises(httpx.TransportError):
        ovok.listed()
    changed.world(down={"ovok": None})
    assert ovok.listed()


def test_a_throttled_provider_names_the_time_to_come_back(changed: SandboxProcess, ovok: OvokClinic) -> None:
    changed.world(throttle={"ovok": {"per_minute": 1}})
    ovok.api.get("/document")
    answer = ovok.api.get("/document")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


# --- the other logins ------------------------------------------------------------------------------------------------


def s256(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def test_staff_log_in_by_a_code_that_is_good_once_for_whoever_began(ovok: OvokClinic) -> None:
    """RFC 7636, 4.6"""
    staff = {"email": ovok.login["email"], "password": ovok.login["password"], "codeChallengeMethod": "S256"}

    def start(**changes: Any) -> httpx.Response:
        return ovok.api.post(
            "/auth/tenant/Practitioner/login/start", json=staff | {"codeChallenge": s256("v")} | changes
        )

    def finish(code: str, verifier: str = "v", tenant: str | None = None) -> httpx.Response:
        body = {"sessionCode": code, "codeVerifier": verifier, "tenantCode": tenant or "sandbox-clinic"}
        return ovok.api.post("/auth/tenant/Practitioner/login/token", json=body)

    started = as_json(start(), 200)
    assert started["nextStep"] == "token"
    assert [each["tenantCode"] for each in started["profiles"]] == ["sandbox-clinic"]
    assert as_json(finish(started["sessionCode"]), 200).keys() >= {"accessToken", "refreshToken", "expiresIn"}
    assert finish(started["sessionCode"]).status_code == 401
    assert finish(as_json(start(), 200)["sessionCode"], "another").status_code == 401
    assert finish(as_json(start(), 200)["sessionCode"], tenant="elsewhere").status_code == 401
    assert start(password="wrong").status_code == 401
    assert start(codeChallenge="").status_code == 422


def test_b2b_users_log_in_with_a_tenant(ovok: OvokClinic) -> None:
    tenant = {"tenantId": "87ea5dfc-8b8e-384d-8489-79496e706390"}
    assert as_json(ovok.api.post("/auth/b2b/login", json=ovok.login | tenant), 200)["accessToken"]
    assert ovok.api.post("/auth/b2b/login", json=ovok.login | {"tenantId": "elsewhere"}).status_code == 401
    assert ovok.api.post("/auth/b2b/login", json=ovok.login).status_code == 422


# --- FHIR ------------------------------------------------------------------------------------------------------------


def patch(ovok: OvokClinic, document_id: str, *operations: JSON, **headers: str) -> httpx.Response:
    kind = {"Content-Type": "application/json-patch+json"}
    body = json.dumps(operations)
    return ovok.api.patch(f"/fhir/R4/DocumentReference/{document_id}", content=body, headers=kind | headers)


def subject(patient: str) -> JSON:
    return {"op": "add", "path": "/subject", "value": {"reference": f"Patient/{patient}"}}


@pytest.mark.parametrize("version", ["R4", "R5"])
def test_a_document_is_a_documentreference_without_a_subject(ovok: OvokClinic, version: str) -> None:
    made = ovok.send(f"fhir-{version}.pdf", CONTENT)
    shown = as_json(ovok.api.get(f"/fhir/{version}/DocumentReference/{made['id']}"), 200)
    assert (shown["resourceType"], shown["id"]) == ("DocumentReference", made["id"])
    assert "subject" not in shown
    assert as_json(ovok.api.get(f"/fhir/{version}/DocumentReference?_count=1"), 200)["resourceType"] == "Bundle"
    assert ovok.api.get(f"/fhir/{version}/DocumentReference/nobody").status_code == 404


def test_a_patch_or_a_put_moves_a_document_into_its_patients_chart(ovok: OvokClinic) -> None:
    made = ovok.send("subject.pdf", CONTENT)
    before = as_json(ovok.api.get(f"/fhir/R4/DocumentReference/{made['id']}"), 200)
    after = as_json(patch(ovok, made["id"], subject("p-1")), 200)
    assert after["subject"] == {"reference": "Patient/p-1"}
    assert after["meta"]["versionId"] != before["meta"]["versionId"]
    assert [each["patient_id"] for each in eventually(lambda: ovok.charts(made["id"]))] == ["p-1"]
    old = {"If-Match": f'W/"{before["meta"]["versionId"]}"'}
    assert patch(ovok, made["id"], subject("p-2"), **old).status_code == 412
    kind = {"Content-Type": "application/fhir+json"}
    moved = json.dumps(after | {"subject": {"reference": "Patient/p-2"}})
    assert ovok.api.put(f"/fhir/R4/DocumentReference/{made['id']}", content=moved, headers=kind).status_code == 200
    assert [each["patient_id"] for each in ovok.charts(made["id"])] == ["p-2"]


def test_a_change_that_makes_no_sense_changes_nothing(ovok: OvokClinic) -> None:
    made = ovok.send("nonsense.pdf", CONTENT)
    assert patch(ovok, made["id"], subject("404-nobody")).status_code == 404
    assert patch(ovok, made["id"], {"op": "replace", "path": "/subject", "value": {}}).status_code == 400
    assert patch(ovok, made["id"], {"op": "add", "path": "/content/0", "value": {}}).status_code == 400
    assert patch(ovok, made["id"], {"op": "add", "path": "/id", "value": "other"}).status_code == 400
    assert patch(ovok, "nobody", subject("p-1")).status_code == 404
    plain = ovok.api.patch(f"/fhir/R4/DocumentReference/{made['id']}", json=[subject("p-1")])
    assert plain.status_code == 415
    assert [each["patient_id"] for each in eventually(lambda: ovok.charts(made["id"]))] == [None]


def test_a_replacement_keeps_its_patient(ovok: OvokClinic) -> None:
    made = ovok.send("kept.pdf", CONTENT)
    patch(ovok, made["id"], subject("p-1"))
    ovok.post(ovok.replace(made["id"], "kept.pdf"), CONTENT + b"2")
    eventually(lambda: [each for each in ovok.charts(made["id"]) if each["size_bytes"] == len(CONTENT) + 1])
    assert [each["patient_id"] for each in ovok.charts(made["id"])] == ["p-1"]
