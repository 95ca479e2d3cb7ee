"""The storage front and the engine behind it, as AWS's pages describe S3's form uploads."""

import hashlib
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.harness.sandbox import SandboxProcess
from tests.sandbox.providers.pracsuite_clinic import Clinic, Form, eventually
from tests.sandbox.s3.engine_view import engine_client, stored
from tests.sandbox.s3.raw_upload import multipart, open_upload

CONTENT = b"a clinical document, " * 5000


def code_and_message(answer: httpx.Response) -> tuple[int, str, str]:
    found = re.search(r"<Code>(.*)</Code><Message>(.*)</Message>", answer.text, re.DOTALL)
    assert found, answer.text
    return answer.status_code, found[1], found[2]


def post_body(north: Clinic, form: Form, body: bytes, **headers: str) -> httpx.Response:
    headers = {"Content-Type": "multipart/form-data; boundary=edge"} | headers
    return north.storage.post(form["url"], content=body, headers=headers)


def test_a_stored_document_is_answered_as_s3_does(north: Clinic) -> None:
    form = north.form("stored", "a.txt")
    answer = north.post(form, CONTENT)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["ETag"] == f'"{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"'
    assert answer.headers["Location"] == f"{form['url']}/{form['fields']['key']}"


def test_an_etag_need_not_be_an_md5(changed: SandboxProcess, north: Clinic) -> None:
    changed.world(etag_not_md5=True)
    answer = north.send("etag", "a.txt", CONTENT)
    assert re.fullmatch('"[0-9a-f]{32}"', answer.headers["ETag"])
    assert hashlib.md5(CONTENT, usedforsecurity=False).hexdigest() not in answer.headers["ETag"]


def tampered(field: str, change: Callable[[str], str]) -> Callable[[Form], None]:
    def tamper(form: Form) -> None:
        form["fields"][field] = change(form["fields"][field])

    return tamper


def without(field: str) -> Callable[[Form], None]:
    return lambda form: form["fields"].pop(field)


@pytest.mark.parametrize(
    ("tamper", "refusal"),
    [
        (tampered("x-amz-signature", lambda old: "0" * 64), (403, "SignatureDoesNotMatch")),
        (tampered("Policy", lambda old: old.replace("ey", "eyA", 1)), (400, "InvalidPolicyDocument")),
        (tampered("x-amz-security-token", lambda old: old + "x"), (400, "InvalidToken")),
        (without("x-amz-security-token"), (400, "InvalidToken")),
        (tampered("key", lambda old: old + ".exe"), (403, "AccessDenied")),
        (tampered("x-amz-date", lambda old: "20200101T000000Z"), (403, "AccessDenied")),
        (without("x-amz-date"), (403, "AccessDenied")),
        (without("Policy"), (403, "AccessDenied")),
        (without("key"), (400, "UserKeyMustBeSpecified")),
    ],
)
def test_a_tampered_form_is_refused(north: Clinic, tamper: Callable[[Form], None], refusal: tuple[int, str]) -> None:
    form = north.form("tampered", "a.txt")
    key = form["fields"]["key"]
    tamper(form)
    assert code_and_message(north.post(form, CONTENT, "a.txt"))[:2] == refusal
    assert stored(north.sandbox, key) == []


def test_the_policy_of_another_form_is_refused(north: Clinic) -> None:
    # The other form's policy is genuine, but its signature does not come with it.
    form, generous = north.form("policy", "a.txt"), north.form("policy", "b.txt")
    form["fields"]["Policy"] = generous["fields"]["Policy"]
    form["fields"]["key"] = generous["fields"]["key"]
    assert code_and_message(north.post(form, CONTENT))[:2] == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("name", ["Content-Type", "x-amz-meta-patient", "acl"])
def test_a_field_that_the_policy_does_not_name_is_refused(north: Clinic, name: str) -> None:
    form = north.form("extra", "a.txt")
    form["fields"][name] = "anything"
    message = f"Invalid according to Policy: Extra input fields: {name.lower()}"
    assert code_and_message(north.post(form, CONTENT)) == (403, "AccessDenied", message)


def test_a_field_to_be_ignored_is_ignored(north: Clinic) -> None:
    form = north.form("ignored", "a.txt")
    form["fields"]["x-ignore-me"] = "anything"
    assert north.post(form, CONTENT).status_code == 204


@pytest.mark.parametrize(("content", "code"), [(b"", "EntityTooSmall"), (bytes(100_000_001), "EntityTooLarge")])
def test_a_size_outside_the_policys_range_is_refused(north: Clinic, content: bytes, code: str) -> None:
    assert code_and_message(north.send("size", "a.bin", content))[:2] == (400, code)


def test_an_upload_without_a_length_is_refused(north: Clinic) -> None:
    form = north.form("chunked", "a.txt")
    body = multipart(form, ("file", "a.txt", CONTENT))

    def blocks() -> Iterator[bytes]:
        yield body

    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    answer = north.storage.post(form["url"], content=blocks(), headers=headers)
    assert code_and_message(answer)[:2] == (411, "MissingContentLength")
    assert stored(north.sandbox, form["fields"]["key"]) == []


def test_the_file_must_be_the_last_field(north: Clinic) -> None:
    form = north.form("order", "a.txt")
    policy = form["fields"].pop("Policy")
    body = multipart(form, ("file", "a.txt", CONTENT), ("Policy", None, policy.encode()))
    assert post_body(north, form, body).status_code == 403
    form["fields"]["Policy"] = policy
    body = multipart(form, ("file", "a.txt", CONTENT), ("x-ignore-me", None, b"late"))
    assert code_and_message(post_body(north, form, body))[:2] == (400, "InvalidArgument")
    assert stored(north.sandbox, form["fields"]["key"]) == []


def test_there_must_be_exactly_one_file(north: Clinic) -> None:
    form = north.form("files", "a.txt")
    for files in [], [("file", "a.txt", CONTENT), ("file", "b.txt", CONTENT)]:
        answer = post_body(north, form, multipart(form, *files))
        assert code_and_message(answer)[:2] == (400, "IncorrectNumberOfFilesInPostRequest")
    assert stored(north.sandbox, form["fields"]["key"]) == []


def test_long_fields_before_the_file_are_refused(north: Clinic) -> None:
    form = north.form("long", "a.txt")
    form["fields"]["x-ignore-me"] = "x" * 20 * 1024
    assert code_and_message(north.post(form, b"a"))[:2] == (400, "MaxPostPreDataLengthExceededError")


def test_a_body_that_is_not_multipart_is_refused(north: Clinic) -> None:
    form = north.form("no-form", "a.txt")
    answer = north.storage.post(form["url"], data=form["fields"])
    assert code_and_message(answer)[:2] == (400, "RequestIsNotMultiPartContent")


@pytest.mark.parametrize("header", ["Authorization", "Cookie", "x-api-key", "a-api-key"])
def test_keys_of_the_api_are_refused_and_reported(north: Clinic, header: str) -> None:
    before = len(north.sandbox.leaks())
    form = north.form("leak", "a.txt")
    answer = north.post(form, CONTENT, headers={header: "secret"})
    assert code_and_message(answer)[:2] == (400, "InvalidArgument")
    assert [leak["header"] for leak in north.sandbox.leaks()[before:]] == [header]
    assert "secret" not in str(north.sandbox.leaks())


@pytest.mark.parametrize("politely", [True, False])
@pytest.mark.parametrize("missing", [1, 20, 60_000])
def test_an_upload_that_is_cut_stores_nothing(north: Clinic, missing: int, politely: bool) -> None:
    """Whichever byte is the last to arrive, and whether the connection ends with FIN or RST."""
    patient_id = f"cut-{missing}-{politely}"
    form = north.form(patient_id, "a.txt")
    body = multipart(form, ("file", "a.txt", CONTENT))
    connection = open_upload(form, len(body), body[:-missing])
    time.sleep(0.1)
    if not politely:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    north.records_after_validation(patient_id)
    assert stored(north.sandbox, form["fields"]["key"]) == []
    assert north.records(patient_id) == []
    eventually(lambda: "gone" in [each["status"] for each in north.sandbox.requests()["last"]])


def test_an_upload_that_stands_still_is_given_up(changed: SandboxProcess, north: Clinic) -> None:
    changed.world(storage_idle_seconds=0.1)
    form = north.form("idle", "a.txt")
    body = multipart(form, ("file", "a.txt", CONTENT))
    with open_upload(form, len(body), body[:-5]) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert stored(changed, form["fields"]["key"]) == []


@pytest.mark.parametrize(("kind", "status"), [("503", 503), ("504", 504)])
def test_storage_that_is_down_stores_nothing(changed: SandboxProcess, north: Clinic, kind: str, status: int) -> None:
    changed.world(storage_down=kind)
    form = north.form("down", "a.txt")
    answer = north.post(form, CONTENT)
    assert answer.status_code == status
    assert ("<Code>ServiceUnavailable</Code>" in answer.text) == (kind == "503")
    assert stored(changed, form["fields"]["key"]) == []


def test_storage_may_reset_connections_or_hang(changed: SandboxProcess, north: Clinic) -> None:
    form = north.form("down", "a.txt")
    changed.world(storage_down="reset")
    with pytest.raises(httpx.TransportError):
        north.post(form, CONTENT)
    changed.world(storage_down="hang")
    with pytest.raises(httpx.TimeoutException):
        north.post(form, CONTENT, timeout=httpx.Timeout(60, read=0.3))


def test_an_expired_form_is_refused_in_awss_words(changed: SandboxProcess, north: Clinic) -> None:
    changed.world(form_seconds=-5)
    answer = north.send("expired", "a.txt", CONTENT)
    assert code_and_message(answer) == (403, "AccessDenied", "Invalid according to Policy: Policy expired.")


def test_sources_can_be_kept_in_the_engine(sandbox: SandboxProcess) -> None:
    client = engine_client(sandbox)
    client.put_object(Bucket="sources", Key="scans/a.pdf", Body=CONTENT)
    assert client.get_object(Bucket="sources", Key="scans/a.pdf")["Body"].read() == CONTENT


def test_temporary_objects_are_consumed(north: Clinic) -> None:
    form = north.form("consumed", "a.txt")
    north.post(form, CONTENT)
    north.records_once_there("consumed")
    eventually(lambda: stored(north.sandbox, form["fields"]["key"]) == [])
