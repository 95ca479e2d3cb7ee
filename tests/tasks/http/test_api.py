"""Clients, answers, and how long the other side asks us to wait."""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from config.types import ProxyAddress
from tasks.http.api import ApiClient, parse_answer
from tasks.http.clients import Client, Clients, Handles
from tasks.http.exchange import JSON_BYTES, Answer
from tasks.http.provider_clock import ProviderClock
from tasks.http.retry_after import asked_wait, retry_after
from tasks.http.trust import trust
from tasks.model.errors import AccountBlocked, RetryLater
from tests.tasks.storage_server import StorageServer, Visit

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)


# --- waiting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17),
        (" 17 ", 17),
        ("0", 1),
        ("999999", 3600),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 1),
        (format_datetime(NOW + timedelta(days=1), usegmt=True), 3600),
        ("Sat, 21 Nov 2026 10:00:30 -0000", 30),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 1),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1e3", None),
        ("٣", None),
        ("9" * 400, None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_held_in_bounds(value: str, seconds: float | None) -> None:
    assert asked_wait({"retry-after": value}, NOW) == seconds


@pytest.mark.parametrize(("offset", "seconds"), [(30, 30), (-30, 1), (0, 1), (500, 120), (None, None)])
def test_the_rate_limits_reset_is_a_moment_and_held_in_bounds(offset: int | None, seconds: float | None) -> None:
    value = "" if offset is None else str(int(NOW.timestamp()) + offset)
    assert asked_wait({"x-ratelimit-reset": value}, NOW) == seconds


def test_retry_after_goes_before_the_rate_limits_reset() -> None:
    reset = str(int(NOW.timestamp()) + 30)
    assert asked_wait({"retry-after": "7", "x-ratelimit-reset": reset}, NOW) == 7


@given(st.text() | st.text("0123456789:+-, JanFebGMT", max_size=40), st.text())
def test_no_header_raises_or_leads_out_of_bounds(value: str, reset: str) -> None:
    wait = asked_wait({"retry-after": value, "x-ratelimit-reset": reset}, NOW)
    assert wait is None or 1 <= wait <= 3600


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_any_moment_can_be_asked_for_at_any_time(at: datetime, now: datetime) -> None:
    wait = retry_after({"retry-after": format_datetime(at, usegmt=True)}, now)
    assert wait is not None
    assert 1 <= wait <= 3600


# --- clients ---------------------------------------------------------------------------------------------------------


def in_thread(act: Callable[[], object]) -> object:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(act()))
    thread.start()
    thread.join()
    return results[0]


def test_each_thread_has_clients_of_its_own_and_keeps_them() -> None:
    clients = Clients()
    assert clients.api() is clients.api()
    assert clients.fresh() is clients.fresh()
    assert clients.api() is not clients.fresh()
    assert clients.api() is not in_thread(clients.api)
    clients.close()


def test_a_thread_has_as_many_handles_for_fifty_accounts_as_for_one(storage: StorageServer) -> None:
    handles = Handles()
    before = descriptors()
    accounts = [Clients(handles=handles) for _ in range(50)]
    storage.script = answering("200 OK")
    for account in accounts:
        for client in (account.api(), account.fresh()):
            client.send(httpx.Request("GET", storage.url))
    assert len({id(account.api()) for account in accounts} | {id(account.fresh()) for account in accounts}) == 2
    assert descriptors() - before < 20
    handles.close()


def test_accounts_of_other_authorities_or_proxies_have_other_handles(certificate: Path) -> None:
    handles, between = Handles(), ProxyAddress("127.0.0.1", 9)
    kinds = [Clients(handles=handles), Clients(certificate, handles=handles), Clients(None, between, handles)]
    assert len({id(clients.api()) for clients in kinds}) == 3
    handles.close()


def test_a_forked_process_does_not_use_its_parents_clients() -> None:
    clients = Clients()
    before = clients.api()
    child = os.fork()
    if child == 0:
        os._exit(0 if clients.api() is not before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    clients.close()


def test_closing_closes_every_threads_clients_and_later_ones_are_new() -> None:
    clients = Clients()
    mine, other = clients.fresh(), in_thread(clients.api)
    clients.close()
    assert mine.is_closed
    assert isinstance(other, Client)
    assert other.is_closed
    assert not clients.fresh().is_closed
    clients.close()


def test_the_authorities_are_shared_and_there_are_some() -> None:
    assert trust() is trust()
    assert ssl.create_default_context(cafile=trust().file).cert_store_stats()["x509_ca"] > 0


@pytest.mark.parametrize("content", ["", "not a certificate", None])
def test_a_ca_bundle_without_certificates_blocks_the_account(tmp_path: Path, content: str | None) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    with pytest.raises(AccountBlocked, match="ca_bundle"):
        Clients(bundle).api()


# --- a provider's API ------------------------------------------------------------------------------------------------


class Shape(BaseModel):
    name: str


class Api:
    """An API client for our server, and how often its limiter and its counter were called."""

    def __init__(self, server: StorageServer, clients: Clients) -> None:
        self.server = server
        self.limited = 0
        self.counted = 0
        self.no_slot: RetryLater | None = None
        self.client = ApiClient(
            clients,
            server.url + "v1/",
            provider="Somebody",
            headers={"x-api-key": "secret-key"},
            limiter=self._limit,
            on_call=self._count,
            clock=ProviderClock(),
            insecure=True,
        )

    def _limit(self) -> None:
        self.limited += 1
        if self.no_slot:
            raise self.no_slot

    def _count(self) -> None:
        self.counted += 1


@pytest.fixture
def api(storage: StorageServer, clients: Clients) -> Api:
    return Api(storage, clients)


def test_each_call_is_asked_for_and_told_once(api: Api) -> None:
    api.server.script = answering("200 OK")
    api.client.call("GET", "a")
    api.client.call("GET", "b")
    assert (api.limited, api.counted) == (2, 2)


def test_without_a_free_slot_nothing_leaves_and_nothing_is_counted(api: Api) -> None:
    api.no_slot = RetryLater("no slot", after_seconds=3)
    with pytest.raises(RetryLater) as later:
        api.client.call("GET", "a")
    assert later.value is api.no_slot
    assert (api.counted, api.server.visits) == (0, [])


def descriptors() -> int:
    """How many this process has open, where the system tells."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def answering(status: str, body: str = "", **headers: str) -> Callable[[Visit], None]:
    def script(visit: Visit) -> None:
        visit.read_head()
        if "content-length" in visit.headers:
            visit.read_to(visit.announced)
        visit.answer(status, body, Connection="close", **headers)

    return script


@pytest.mark.parametrize(
    ("segment", "sent"),
    [
        ("4711", "4711"),
        ("a/b?c#d", "a%2Fb%3Fc%23d"),
        ("a:b@c", "a%3Ab%40c"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("%2e", "%252e"),
        ("ü", "%C3%BC"),
        ("$documentreference-create", "$documentreference-create"),  # as FHIR names its operations
    ],
)
def test_what_an_id_holds_cannot_change_the_address(api: Api, segment: str, sent: str) -> None:
    api.server.script = answering("200 OK")
    api.client.call("GET", "patient", segment, "x", params=[("page", "1")])
    assert api.server.visit.head.split()[1] == f"/v1/patient/{sent}/x?page=1"


def test_keys_are_not_carried_along_a_redirect(api: Api) -> None:
    with StorageServer() as elsewhere:
        api.server.script = answering("307 Temporary Redirect", Location=elsewhere.url)
        assert api.client.call("GET", "a").status == 307
        assert elsewhere.visits == []
    assert api.server.visit.headers["x-api-key"] == "secret-key"


def test_cookies_of_an_api_are_not_kept(api: Api) -> None:
    api.server.script = answering("200 OK", Set_Cookie="session=1; Path=/")
    api.client.call("GET", "a")
    api.client.call("GET", "a")
    assert ["cookie" in visit.headers for visit in api.server.visits] == [False, False]


@pytest.mark.parametrize(("size", "whole"), [(300_000, True), (299_999, False), (300_001, False)])
def test_a_download_gives_the_whole_file_and_carries_no_key(api: Api, size: int, whole: bool) -> None:
    body, taken = "x" * 300_000, bytearray()
    with StorageServer() as elsewhere:
        elsewhere.script = answering("200 OK", body)
        assert api.client.download(elsewhere.url, hosts=(), take=taken.extend, size=size) is whole
        assert "x-api-key" not in elsewhere.visit.headers
        assert bytes(taken) == body.encode()[: len(taken)]
        assert len(taken) <= size
    assert api.counted == 1


def test_a_download_of_a_missing_file_gives_nothing(api: Api) -> None:
    api.server.script = answering("404 Not Found", "gone")
    taken = bytearray()
    assert not api.client.download(api.server.url, hosts=(), take=taken.extend, size=4)
    assert taken == b""


def test_a_download_that_breaks_off_is_retried_later_and_one_from_another_host_is_not_made(api: Api) -> None:
    def broken_off(visit: Visit) -> None:
        visit.read_head()
        visit.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")

    api.server.script = broken_off
    with pytest.raises(RetryLater) as later:
        api.client.download(api.server.url, hosts=(), take=bytes, size=9)
    assert later.value.unreachable
    with pytest.raises(AccountBlocked, match="not allowed"):
        api.client.download("https://elsewhere.example/", hosts=("*.amazonaws.com",), take=bytes, size=9)


@pytest.mark.parametrize("script", [Visit.close, Visit.reset, lambda visit: visit.say("nonsense\r\n\r\n")])
def test_a_call_without_an_answer_is_made_again_later(api: Api, script: Callable[[Visit], None]) -> None:
    api.server.script = script
    with pytest.raises(RetryLater) as later:
        api.client.call("GET", "a")
    assert later.value.unreachable
    assert api.counted == 1


def test_an_answer_that_breaks_off_is_no_answer(api: Api) -> None:
    def script(visit: Visit) -> None:
        visit.read_head()
        visit.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

    api.server.script = script
    with pytest.raises(RetryLater, match="broke off"):
        api.client.call("GET", "a")


def test_an_answer_without_end_is_read_up_to_a_bound(api: Api) -> None:
    def script(visit: Visit) -> None:
        visit.read_head()
        visit.say("HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        while True:
            visit.say(b" " * 1_000_000)

    api.server.script = script
    answer = api.client.call("GET", "a")
    assert len(answer.body) == JSON_BYTES + 1
    with pytest.raises(AccountBlocked, match="shape"):
        parse_answer(answer, Shape, "Somebody")


@pytest.mark.parametrize("piece", [b"[],", b"{},", b"1,", b'{"a":1},'])
def test_an_answer_of_more_values_than_anybody_asked_for_is_not_read(piece: bytes) -> None:
    answer = Answer(200, {}, b'{"name": "a", "b": [' + piece * (JSON_BYTES // 2 // len(piece)) + b"1]}")
    with pytest.raises(AccountBlocked, match="far more than was asked for"):
        parse_answer(answer, Shape, "Somebody")


@pytest.mark.parametrize("key", ["caf\u00e9", "a\nb", "a\0b", "\ud800"])
def test_a_key_that_no_header_can_carry_blocks_the_account_without_being_quoted(
    storage: StorageServer, clients: Clients, key: str
) -> None:
    client = ApiClient(
        clients,
        storage.url,
        provider="Somebody",
        headers={"x-api-key": key},
        limiter=lambda: None,
        on_call=lambda: None,
        clock=ProviderClock(),
        insecure=True,
    )
    with pytest.raises(AccountBlocked) as blocked:
        client.call("GET", "a")
    assert key not in "".join(traceback.format_exception(blocked.value))


@pytest.mark.parametrize("url", ["http://api.example/", "https://127.0.0.1/", "https://user:pw@api.example/", "x"])
def test_a_base_url_that_is_not_safe_blocks_the_account(clients: Clients, url: str) -> None:
    client = ApiClient(
        clients, url, provider="Somebody", headers={}, limiter=lambda: None, on_call=lambda: None, clock=ProviderClock()
    )
    with pytest.raises(AccountBlocked, match="base_url"):
        client.call("GET", "a")


# --- answers ---------------------------------------------------------------------------------------------------------


def told(body: bytes) -> Answer:
    return Answer(200, {}, body)


def test_json_of_the_right_shape_is_understood() -> None:
    assert parse_answer(told(b'{"name": "a", "more": 1}'), Shape, "Somebody").name == "a"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON object"),
        (b"<html>", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"\xff", "no JSON object"),
        (b'{"name": 5}', "name"),
        (b'{"patient": "Anna"}', "name"),
    ],
)
def test_any_other_shape_blocks_the_account_without_being_quoted(body: bytes, why: str) -> None:
    with pytest.raises(AccountBlocked, match="answered in a shape that is not understood") as blocked:
        parse_answer(told(body), Shape, "Somebody")
    shown = "".join(traceback.format_exception(blocked.value))
    assert why in str(blocked.value)
    assert "Anna" not in shown


@given(st.binary(max_size=100) | st.text('{}[]":,name0123456789', max_size=60).map(str.encode))
def test_no_body_raises_anything_but_our_errors(body: bytes) -> None:
    with contextlib.suppress(AccountBlocked):
        assert isinstance(parse_answer(told(body), Shape, "Somebody"), Shape)
