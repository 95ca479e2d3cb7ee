"""Logging in and out, over HTTP: what a person gets, and what a stranger does not."""

from __future__ import annotations

import json
import re

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.page import PASSWORD, ServedPage, form_token, logging_as_a_service
from worker.web.pages.login import our_page
from worker.web.users import Right

pytestmark = pytest.mark.usefixtures("fresh_limits")


def audit_lines(page: ServedPage) -> list[dict[str, str]]:
    return [json.loads(line) for path in (page.data / "audit").iterdir() for line in path.read_text().splitlines()]


def test_a_person_logs_in_and_sees_their_clinics(page: ServedPage) -> None:
    with page.client() as client:
        assert client.get("/").headers["location"] == "/login"
        answer = page.log_in(client, "looker")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        shown = client.get("/")
    assert shown.status_code == 200
    assert "north_clinic" in shown.text
    assert "south_clinic" not in shown.text


def test_the_name_may_be_written_in_capitals_and_with_blanks(page: ServedPage) -> None:
    with page.client() as client:
        assert page.log_in(client, "  Anna ").status_code == 303


def test_the_cookie_is_for_this_site_alone_and_hidden_from_scripts(page: ServedPage) -> None:
    with page.client() as client:
        cookie = page.log_in(client, "anna").headers["set-cookie"].lower()
    assert re.match(r"chartpost=[\w-]{43}; ", cookie)
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/" in cookie
    assert "domain" not in cookie


def test_a_session_is_never_one_that_the_browser_brought_along(page: ServedPage) -> None:
    with page.client() as client:
        client.cookies.set("chartpost", "chosen-by-a-stranger")
        page.log_in(client, "anna")
        given = [cookie.value for cookie in client.cookies.jar if cookie.name == "chartpost"]
    assert "chosen-by-a-stranger" not in given[-1:]
    with page.client(cookies={"chartpost": "chosen-by-a-stranger"}) as stranger:
        assert stranger.get("/").status_code == 303


def test_logging_in_again_ends_the_session_before(page: ServedPage) -> None:
    with page.logged_in("anna") as client:
        first = client.cookies["chartpost"]
        page.log_in(client, "looker")
    with page.client(cookies={"chartpost": first}) as client:
        assert client.get("/").status_code == 303


def test_after_login_the_person_goes_on_where_they_were(page: ServedPage) -> None:
    with page.client() as client:
        assert client.get("/jobs/some-id").status_code == 404  # there is no page of that name yet
        shown = client.get("/login?next=/jobs/some-id")
        assert 'name="next" value="/jobs/some-id"' in shown.text
        wrong = client.post("/login", data={"name": "anna", "password": "wrong", "next": "/jobs/some-id"})
        assert 'name="next" value="/jobs/some-id"' in wrong.text
        right = client.post("/login", data={"name": "anna", "password": PASSWORD, "next": "/jobs/some-id"})
        assert right.headers["location"] == "/jobs/some-id"


@pytest.mark.parametrize(
    "address",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/%2f%2fevil.example",
        "",
        "/a\r\nSet-Cookie: x=y",
        "/.",
    ],
    ids=["two slashes", "backslash", "https", "script", "tab", "encoded", "empty", "line break", "dot"],
)
def test_nobody_is_sent_to_another_site(page: ServedPage, address: str) -> None:
    with page.client() as client:
        answer = client.post("/login", data={"name": "anna", "password": PASSWORD, "next": address})
        assert answer.headers["location"] == "/"
        answer = client.post("/language", data={"language": "de", "next": address})
        assert answer.headers["location"] == "/"


@given(st.one_of(st.text(), st.text("/\\:.@?#%\t\r\n abz0", max_size=12)))
def test_whatever_is_asked_for_the_next_page_is_on_this_site(address: str) -> None:
    there = httpx.URL("http://here.example").join(our_page(address))
    assert there.host == "here.example"
    assert there.scheme == "http"
    assert our_page(address).isprintable()


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(page: ServedPage) -> None:
    with page.client() as client:
        wrong = page.log_in(client, "anna", "a wrong password")
        unknown = page.log_in(client, "nobody", "a wrong password")
    assert (wrong.status_code, unknown.status_code) == (403, 403)
    assert wrong.text == unknown.text
    assert "set-cookie" not in wrong.headers


def test_a_person_without_a_password_cannot_log_in(page: ServedPage) -> None:
    page.add("by_proxy", password=None)
    with page.client() as client:
        for password in ("", "None", "null"):
            assert page.log_in(client, "by_proxy", password).status_code == 403


def test_after_ten_wrong_tries_even_the_right_password_waits(page: ServedPage) -> None:
    with page.client() as client:
        assert {page.log_in(client, "anna", f"wrong {number}").status_code for number in range(10)} == {403}
        answer = page.log_in(client, "anna")
        assert answer.status_code == 429
        assert page.log_in(client, "looker").status_code == 303, "another person at the same place is let in"


def test_neither_log_nor_record_has_what_was_typed(page: ServedPage, capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as_a_service(), page.client() as client:
        page.log_in(client, "my-password-in-the-name", "typed-secret-1")
        page.log_in(client, "anna", "typed-secret-2")
        client.get("/find?patient=typed-secret-3")
    said = capsys.readouterr().err
    assert "login_failed" in said
    recorded = json.dumps(audit_lines(page))
    assert '"anna"' in recorded
    for secret in ("my-password-in-the-name", "typed-secret"):
        assert secret not in said
        assert secret not in recorded


def test_logins_are_recorded_with_their_outcome(page: ServedPage) -> None:
    before = len(audit_lines(page))
    with page.client() as client:
        page.log_in(client, "anna", "wrong")
        page.log_in(client, "anna")
        client.post("/logout", data={"form_token": form_token(client.get("/").text)})
    lines = audit_lines(page)[before:]
    assert [(line["user"], line["act"], line.get("outcome")) for line in lines] == [
        ("anna", "log_in", "refused"),
        ("anna", "log_in", "done"),
        ("anna", "today", None),
        ("anna", "log_out", "done"),
    ]
    assert {line["address"] for line in lines} == {"127.0.0.1"}


def test_who_cannot_be_recorded_does_not_get_in(page: ServedPage) -> None:
    kept = page.data / "audit-elsewhere"
    (page.data / "audit").mkdir(exist_ok=True)
    (page.data / "audit").rename(kept)
    (page.data / "audit").touch()  # as a disk that takes nothing
    try:
        with page.client() as client:
            answer = page.log_in(client, "anna")
    finally:
        (page.data / "audit").unlink()
        kept.rename(page.data / "audit")
    assert answer.status_code == 500
    assert "The disk did not take it" in answer.text
    assert "set-cookie" not in answer.headers


def test_logging_out_ends_the_session_for_everybody_who_has_the_cookie(page: ServedPage) -> None:
    with page.logged_in("anna") as client:
        cookie = client.cookies["chartpost"]
        answer = client.post("/logout", data={"form_token": form_token(client.get("/").text)})
    assert answer.headers["location"] == "/login"
    assert answer.headers["clear-site-data"] == '"cache", "storage"'
    assert 'chartpost=""' in answer.headers["set-cookie"]
    with page.client(cookies={"chartpost": cookie}) as client:
        assert client.get("/").status_code == 303


def test_a_form_without_the_sessions_token_does_nothing(page: ServedPage) -> None:
    with page.logged_in("anna") as client, page.logged_in("looker") as other:
        theirs = form_token(other.get("/").text)
        for fields in ({}, {"form_token": ""}, {"form_token": theirs}, {"form_token": "ä"}):
            assert client.post("/logout", data=fields).status_code == 403
        assert client.get("/").status_code == 200, "still logged in"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=["another site", "a sandboxed frame", "another port", "rubbish", "cross-site", "same-site"],
)
def test_forms_of_other_sites_do_nothing(page: ServedPage, headers: dict[str, str]) -> None:
    with page.client() as client:
        assert page.log_in(client, "anna", **headers).status_code == 403
        assert client.post("/language", data={"language": "de"}, headers=headers).status_code == 403
    with page.logged_in("anna") as client:
        token = form_token(client.get("/").text)
        assert client.post("/logout", data={"form_token": token}, headers=headers).status_code == 403
        assert client.get("/").status_code == 200


def test_our_own_forms_are_taken(page: ServedPage) -> None:
    with page.client() as client:
        assert page.log_in(client, "anna", **{"Origin": page.url, "Sec-Fetch-Site": "same-origin"}).status_code == 303


def test_another_password_or_right_ends_the_sessions_begun_before(page: ServedPage) -> None:
    page.add("carl")
    with page.logged_in("carl") as client:
        assert client.get("/").status_code == 200
        page.add("carl", may={"north_clinic": Right.LOOK})
        assert client.get("/").status_code == 303
    with page.logged_in("carl") as client:
        page.users.remove("carl")
        assert client.get("/").status_code == 303


def test_a_part_of_a_page_for_nobody_leads_to_the_login_as_a_whole(page: ServedPage) -> None:
    with page.client() as client:
        answer = client.get("/", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"], answer.text) == (401, "/login", "")


def test_every_language_can_be_chosen_and_no_other(page: ServedPage) -> None:
    with page.client() as client:
        for language in ("de", "nb", "nl", "en"):
            assert client.post("/language", data={"language": language, "next": "/login"}).status_code == 303
            assert f'<html lang="{language}">' in client.get("/login").text
        client.post("/language", data={"language": "../../etc"})
        assert '<html lang="en">' in client.get("/login").text
    with page.client() as client:
        assert '<html lang="nb">' in client.get("/login", headers={"Accept-Language": "nn-NO,nn;q=0.9"}).text
        assert '<html lang="en">' in client.get("/login", headers=[(b"Accept-Language", b",;=\xff")]).text


def test_what_stands_in_data_dir_is_for_nobody_else(page: ServedPage) -> None:
    for path in (page.data / "web-users.json", page.data / "web-users.lock", *(page.data / "audit").iterdir()):
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert (page.data / "audit").stat().st_mode & 0o777 == 0o700
