"""Who is at the other end: what is believed of headers, and from whom."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from config.settings import Web
from tests.harness.page import ServedPage, form_token, served_page
from worker.web.origin import address_of, is_known_host, is_our_page, peer_of, user_told_by_proxy

PROXY = Web(trusted_proxies=("192.0.2.1", "10.0.0.0/8"), user_header="X-Remote-User")


def request(peer: str, *headers: tuple[str, str]) -> Request:
    raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers]
    return Request({"type": "http", "client": (peer, 1), "headers": raw})


def forwarded(*lines: str, peer: str = "192.0.2.1") -> str:
    return address_of(request(peer, *(("X-Forwarded-For", line) for line in lines)), PROXY)


def test_a_stranger_who_says_where_they_come_from_is_not_believed() -> None:
    assert forwarded("203.0.113.9", peer="198.51.100.7") == "198.51.100.7"


def test_a_proxy_is_believed() -> None:
    assert forwarded("203.0.113.9") == "203.0.113.9"
    assert forwarded() == "192.0.2.1"


def test_what_the_browser_wrote_before_the_proxy_is_not_believed() -> None:
    assert forwarded("127.0.0.1, 203.0.113.9") == "203.0.113.9"
    assert forwarded("127.0.0.1", "203.0.113.9") == "203.0.113.9", "a proxy that adds a line of its own"


def test_proxies_in_a_row_are_followed_to_the_first_that_is_not_ours() -> None:
    assert forwarded("127.0.0.1, 203.0.113.9, 10.1.2.3, 10.0.0.1") == "203.0.113.9"
    assert forwarded("10.1.2.3, 10.0.0.1") == "10.1.2.3"


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("unknown", "192.0.2.1"),
        ("Anna Müller", "192.0.2.1"),
        ("", "192.0.2.1"),
    ],
    ids=["with a port", "IPv6 with a port", "IPv6", "IPv4 in IPv6", "unknown", "a name", "empty"],
)
def test_an_address_is_written_in_one_way_and_nothing_else_is_one(written: str, address: str) -> None:
    assert forwarded(written) == address


def test_ipv4_on_a_socket_for_both_is_ipv4() -> None:
    assert peer_of(request("::ffff:192.0.2.1")) == "192.0.2.1"
    assert forwarded("203.0.113.9", peer="::ffff:192.0.2.1") == "203.0.113.9"


@given(st.lists(st.text(max_size=40), max_size=4))
def test_whatever_is_forwarded_an_address_comes_out(lines: list[str]) -> None:
    address = forwarded(*lines)
    assert all(character in "0123456789abcdef.:%" or character.isalnum() for character in address)
    assert "," not in address


def test_only_a_trusted_proxy_says_who_somebody_is() -> None:
    told = ("X-Remote-User", "anna")
    assert user_told_by_proxy(request("192.0.2.1", told), PROXY) == "anna"
    assert user_told_by_proxy(request("198.51.100.7", told), PROXY) is None
    assert user_told_by_proxy(request("192.0.2.1", told), Web(trusted_proxies=("192.0.2.1",))) is None


def test_a_proxy_that_tells_nobody_or_two_tells_nobody() -> None:
    assert user_told_by_proxy(request("192.0.2.1"), PROXY) == ""
    two = [("X-Remote-User", "admin"), ("X-Remote-User", "anna")]
    assert user_told_by_proxy(request("192.0.2.1", *two), PROXY) == ""


@pytest.mark.parametrize(
    ("origin", "ours"),
    [
        ("https://chart.clinic.example", True),
        ("https://chart.clinic.example:443", True),
        ("https://CHART.clinic.example", True),
        ("http://chart.clinic.example", False),
        ("https://chart.clinic.example.evil.example", False),
        ("https://chart.clinic.example:8443", False),
        ("null", False),
        ("", False),
        ("file://", False),
        ("https://[", False),
        ("https://chart.clinic.example:99999", False),
    ],
)
def test_a_page_is_ours_by_scheme_name_and_port(origin: str, ours: bool) -> None:
    web = Web(url="https://chart.clinic.example")
    assert is_our_page(origin, "chart.clinic.example", web) is ours
    assert is_our_page(origin, "127.0.0.1:8025", web) is ours, "behind a proxy that sends another Host"


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_origin_and_host_are_it_is_an_answer(origin: str, host: str) -> None:
    web = Web(url="https://chart.clinic.example")
    assert is_our_page(origin, host, web) in (True, False)
    if is_known_host(host, "192.0.2.9", web):
        assert host.lower().split(":")[0].strip("[]") in (
            "localhost",
            "127.0.0.1",
            "192.0.2.9",
            "chart.clinic.example",
            "",
        )


def test_the_address_of_the_connection_is_a_known_host_and_the_unspecified_one_is_not() -> None:
    web = Web(address="0.0.0.0", url="https://chart.clinic.example")  # noqa: S104
    assert is_known_host("192.0.2.9:8025", "192.0.2.9", web)
    assert is_known_host("[2001:db8::9]", "2001:db8::9", web)
    assert is_known_host("chart.clinic.example", "192.0.2.9", web)
    assert not is_known_host("0.0.0.0:8025", "192.0.2.9", web)


BEHIND = """trusted_proxies = ["127.0.0.1"]
user_header = "X-Remote-User"
url = "https://chart.clinic.example"
"""


@pytest.fixture(scope="module")
def behind(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    with served_page(tmp_path_factory.mktemp("behind"), valkey_url, BEHIND) as page:
        page.add("anna", password=None)
        yield page


def as_user(page: ServedPage, *names: str) -> httpx.Response:
    headers = [(b"X-Remote-User", name.encode("latin-1")) for name in names]
    with page.client() as client:
        return client.get("/", headers=[*headers, (b"X-Forwarded-For", b"127.0.0.1, 203.0.113.9")])


def test_a_proxy_lets_a_person_in_without_a_password(behind: ServedPage) -> None:
    shown = as_user(behind, "Anna")
    assert shown.status_code == 200
    assert "Log out" not in shown.text, "only the proxy can"
    assert '"address": "203.0.113.9"' in next((behind.data / "audit").iterdir()).read_text()
    assert "max-age" in shown.headers["strict-transport-security"]


@pytest.mark.parametrize("names", [(), ("",), ("nobody",), ("anna", "anna"), ("ä",)], ids=repr)
def test_a_proxy_that_names_nobody_known_lets_nobody_in(behind: ServedPage, names: tuple[str, ...]) -> None:
    answer = as_user(behind, *names)
    assert answer.status_code == 403
    assert "Nobody has given you access" in answer.text


def test_a_form_of_a_person_behind_a_proxy_needs_their_own_token(behind: ServedPage) -> None:
    behind.add("berta", password=None)
    theirs = form_token(as_user(behind, "berta").text)
    own = form_token(as_user(behind, "anna").text)
    with behind.client(headers={"X-Remote-User": "anna", "Origin": "https://chart.clinic.example"}) as client:
        assert client.post("/logout", data={"form_token": theirs}).status_code == 403
        assert client.post("/logout", data={"form_token": own}).status_code == 303


def test_over_https_the_cookie_is_secure_and_of_this_host(
    valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with served_page(tmp_path_factory.mktemp("https"), valkey_url, 'url = "https://chart.clinic.example"') as page:
        page.add("anna")
        with page.client() as client:
            cookie = page.log_in(client, "anna").headers["set-cookie"]
    assert cookie.startswith("__Host-chartpost=")
    assert "; Secure" in cookie
