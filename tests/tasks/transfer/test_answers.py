"""What S3's answers mean, whatever they hold."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.http.exchange import XML_BYTES, Answer
from tasks.model.errors import (
    AccountBlocked,
    Code,
    DocumentRefused,
    OutcomeUnknown,
    PresignAgain,
    RetryLater,
    StepError,
)
from tasks.transfer.answers import StoredObject, stored_object
from tests.tasks.storage_server import StorageServer, Visit
from tests.tasks.transfer.conftest import KEY, Upload

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)


def error_xml(code: str, message: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
        "<RequestId>1</RequestId><HostId>2</HostId></Error>"
    )


def answer(status: int, body: str | bytes = b"", *, lost: bool = False, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, httpx.Headers(named), body if isinstance(body, bytes) else body.encode(), lost)


def stored(told: Answer, *, may_be_whole: bool = True) -> StoredObject:
    return stored_object(told, may_be_whole=may_be_whole, key=KEY, now=NOW)


def meaning(told: Answer, *, may_be_whole: bool = True) -> StepError:
    with pytest.raises(StepError) as raised:
        stored(told, may_be_whole=may_be_whole)
    return raised.value


# --- S3's words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("may_be_whole", [True, False])
@pytest.mark.parametrize(
    ("status", "code", "message", "meant"),
    [
        (403, "AccessDenied", "Invalid according to Policy: Policy expired.", PresignAgain),
        (403, "AccessDenied", "Invalid according to Policy: Extra input fields: content-type", AccountBlocked),
        (403, "AccessDenied", "Invalid according to Policy: Policy Condition failed: [eq, $key]", AccountBlocked),
        (403, "AccessDenied", "Access Denied", PresignAgain),
        (403, "SignatureDoesNotMatch", "", PresignAgain),
        (403, "InvalidAccessKeyId", "", PresignAgain),
        (400, "ExpiredToken", "", PresignAgain),
        (400, "InvalidToken", "", PresignAgain),
        (400, "TokenRefreshRequired", "", PresignAgain),
        (403, "RequestTimeTooSkewed", "", PresignAgain),
        (400, "MalformedPOSTRequest", "", AccountBlocked),
        (400, "UserKeyMustBeSpecified", "", AccountBlocked),
        (411, "MissingContentLength", "", AccountBlocked),
        (501, "NotImplemented", "", AccountBlocked),
        (404, "NoSuchBucket", "", AccountBlocked),
        (301, "PermanentRedirect", "", AccountBlocked),
        (307, "TemporaryRedirect", "", AccountBlocked),
        (400, "BadDigest", "", RetryLater),
        (400, "IncompleteBody", "", RetryLater),
        (400, "RequestTimeout", "", RetryLater),
        (409, "OperationAborted", "", RetryLater),
        (500, "InternalError", "", RetryLater),
        (503, "SlowDown", "", RetryLater),
        (503, "ServiceUnavailable", "", RetryLater),
        (500, "SomethingNew", "", RetryLater),
        (429, "SomethingNew", "", RetryLater),
        (400, "EntityTooLarge", "", DocumentRefused),
        (400, "SomethingNew", "", DocumentRefused),
        (200, "InternalError", "", RetryLater),
    ],
)
def test_s3_errors_are_classed_by_their_code_and_mean_not_stored(
    status: int, code: str, message: str, meant: type[StepError], may_be_whole: bool
) -> None:
    assert type(meaning(answer(status, error_xml(code, message)), may_be_whole=may_be_whole)) is meant


@pytest.mark.parametrize(
    ("s3", "ours"),
    [
        ("EntityTooLarge", Code.FILE_TOO_LARGE),
        ("EntityTooSmall", Code.FILE_EMPTY),
        ("KeyTooLongError", Code.REFUSED_BY_STORAGE),
        ("SomethingNew", Code.REFUSED_BY_STORAGE),
    ],
)
def test_a_refused_document_says_what_to_do_and_keeps_s3s_words_apart(s3: str, ours: Code) -> None:
    refused = meaning(answer(400, error_xml(s3, f"words about {KEY}")))
    assert isinstance(refused, DocumentRefused)
    assert refused.code is ours
    assert refused.hint
    assert refused.detail == f"{s3}: words about {KEY}"
    assert KEY not in str(refused) + refused.message + refused.hint


def test_a_busy_storage_says_nothing_against_the_account_but_an_unwell_one_does() -> None:
    busy, unwell = (meaning(answer(503, error_xml(code))) for code in ("SlowDown", "InternalError"))
    assert isinstance(busy, RetryLater)
    assert isinstance(unwell, RetryLater)
    assert (busy.unreachable, unwell.unreachable) == (False, True)
    assert not busy.throttled


def test_the_wait_that_storage_asks_for_is_kept() -> None:
    busy = meaning(answer(503, error_xml("SlowDown"), retry_after="17"))
    assert isinstance(busy, RetryLater)
    assert busy.after_seconds == 17


# --- without S3's words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "before", "after"),
    [
        (answer(500, "<html>"), RetryLater, OutcomeUnknown),
        (answer(502), RetryLater, OutcomeUnknown),
        (answer(503, b"\xff\xfe"), RetryLater, OutcomeUnknown),
        (answer(504), RetryLater, OutcomeUnknown),
        (answer(202), RetryLater, OutcomeUnknown),
        (answer(304), RetryLater, OutcomeUnknown),
        (answer(303, location="https://elsewhere.example/?key=another"), RetryLater, OutcomeUnknown),
        (answer(303), RetryLater, OutcomeUnknown),
        (answer(400, lost=True), RetryLater, OutcomeUnknown),
        (answer(500, lost=True), RetryLater, OutcomeUnknown),
        (answer(301, location="https://elsewhere.example/"), AccountBlocked, AccountBlocked),
        (answer(302, location="https://elsewhere.example/"), AccountBlocked, AccountBlocked),
        (answer(307, location="https://elsewhere.example/"), AccountBlocked, AccountBlocked),
        (answer(308, location="https://elsewhere.example/"), AccountBlocked, AccountBlocked),
        (answer(400, "<html>"), AccountBlocked, AccountBlocked),
        (answer(403, "<html>"), AccountBlocked, AccountBlocked),
        (answer(407), AccountBlocked, AccountBlocked),
        (answer(408), RetryLater, RetryLater),
        (answer(429), RetryLater, RetryLater),
        (answer(413, "<html>"), DocumentRefused, DocumentRefused),
    ],
)
def test_without_s3s_words_the_status_decides(told: Answer, before: type[StepError], after: type[StepError]) -> None:
    assert type(meaning(told, may_be_whole=False)) is before
    assert type(meaning(told, may_be_whole=True)) is after


@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_success_counts_only_when_the_whole_file_was_sent(status: int) -> None:
    assert stored(answer(status, etag='"1"')) == StoredObject(etag='"1"')
    assert isinstance(meaning(answer(status), may_be_whole=False), RetryLater)


@pytest.mark.parametrize("lost", [False, True])
def test_a_created_file_tells_where_it_is(lost: bool) -> None:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><PostResponse xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        "<Location>https://b.s3.amazonaws.com/a%2Fb.pdf</Location><Bucket>b</Bucket><Key>a/b.pdf</Key>"
        "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag></PostResponse>"
    )
    assert stored(answer(201, body, lost=lost)) == StoredObject(
        "a/b.pdf", '"d41d8cd98f00b204e9800998ecf8427e"', "https://b.s3.amazonaws.com/a%2Fb.pdf"
    )


def test_a_success_action_redirect_to_our_key_counts_as_stored() -> None:
    told = answer(303, location=f"https://app.example/done?bucket=b&key={KEY}&etag=%221%22")
    assert stored(told) == StoredObject(key=KEY, etag='"1"')


@pytest.mark.parametrize(
    "body",
    [
        "",
        "stored",
        "<PostResponse><Key>",
        "<!DOCTYPE a [<!ENTITY k 'evil'>]><PostResponse><Key>&k;</Key></PostResponse>",
        "<!DOCTYPE PostResponse SYSTEM 'file:///etc/passwd'><PostResponse><Key>evil</Key></PostResponse>",
        f"<PostResponse><Key>evil</Key><A>{'x' * XML_BYTES}</A></PostResponse>",
        "<PostResponse><Key>evil</Key></PostResponse>".encode("utf-16"),
        "<PostResponse/>",
        "<Other><Key>evil</Key></Other>",
    ],
)
def test_xml_that_is_not_plain_is_ignored_and_the_file_still_counts_as_stored(body: str | bytes) -> None:
    assert stored(answer(201, body)) == StoredObject()


@given(
    st.integers(100, 599),
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: f"<Error><Code>{text}</Code></Error>".encode("utf-8", "replace"))
    | st.recursive(st.just("x"), lambda inner: inner.map(lambda xml: f"<a>{xml}</a>")).map(str.encode),
    st.dictionaries(st.sampled_from(["etag", "location", "retry-after"]), st.text("aé:/?&=%;0", max_size=20)),
    st.booleans(),
    st.booleans(),
)
def test_no_answer_raises_anything_but_our_errors(
    status: int, body: bytes, headers: dict[str, str], lost: bool, may_be_whole: bool
) -> None:
    try:
        stored_object(Answer(status, headers, body, lost), may_be_whole=may_be_whole, key=KEY, now=NOW)
    except StepError:
        return
    assert may_be_whole
    assert status in (200, 201, 204, 303)


def test_deeply_nested_xml_does_no_harm() -> None:
    assert stored(answer(201, "<a>" * 9000 + "</a>" * 9000)) == StoredObject()


# --- end to end ------------------------------------------------------------------------------------------------------


def test_the_key_that_storage_names_is_kept_even_where_the_form_left_the_name_open(
    storage: StorageServer, upload: Upload
) -> None:
    upload.form = type(upload.form)(storage.url, {"key": "temp/${filename}"})
    assert upload.send(b"x").key == "temp/referral.pdf"

    def created(visit: Visit) -> None:
        visit.read_all()
        visit.store("201 Created", "<PostResponse><Key>temp/other.pdf</Key></PostResponse>")

    storage.script = created
    assert upload.send(b"x").key == "temp/other.pdf"


@pytest.mark.parametrize("etag", ['"00000000000000000000000000000000"', '"abc-2"', "", '"'])
def test_an_etag_that_is_not_the_md5_is_noted_and_nothing_more(
    storage: StorageServer, upload: Upload, etag: str
) -> None:
    def encrypted(visit: Visit) -> None:
        visit.read_all()
        visit.answer("204 No Content", ETag=etag)

    storage.script = encrypted
    stored = upload.send(b"x")
    assert not stored.etag_verified
    assert stored.etag == (etag.strip('"') or None)


def test_a_redirect_is_not_followed(storage: StorageServer, upload: Upload) -> None:
    with StorageServer() as elsewhere:

        def redirect(visit: Visit) -> None:
            visit.read_all()
            visit.answer("307 Temporary Redirect", Location=elsewhere.url)

        storage.script = redirect
        with pytest.raises(AccountBlocked, match="redirects are not followed"):
            upload.send(b"x")
        assert elsewhere.visits == []
