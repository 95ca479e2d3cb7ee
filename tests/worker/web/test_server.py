"""What every answer has in common, and what a server does with clients that mean harm."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.ledger import keys
from tests.harness.page import PASSWORD, ServedPage, form_token, logging_as_a_service, rest_of, served_page, status_of
from tests.harness.valkey import FaultyValkey, everything_in
from tests.harness.waiting import wait_until
from worker.web import connections, passwords, server, visit
from worker.web.visit import Visit

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of a moment, so that a test sees their end."""
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(connections, "DRAIN_SECONDS", 0.5)
    monkeypatch.setattr(visit, "_FORM_SECONDS", 0.5)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/login", 200),
        ("HEAD", "/login", 200),
        ("GET", "/", 303),
        ("HEAD", "/", 303),
        ("GET", "/nothing", 404),
        ("GET", "/login/", 404),
        ("GET", "/static/nothing.css", 404),
        ("GET", "/static/../users.py", 404),
        ("GET", "/static/%2e%2e/users.py", 404),
        ("OPTIONS", "/", 405),
        ("TRACE", "/login", 405),
        ("DELETE", "/login", 405),
        ("NONSENSE", "/", 405),
        ("GET", "/logout", 405),
        ("POST", "/logout", 303),
        ("POST", "/login", 413),
    ],
)
def test_every_answer_tells_browsers_to_be_careful_and_to_keep_nothing(
    page: ServedPage, method: str, path: str, status: int
) -> None:
    request = f"{method} {path} HTTP/1.1\r\nHost: {page.host}\r\nConnection: close\r\n\r\n"
    answer = page.ask(request.encode()).decode()
    head, _, body = answer.partition("\r\n\r\n")
    told = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:])
    assert status_of(answer.encode()) == status
    assert {name: told.get(name) for name in HEADERS} == {name: value.lower() for name, value in HEADERS.items()}
    assert told["cache-control"] == "no-store"
    assert "server" not in told
    assert "Traceback" not in body
    assert (status == 405) == ("allow" in told)
    assert method != "HEAD" or not body


def test_style_and_script_are_asked_for_each_time(page: ServedPage) -> None:
    with page.client() as client:
        answer = client.get("/static/chartpost.css")
        assert answer.headers["cache-control"] == "no-cache"
        again = client.get("/static/chartpost.css", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")


@pytest.mark.parametrize("host", ["evil.example", "", "localhost@evil.example", "[::1", "evil.example:80", "127.0.0.2"])
def test_another_host_name_is_refused_before_anything_else(page: ServedPage, host: str) -> None:
    answer = page.ask(f"GET /login HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert status_of(answer) == 421
    assert b"web.url" in answer


@pytest.mark.parametrize("host", ["localhost:1234", "LOCALHOST", "127.0.0.1", "[::1]:8025"])
def test_this_machines_own_names_are_known(page: ServedPage, host: str) -> None:
    answer = page.ask(f"GET /login HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert status_of(answer) == 200


def post(page: ServedPage, headers: str, body: bytes = b"") -> bytes:
    head = f"POST /login HTTP/1.1\r\nHost: {page.host}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + body


FORM = "Content-Type: application/x-www-form-urlencoded\r\n"


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (FORM + "Content-Length: 8193\r\n", b"a" * 8193, 413),
        (FORM + "Content-Length: 99999999999999999999\r\n", b"", 413),
        (FORM + "Transfer-Encoding: chunked\r\n", b"5\r\nname=\r\n0\r\n\r\n", 413),
        (FORM + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"5\r\nname=\r\n0\r\n\r\n", 413),
        (FORM + "Content-Length: 4001\r\n", b"&".join([b"a"] * 2001), 400),
        ("Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 5\r\n", b"--y\r\n", 400),
        ("Content-Type: multipart/form-data\r\nContent-Length: 5\r\n", b"--y\r\n", 400),
        ("Content-Type: text/plain\r\nContent-Length: 5\r\n", b"name=", 403),
    ],
    ids=["large", "huge", "chunked", "two lengths", "many fields", "another boundary", "no boundary", "not a form"],
)
def test_forms_that_no_browser_of_ours_would_send_are_refused(
    page: ServedPage, fresh_limits: None, headers: str, body: bytes, status: int
) -> None:
    assert status_of(page.ask(post(page, headers, body))) == status


@settings(max_examples=60)
@given(
    body=st.binary(max_size=300),
    kind=st.sampled_from(["multipart/form-data; boundary=x", "multipart/form-data; boundary=x; charset=nonsense"]),
    cookie=st.binary(max_size=60).map(lambda raw: bytes(each for each in raw if each >= 32 and each != 127)),
)
def test_rubbish_is_refused_and_never_a_failure(page: ServedPage, body: bytes, kind: str, cookie: bytes) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="name"' + body
    head = f"POST /language HTTP/1.1\r\nHost: {page.host}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    answer = page.ask(head.encode() + b"Cookie: " + cookie + b"\r\nConnection: close\r\n\r\n" + body)
    assert status_of(answer) in (303, 400)


@settings(max_examples=60)
@given(cookie=st.binary(max_size=80).map(lambda raw: bytes(each for each in raw if each >= 32 and each != 127)))
def test_no_cookie_is_a_failure_or_lets_anybody_in(page: ServedPage, cookie: bytes) -> None:
    for value in (cookie, b"chartpost=" + cookie, b"chartpost_language=" + cookie):
        head = f"GET / HTTP/1.1\r\nHost: {page.host}\r\nConnection: close\r\nCookie: ".encode()
        assert status_of(page.ask(head + value + b"\r\n\r\n")) == 303


def test_an_error_tells_neither_the_browser_nor_the_log_what_was_typed(
    page: ServedPage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a-patients-name")

    monkeypatch.setattr(Visit, "render", broken)
    with page.logged_in("anna") as client, logging_as_a_service():
        answer = client.get("/")
        said = capsys.readouterr().err
    assert answer.status_code == 500
    assert answer.headers["x-frame-options"] == "DENY"
    assert "That did not work" in answer.text
    assert "page_failed" in said
    assert "test_server.py" in said, "where it happened"
    for told in (answer.text, said):
        assert "a-patients-name" not in told
        assert "Traceback" not in told


def test_headers_that_come_byte_by_byte_end_the_connection(page: ServedPage, impatient: None) -> None:
    with page.connect() as connection:
        began = time.monotonic()
        for byte in b"GET /login HTTP/1.1\r\nX: " + b"y" * 10_000:
            try:
                connection.send(bytes([byte]))
            except OSError:
                break
            time.sleep(0.05)
        assert time.monotonic() - began < 100, "the server has ended it long before the last byte"
        assert rest_of(connection) == b""


def test_a_client_that_says_nothing_is_not_waited_for(page: ServedPage, impatient: None) -> None:
    with page.connect() as connection:
        assert rest_of(connection) == b""


def test_a_form_that_does_not_come_is_answered_and_ends(page: ServedPage, impatient: None) -> None:
    with page.connect() as connection:
        connection.sendall(post(page, FORM + "Content-Length: 20\r\n", b"name="))
        assert status_of(rest_of(connection)) == 408


def test_what_follows_a_refusal_is_not_taken_for_ever(page: ServedPage, impatient: None) -> None:
    head = f"POST /login HTTP/1.1\r\nHost: {page.host}\r\n{FORM}Content-Length: 99999999\r\n\r\n".encode()
    with page.connect() as connection:
        connection.sendall(head)
        assert status_of(connection.recv(65536)) == 413
        for _ in range(10_000):
            try:
                connection.send(b"x")
            except OSError:
                return
            time.sleep(0.02)
    raise AssertionError("the server still listens")


def test_one_address_has_only_so_many_connections(page: ServedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "OF_ONE_ADDRESS", 3)
    ask = f"HEAD /login HTTP/1.1\r\nHost: {page.host}\r\n\r\n".encode()
    with ExitStack() as opened:
        several = [opened.enter_context(page.connect()) for _ in range(5)]
        for each in several:
            each.sendall(ask)
            assert status_of(each.recv(65536)) == 200, "this machine's, and a proxy's, are those of many people"
    monkeypatch.setattr(server, "is_loopback", lambda _: False)
    with ExitStack() as opened:
        first = opened.enter_context(page.connect())
        first.sendall(ask)
        assert status_of(first.recv(65536)) == 200
        others = [opened.enter_context(page.connect()) for _ in range(4)]
        assert rest_of(others[-1]) == b"", "ended at once"
        first.sendall(ask)
        assert status_of(first.recv(65536)) == 200, "and the earlier ones go on"


def test_a_connection_may_be_used_again_and_again(page: ServedPage) -> None:
    with page.client() as client:
        for _ in range(3):
            assert client.get("/login").status_code == 200
            assert client.post("/login", content=b"x" * 9000, headers={"Content-Type": "x"}).status_code == 413


def test_people_are_served_while_strangers_try_passwords(page: ServedPage, fresh_limits: None) -> None:
    """Passwords have few of the process's forty threads, however many wait to be checked."""
    names = [f"person{number}" for number in range(45)]
    for name in names:
        page.add(name)
    tries = [threading.Thread(target=_log_in, args=(page, name)) for name in names]
    with page.logged_in("anna") as anna, ExitStack() as held:
        for _ in range(passwords.AT_ONCE):
            held.enter_context(passwords.slots)
        for each in tries:
            each.start()
        wait_until(lambda: _counted(page) >= 4, "the first tries wait for their check")
        for _ in range(30):  # while the others arrive
            assert anna.get("/").status_code == 200
    for each in tries:
        each.join(60)


def _log_in(page: ServedPage, name: str) -> None:
    form = f"name={name}&password=wrong".encode()
    page.ask(post(page, FORM + f"Content-Length: {len(form)}\r\n", form))


def _counted(page: ServedPage) -> int:
    return len(page.runtime.redis.keys("chartpost:web-logins:*")) // 2


def test_while_redis_is_away_a_sentence_says_so(tmp_path: Path) -> None:
    valkey = FaultyValkey(tmp_path / "valkey")
    url = valkey.start()
    try:
        with served_page(tmp_path / "page", url) as page:
            page.add("anna")
            with page.logged_in("anna") as client:
                valkey.kill()
                answer = client.get("/")
                assert answer.status_code == 503
                assert "chartpost cannot be reached" in answer.text
                assert page.log_in(client, "anna").status_code == 503
                valkey.start()
                assert client.get("/").status_code == 200
    finally:
        valkey.stop()


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="This machine has no IPv6.")
def test_it_listens_at_ipv6_too(folder: Path, valkey_url: str) -> None:
    ask = b"GET /login HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n"
    with served_page(folder, valkey_url, 'address = "::1"', flush=False) as page:
        assert status_of(page.ask(ask)) == 200


def test_a_session_ends_after_its_idle_time_unless_somebody_asks(folder: Path, valkey_url: str) -> None:
    with served_page(folder, valkey_url, "session_idle_minutes = 30", flush=False) as page:
        page.add("anna")
        with page.logged_in("anna") as client:
            key = keys.web_session(page.runtime.seal.lookup("web session", client.cookies["chartpost"]))
            page.runtime.redis.expire(key, 100)
            client.get("/", headers={visit.REFRESH_HEADER: "yes"})
            assert page.runtime.redis.ttl(key) <= 100, "a page that asks by itself keeps no session alive"
            client.get("/")
            assert 1700 < page.runtime.redis.ttl(key) <= 1800
            page.runtime.redis.delete(key)
            assert client.get("/").headers["location"] == "/login"


def test_nothing_in_redis_lets_its_reader_in(folder: Path, valkey_url: str) -> None:
    with served_page(folder, valkey_url) as page:
        page.add("anna")
        with page.logged_in("anna") as client:
            token = client.cookies["chartpost"]
            shown = form_token(client.get("/").text)
            everything = everything_in(page.runtime.redis)
    assert "web-session" in everything
    for secret in (token, shown, PASSWORD, "anna"):
        assert secret not in everything
