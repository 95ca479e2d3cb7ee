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
from tasks.model.job import Form
from tasks.sources.stream import BLOCK_BYTES
from tasks.transfer.answers import Sent, StoredObject, stored_object
from tests.tasks.storage_server import StorageServer, Visit
from tests.tasks.transfer.conftest import KEY, Upload

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
MD5 = "5d41402abc4b2a76b9719d911017c592"  # of what was sent
ANOTHER_MD5 = "0123456789abcdef0123456789abcdef"
PAGE = "<!DOCTYPE html><html><head><title>Blocked</title></head><body>This site is blocked.</body></html>"


def error_xml(code: str, message: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
        "<RequestId>1</RequestId><HostId>2</HostId></Error>"
    )


def answer(status: int, body: str | bytes = b"", *, lost: bool = False, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, httpx.Headers(named), body if isinstance(body, bytes) else body.encode(), lost)


def stored(told: Answer, *, may_be_whole: bool = True, form_key: str = KEY) -> StoredObject:
    sent = Sent(Form("https://s3/", {"key": form_key}), KEY, may_be_whole, MD5)
    return stored_object(told, sent, now=NOW)


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
        (503, "SlowDown", "", RetryLater),
        (200, "SlowDown", "", RetryLater),
        (503, "ServiceUnavailable", "", RetryLater),
        (503, "ThrottlingException", "", RetryLater),
        (429, "SomethingNew", "", RetryLater),
        (400, "EntityTooLarge", "", DocumentRefused),
        (400, "SomethingNew", "", DocumentRefused),
    ],
)
def test_s3_errors_are_classed_by_their_code_and_mean_not_stored(
    status: int, code: str, message: str, meant: type[StepError], may_be_whole: bool
) -> None:
    assert type(meaning(answer(status, error_xml(code, message)), may_be_whole=may_be_whole)) is meant


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalError"),
        (200, "InternalError"),
        (408, "RequestTimeout"),  # Ceph: an operation of its own
        (503, "RequestTimeout"),  # MinIO: the same
        (503, "SlowDownWrite"),  # MinIO: too few disks have taken it
    ],
)
def test_an_error_inside_the_storage_leaves_the_outcome_of_a_whole_file_unknown(status: int, code: str) -> None:
    after, before = (meaning(answer(status, error_xml(code)), may_be_whole=whole) for whole in (True, False))
    assert isinstance(after, OutcomeUnknown)
    assert isinstance(before, RetryLater)
    assert code in str(after)
    assert after.unreachable


def test_a_code_that_is_not_s3s_own_is_not_repeated_where_it_would_be_logged() -> None:
    after = meaning(answer(500, error_xml("KariNordmann")), may_be_whole=True)
    assert isinstance(after, OutcomeUnknown)
    assert "HTTP 500" in str(after)
    assert "Kari" not in str(after)


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
    busy, unwell = (meaning(answer(503, error_xml(code))) for code in ("SlowDown", "ServiceUnavailable"))
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


# --- the storage's own evidence --------------------------------------------------------------------------------------


def created_xml(key: str = KEY, etag: str = f"&quot;{ANOTHER_MD5}&quot;") -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><PostResponse xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Location>https://b.s3.amazonaws.com/a%2Fb.pdf</Location><Bucket>b</Bucket><Key>{key}</Key>"
        f"<ETag>{etag}</ETag></PostResponse>"
    )


# As `http/s3_headers.py` lists them.
STORAGES = {
    "AWS": answer(204, x_amz_request_id="GQ6Z", x_amz_id_2="2Xk=", etag=f'"{MD5}"', server="AmazonS3"),
    "AWS, 200": answer(200, x_amz_request_id="GQ6Z", x_amz_id_2="2Xk=", etag=f'"{MD5}"', content_length="0"),
    "AWS, 201": answer(201, created_xml(), x_amz_request_id="GQ6Z", etag=f'"{MD5}"', content_type="application/xml"),
    "AWS, an encrypted bucket": answer(204, x_amz_request_id="GQ6Z", etag=f'"{ANOTHER_MD5}"'),
    "MinIO, JuiceFS": answer(204, x_amz_request_id="18ECCA9E11FE7801", etag=f'"{MD5}"', location="http://x/b/k"),
    "SeaweedFS": answer(200, x_amz_request_id="1796032531000", etag=f'"{MD5}"'),
    "Ceph": answer(204, x_amz_request_id="tx00000a-00656-10aa-default"),
    "Ceph, 200": answer(200, x_amz_request_id="tx00000a-00656-10aa-default", content_length="0"),
    "Ceph, 201": answer(201, f"<PostResponse><Bucket>b</Bucket><Key>{KEY}</Key></PostResponse>"),
    "Wasabi": answer(204, x_amz_request_id="A028DF145DA5409E:B", x_amz_id_2="Qfa=", etag=f'"{MD5}"'),
    "Google": answer(204, x_guploader_uploadid="ADPycdtU", etag=f'"{MD5}"', content_type="text/html; charset=UTF-8"),
    "one that names no request": answer(204, etag=f'"{ANOTHER_MD5}"'),
    "one that names no request, in parts": answer(204, etag=f'"{ANOTHER_MD5}-3"'),
    "one that names the MD5 alone": answer(200, "stored", etag=MD5.upper(), content_type="text/plain"),
    "one whose XML broke off": answer(201, "<Post", lost=True, x_amz_request_id="1", content_type="application/xml"),
    "a redirect": answer(303, location=f"https://app.example/done?bucket=b&key={KEY}&etag=%221%22"),
}
STRANGERS = {
    "a page": answer(200, PAGE, content_type="text/html"),
    "a page of nginx": answer(200, PAGE, content_type="text/html", etag='"5f3b1c2d-264"', server="nginx"),
    "a page with a weak ETag": answer(200, PAGE, content_type="text/html", etag='W/"5f3b1c2d-264"'),
    "a page with an MD5 as its ETag": answer(200, PAGE, content_type="text/html", etag=f'"{ANOTHER_MD5}"'),
    "a page that lies in a bucket": answer(
        200, PAGE, content_type="text/html", etag=f'"{ANOTHER_MD5}"', x_amz_request_id="GQ6Z", server="AmazonS3"
    ),
    "a page as XHTML": answer(200, "<?xml version='1.0'?>" + PAGE, content_type="application/xhtml+xml"),
    "a page that does not say what it is": answer(200, PAGE, x_amz_request_id="1"),
    "an empty page of nginx": answer(200, etag='"5f3b1c2d-0"', server="nginx"),
    "nothing at all": answer(200),
    "nothing at all, 204": answer(204),
    "nothing at all, 201": answer(201),
    "JSON": answer(200, '{"ok": true}', content_type="application/json", x_amz_request_id="1"),
    "the XML of another key": answer(201, created_xml(key="somebody/else.pdf"), x_amz_request_id="1"),
    "XML that says nothing": answer(201, "<PostResponse/>", content_type="application/xml"),
    "a redirect to a login page": answer(303, location="https://portal.example/login?key=1"),
}


@pytest.mark.parametrize("storage_name", STORAGES)
def test_what_every_storage_answers_counts_as_stored(storage_name: str) -> None:
    stored(STORAGES[storage_name])
    assert isinstance(meaning(STORAGES[storage_name], may_be_whole=False), RetryLater)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_success_that_the_storage_has_not_given_counts_for_nothing(stranger: str) -> None:
    before, after = (meaning(STRANGERS[stranger], may_be_whole=whole) for whole in (False, True))
    assert isinstance(before, RetryLater)
    assert isinstance(after, OutcomeUnknown)


def test_the_reason_names_what_answered_and_repeats_nothing_else_of_it() -> None:
    told = answer(200, PAGE + "Anna Smith", content_type="text/html; charset=utf-8; Anna=Smith")
    reason = str(meaning(told))
    assert reason == (
        "The answer to the upload did not come from the storage (200 text/html): a web filter or proxy stands between."
    )
    assert "(204, without S3's marks)" in str(meaning(answer(204, content_type="Anna Smith")))


def test_a_page_counts_towards_the_account_being_down() -> None:
    for whole in (True, False):
        page = meaning(STRANGERS["a page"], may_be_whole=whole)
        assert isinstance(page, OutcomeUnknown | RetryLater)
        assert page.unreachable


@pytest.mark.parametrize("status", [400, 403, 407])
def test_a_refusal_that_is_not_the_storages_says_who_refuses(status: int) -> None:
    refused = meaning(answer(status, PAGE, content_type="text/html"))
    assert isinstance(refused, AccountBlocked)
    assert refused.by_stranger
    assert f"({status} text/html)" in str(refused)


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_portal_that_leads_elsewhere_is_never_the_documents_fault(status: int) -> None:
    elsewhere = meaning(answer(status, PAGE, location="https://portal.example/login"))
    assert isinstance(elsewhere, AccountBlocked)
    assert elsewhere.never_the_document


@pytest.mark.parametrize("lost", [False, True])
def test_a_created_file_tells_where_it_is(lost: bool) -> None:
    assert stored(answer(201, created_xml(), lost=lost)) == StoredObject(
        KEY, f'"{ANOTHER_MD5}"', "https://b.s3.amazonaws.com/a%2Fb.pdf"
    )


@pytest.mark.parametrize(
    ("form_key", "key", "fits"),
    [
        ("temp/${filename}", "temp/another name.pdf", True),
        ("temp/${filename}/x", "temp/another name.pdf/x", True),
        ("temp/${filename}", "temp/", False),
        ("temp/${filename}", "elsewhere/a.pdf", False),
        ("temp/a.pdf", "temp/a.pdf", True),
        ("temp/a.pdf", "temp/b.pdf", False),
    ],
)
def test_the_key_must_be_one_that_the_form_leads_to(form_key: str, key: str, fits: bool) -> None:
    told = answer(201, created_xml(key=key), x_amz_request_id="1", content_type="application/xml")
    if fits:
        assert stored(told, form_key=form_key).key == key
    else:
        with pytest.raises(OutcomeUnknown):
            stored(told, form_key=form_key)


def test_a_success_action_redirect_to_our_key_counts_as_stored() -> None:
    assert stored(STORAGES["a redirect"]) == StoredObject(key=KEY, etag='"1"')


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<PostResponse><Key>",
        "<!DOCTYPE a [<!ENTITY k 'evil'>]><PostResponse><Key>&k;</Key></PostResponse>",
        "<!DOCTYPE PostResponse SYSTEM 'file:///etc/passwd'><PostResponse><Key>evil</Key></PostResponse>",
        f"<PostResponse><Key>evil</Key><A>{'x' * XML_BYTES}</A></PostResponse>",
        "<PostResponse><Key>evil</Key></PostResponse>".encode("utf-16"),
        "<PostResponse/>",
        "<Other><Key>evil</Key></Other>",
    ],
)
def test_xml_that_is_not_plain_is_ignored_and_the_request_id_decides(body: str | bytes) -> None:
    assert stored(answer(201, body, content_type="application/xml", x_amz_request_id="1")) == StoredObject(etag=None)
    assert isinstance(meaning(answer(201, body, content_type="application/xml")), OutcomeUnknown)


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
        stored(Answer(status, headers, body, lost), may_be_whole=may_be_whole)
    except StepError:
        return
    assert may_be_whole
    assert status in (200, 201, 204, 303)


def test_deeply_nested_xml_does_no_harm() -> None:
    deep = "<a>" * 9000 + "</a>" * 9000
    assert stored(answer(201, deep, content_type="application/xml", x_amz_request_id="1")) == StoredObject()


# --- end to end ------------------------------------------------------------------------------------------------------


def test_the_key_that_storage_names_is_kept_even_where_the_form_left_the_name_open(
    storage: StorageServer, upload: Upload
) -> None:
    upload.form = type(upload.form)(storage.url, {"key": "temp/${filename}"})
    assert upload.send(b"x").key == "temp/referral.pdf"

    def created(visit: Visit) -> None:
        visit.read_all()
        visit.answer("201 Created", "<PostResponse><Key>temp/other.pdf</Key></PostResponse>")

    storage.script = created
    assert upload.send(b"x").key == "temp/other.pdf"


@pytest.mark.parametrize("etag", ['"00000000000000000000000000000000"', '"abc-2"', "", '"'])
def test_an_etag_that_is_not_the_md5_is_noted_and_nothing_more(
    storage: StorageServer, upload: Upload, etag: str
) -> None:
    def encrypted(visit: Visit) -> None:
        visit.read_all()
        visit.answer("204 No Content", ETag=etag, x_amz_request_id="GQ6Z")

    storage.script = encrypted
    stored = upload.send(b"x")
    assert not stored.etag_verified
    assert stored.etag == (etag.strip('"') or None)


def test_a_page_proves_nothing_where_no_md5_was_taken() -> None:
    """Neither has an ETag: that both are empty does not make them equal."""
    sent = Sent(Form("https://s3/", {"key": KEY}), KEY, may_be_whole=True, md5="")
    with pytest.raises(OutcomeUnknown):
        stored_object(answer(200, PAGE, content_type="text/html"), sent, now=NOW)
    encrypted = answer(204, x_amz_request_id="GQ6Z", etag=f'"{ANOTHER_MD5}"')
    assert stored_object(encrypted, sent, now=NOW) == StoredObject(None, f'"{ANOTHER_MD5}"')


def filtered(visit: Visit) -> None:
    """A web filter's page, which looks as harmless as a page can."""
    visit.read_all()
    visit.answer("200 OK", PAGE, Content_Type="text/html; charset=utf-8", ETag='"5f3b1c2d-264"', Server="nginx")


def test_a_web_filters_page_is_not_taken_for_an_upload(storage: StorageServer, upload: Upload) -> None:
    storage.script = filtered
    with pytest.raises(OutcomeUnknown, match=r"did not come from the storage \(200 text/html\)"):
        upload.send(b"x")
    assert upload.commits == 1


def test_a_page_that_comes_before_the_whole_file_is_tried_again(storage: StorageServer, upload: Upload) -> None:
    def early(visit: Visit) -> None:
        visit.read_head()
        visit.answer("200 OK", PAGE, Content_Type="text/html")
        visit.stay()

    storage.script = early
    with pytest.raises(RetryLater, match=r"did not come from the storage"):
        upload.send(b"x" * 64 * BLOCK_BYTES)
    assert upload.commits == 0


def test_an_internal_error_after_the_whole_file_leaves_the_outcome_unknown(
    storage: StorageServer, upload: Upload
) -> None:
    def unwell(visit: Visit) -> None:
        visit.read_all()
        visit.answer("500 Internal Server Error", error_xml("InternalError"))

    storage.script = unwell
    with pytest.raises(OutcomeUnknown, match="InternalError"):
        upload.send(b"x")


def test_a_redirect_is_not_followed(storage: StorageServer, upload: Upload) -> None:
    with StorageServer() as elsewhere:

        def redirect(visit: Visit) -> None:
            visit.read_all()
            visit.answer("307 Temporary Redirect", Location=elsewhere.url)

        storage.script = redirect
        with pytest.raises(AccountBlocked, match="redirects are not followed"):
            upload.send(b"x")
        assert elsewhere.visits == []
