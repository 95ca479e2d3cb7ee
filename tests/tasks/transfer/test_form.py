"""What a form shows before a byte is sent."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.hosts import host_allowed
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, PresignAgain, StepError
from tasks.model.job import Form
from tasks.transfer.form import check_form
from tests.tasks.storage_server import StorageServer
from tests.tasks.transfer.conftest import Upload

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
HOSTS = ["*.amazonaws.com"]
URL = "https://bucket.s3.ap-southeast-2.amazonaws.com/"


def encoded(policy: object) -> str:
    return base64.b64encode(json.dumps(policy).encode()).decode()


def form(*conditions: object, expires: object = "2026-11-21T11:00:00Z", url: str = URL, **fields: str) -> Form:
    policy = encoded({"expiration": expires, "conditions": list(conditions)})
    return Form(url, {"key": "temp/a.pdf", "Policy": policy} | fields)


def check(form: Form, size: int = 1000, *, insecure: bool = False, name: str = "a.pdf", now: datetime = NOW) -> str:
    return str(check_form(form, name, size, now, allowed_hosts=HOSTS, insecure=insecure))


# --- where it leads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", [URL, "https://s3.amazonaws.com/bucket", "https://A.B.AMAZONAWS.COM./x?y=z", "https://a.amazonaws.com:8443/"]
)
def test_https_to_an_allowed_host_at_any_depth_is_used(url: str) -> None:
    assert check(form(url=url)).lower().startswith(url.lower()[:20])


@pytest.mark.parametrize(
    "url",
    [
        "http://bucket.s3.amazonaws.com/",
        "https://evilamazonaws.com/",
        "https://amazonaws.com/",
        "https://amazonaws.com.evil.example/",
        "https://evil.example/.amazonaws.com",
        "https://evil.example\\@a.amazonaws.com/",
        "https://evil.example#a.amazonaws.com",
        "https://evil.example?a.amazonaws.com",
        "https://user:secret@a.amazonaws.com/",
        "https://user@a.amazonaws.com/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/",
        "ftp://a.amazonaws.com/",
        "//a.amazonaws.com/",
        "a.amazonaws.com",
        "https://",
        "https:///path",
        "https://a b.amazonaws.com/",
        f"https://{'a' * 64}.amazonaws.com/",
        "https://\udcff.amazonaws.com/",
        "https://a.amazonaws.com:99999/",
        "https://a.amazonaws.com:0/",
        "",
    ],
)
def test_any_other_address_blocks_the_account_and_is_not_quoted(url: str) -> None:
    with pytest.raises(AccountBlocked) as blocked:
        check(form(url=url))
    assert "amazonaws" not in str(blocked.value)
    assert "evil" not in str(blocked.value)


def test_an_insecure_account_may_use_http_and_loopback_but_no_other_host() -> None:
    assert check(form(url="http://127.0.0.1:9000/b"), insecure=True)
    assert check(form(url="http://a.amazonaws.com/b"), insecure=True)
    with pytest.raises(AccountBlocked):
        check(form(url="http://evil.example/b"), insecure=True)


def test_a_host_named_without_a_wildcard_stands_for_itself_alone() -> None:
    assert host_allowed("storage.example", ["storage.example"])
    assert not host_allowed("a.storage.example", ["storage.example"])
    assert not host_allowed("storage.example", [])


# --- what its policy says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "code"), [(9, Code.FILE_EMPTY), (10, None), (2000, None), (2001, Code.FILE_TOO_LARGE)]
)
@pytest.mark.parametrize("limits", [(10, 2000), ("10", "2000")])
def test_a_size_outside_the_range_is_refused(size: int, code: Code | None, limits: tuple[object, object]) -> None:
    limited = form(["content-length-range", *limits])
    if code is None:
        assert check(limited, size)
        return
    with pytest.raises(DocumentRefused) as refused:
        check(limited, size)
    assert refused.value.code is code
    assert str(size) in refused.value.message


def test_an_empty_file_is_refused_whatever_the_policy_allows() -> None:
    with pytest.raises(DocumentRefused, match="file_empty"):
        check(form(["content-length-range", 0, 10]), 0)


@pytest.mark.parametrize("name", ["policy", "Policy", "POLICY"])
def test_the_policy_is_found_whatever_the_case_of_its_field(name: str) -> None:
    limited = encoded({"conditions": [["content-length-range", 0, 10]]})
    with pytest.raises(DocumentRefused):
        check(Form(URL, {"key": "temp/a.pdf", name: limited}))


@pytest.mark.parametrize(
    ("expires", "size", "enough"),
    [
        ("2026-11-21T11:00:00Z", 100_000_000, True),
        ("2026-11-21T10:02:10Z", 100_000_000, False),
        ("2026-11-21T10:02:11.000Z", 100_000_000, True),
        ("2026-11-21T10:00:31Z", 1000, True),
        ("2026-11-21T10:00:30Z", 1000, False),
        ("2026-11-21T11:00:31+01:00", 1000, True),
        ("2026-11-21T10:00:31", 1000, True),
        ("2026-11-21T09:59:00Z", 1, False),
        ("1970-01-01T00:00:00Z", 1, False),
    ],
)
def test_a_form_must_last_as_long_as_the_upload_may_take(expires: str, size: int, enough: bool) -> None:
    if enough:
        assert check(form(expires=expires), size)
        return
    with pytest.raises(PresignAgain):
        check(form(expires=expires), size)


def test_a_fresh_form_is_used_even_if_its_whole_life_is_short() -> None:
    """Asking for another one would never end."""
    short = form(expires="2026-11-21T10:00:20Z", **{"X-Amz-Date": "20261121T100000Z"})
    assert check(short, 100_000_000, now=NOW + timedelta(seconds=1))
    with pytest.raises(PresignAgain):
        check(short, 100_000_000, now=NOW + timedelta(seconds=5))
    with pytest.raises(PresignAgain):
        check(short, 1, now=NOW + timedelta(seconds=20))


def test_a_form_that_expired_before_it_was_issued_is_not_used() -> None:
    with pytest.raises(PresignAgain):
        check(form(expires="2026-11-21T09:59:00Z", **{"x-amz-date": "20261121T100000Z"}))


@pytest.mark.parametrize(
    ("condition", "meets"),
    [
        ({"key": "temp/a.pdf"}, True),
        (["eq", "$key", "temp/a.pdf"], True),
        (["starts-with", "$key", "temp/"], True),
        (["starts-with", "$Key", ""], True),
        ({"key": "temp/b.pdf"}, False),
        (["eq", "$key", "temp/"], False),
        (["starts-with", "$key", "other/"], False),
    ],
)
def test_a_key_that_disagrees_with_the_policy_blocks_the_account(condition: object, meets: bool) -> None:
    if meets:
        assert check(form(condition))
        return
    with pytest.raises(AccountBlocked, match="policy"):
        check(form(condition))


def test_the_name_is_put_into_the_key_before_it_is_compared() -> None:
    left_open = form({"key": "temp/b.pdf"}, key="temp/${filename}")
    assert check(left_open, name="folder/b.pdf")
    with pytest.raises(AccountBlocked):
        check(left_open, name="c.pdf")


@pytest.mark.parametrize("fields", [{}, {"Policy": ""}, {"key": "k", "File": "x"}, {"key": "\ud800"}])
def test_a_form_that_cannot_work_blocks_the_account(fields: dict[str, str]) -> None:
    with pytest.raises(AccountBlocked, match="form"):
        check(Form(URL, fields))


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "not base64 !",
        "é",
        base64.b64encode(b"not json").decode(),
        base64.b64encode(b"\xff\xff").decode(),
        encoded([]),
        encoded({"expiration": 5, "conditions": 7}),
        encoded({"expiration": "soon", "conditions": [[], ["eq"], 5, None, ["eq", 5, "x"], ["eq", "$key", 7]]}),
        encoded({"conditions": [["content-length-range", "a", None], ["content-length-range", True, True]]}),
        base64.b64encode(b"[" * 100_000).decode(),
        base64.b64encode(b'{"conditions": [["content-length-range", 0, ' + b"9" * 5000 + b"]]}").decode(),
    ],
)
def test_a_policy_that_cannot_be_read_does_not_stop_the_upload(policy: str) -> None:
    assert check(Form(URL, {"key": "temp/a.pdf", "policy": policy}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
conditions = st.lists(
    json_values
    | st.tuples(st.sampled_from(["eq", "starts-with", "content-length-range"]), json_values, json_values).map(list)
)
policies = st.fixed_dictionaries(
    {}, optional={"expiration": json_values | st.datetimes().map(str), "conditions": conditions}
)


@given(policies.map(encoded) | st.text(max_size=100), st.integers(1, 10**12), st.text(max_size=20))
def test_no_form_raises_anything_but_our_errors(policy: str, size: int, date: str) -> None:
    strange = Form(URL, {"key": "temp/a.pdf", "Policy": policy, "x-amz-date": date})
    with contextlib.suppress(StepError):
        check(strange, size)


@given(st.text(max_size=40) | st.text("ahtps:/@#?[]1.%-\\", max_size=40).map("https://".__add__))
def test_no_address_raises_anything_but_our_errors(url: str) -> None:
    with pytest.raises(AccountBlocked):
        check(form(url=url))


def test_nothing_is_sent_when_the_form_shows_that_it_would_be_in_vain(storage: StorageServer, upload: Upload) -> None:
    upload.form = form(["content-length-range", 5, 10], expires="2999-01-01T00:00:00Z", url=storage.url)
    with pytest.raises(DocumentRefused):
        upload.send(b"x" * 11)
    assert (storage.visits, upload.calls, upload.commits) == ([], 0, 0)
    upload.send(b"x" * 10)
