"""What no answer can do: last for ever, grow without bound, or be read in two ways; and what each failure is called."""

from __future__ import annotations

import contextlib
import gc
import gzip
import os
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.http.api import ApiClient
from tasks.http.clients import Clients
from tasks.http.exchange import JSON_BYTES
from tasks.http.provider_clock import ProviderClock
from tasks.model.errors import AccountBlocked, RetryLater
from tests.tasks.storage_server import PATIENCE_SECONDS, Script, StorageServer, Visit, closed_port

OK = "HTTP/1.1 200 OK\r\n"


@pytest.fixture
def api(storage: StorageServer, clients: Clients) -> ApiClient:
    return api_client(clients, storage.url)


def api_client(clients: Clients, url: str) -> ApiClient:
    return ApiClient(
        clients,
        url,
        provider="Somebody",
        headers={},
        limiter=lambda: None,
        on_call=lambda: None,
        clock=ProviderClock(),
        insecure=True,
    )


def saying(text: str | bytes) -> Script:
    def script(visit: Visit) -> None:
        visit.read_all()
        visit.say(text)
        visit.close()

    return script


def endless(beginning: str, piece: str | bytes, pause: float = 0.0) -> Script:
    def script(visit: Visit) -> None:
        visit.read_all()
        visit.say(beginning)
        while True:
            visit.say(piece)
            time.sleep(pause)

    return script


EMPTY_DEFLATE = gzip.compress(b"", mtime=0)[:10] + b"\x00\x00\x00\xff\xff" * 1000

WITHOUT_END = {
    "headers one byte at a time": endless(OK, "x", 0.02),
    "a header without end": endless(OK + "x: ", "x" * 10_000),
    "headers without end": endless(OK, "x-y: z\r\n" * 1000),
    "interim answers, slowly": endless("", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", 0.02),
    "interim answers, as a flood": endless("", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 100),
    "a body one byte at a time": endless(OK + "content-length: 100000\r\n\r\n", "x", 0.02),
    "chunks one byte at a time": endless(OK + "transfer-encoding: chunked\r\n\r\n", "1\r\nx\r\n", 0.02),
    "empty deflate blocks": endless(OK + "content-encoding: gzip\r\n\r\n", EMPTY_DEFLATE),
    "trailers": endless(OK + "transfer-encoding: chunked\r\n\r\n0\r\n", "x: y\r\n" * 1000),
    "a status line without end": endless("HTTP/1.1 200 ", "x" * 10_000),
}


@pytest.mark.parametrize("script", WITHOUT_END.values(), ids=WITHOUT_END.keys())
def test_no_answer_lasts_longer_than_the_deadline(
    storage: StorageServer, api: ApiClient, clients: Clients, script: Script
) -> None:
    storage.script = script
    clients.api().deadline = 1.0
    with pytest.raises(RetryLater) as later:
        api.call("GET", "a")
    assert later.value.unreachable


def test_an_other_side_that_never_speaks_tls_is_given_up(clients: Clients) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = clients.api()
        client.timeout = httpx.Timeout(PATIENCE_SECONDS, connect=0.5)
        with pytest.raises(RetryLater, match="timed out"):
            api_client(clients, f"https://127.0.0.1:{silent.getsockname()[1]}").call("GET", "a")


@pytest.mark.parametrize("layers", [1, 2])
def test_a_compressed_answer_is_refused_before_any_of_it_is_unpacked(
    storage: StorageServer, api: ApiClient, layers: int
) -> None:
    body = b" " * 3_000_000
    for _ in range(layers):
        body = gzip.compress(body)
    coding = ", ".join(["gzip"] * layers)
    head = f"{OK}content-encoding: {coding}\r\ncontent-length: {len(body)}\r\n\r\n"
    storage.script = saying(head.encode() + body)
    with pytest.raises(RetryLater, match="compressed"):
        api.call("GET", "a")
    assert storage.visit.headers["accept-encoding"] == "identity"


NOT_TO_BE_TRUSTED = {
    "two lengths": OK + "content-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
    "two lengths in one": OK + "content-length: 2, 3\r\n\r\n{} ",
    "a negative length": OK + "content-length: -2\r\n\r\n{}",
    "a length that is no number": OK + "content-length: 0x2\r\n\r\n{}",
    "length and chunks": OK + "content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a compressed transfer": OK + "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another transfer": OK + "transfer-encoding: identity\r\n\r\n{}",
    "a header without a name": OK + ": y\r\ncontent-length: 2\r\n\r\n{}",
    "a header with a space in its name": OK + "content-length : 2\r\n\r\n{}",
    "a header without a colon": OK + "nonsense\r\ncontent-length: 2\r\n\r\n{}",
    "no HTTP": "SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/0.9": "{}",
    "HTTP/2": "HTTP/2 200\r\ncontent-length: 2\r\n\r\n{}",
    "a status of four digits": "HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\n{}",
    "a status of one digit": "HTTP/1.1 2 OK\r\ncontent-length: 2\r\n\r\n{}",
    "another protocol": "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n" + OK + "content-length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("answer", NOT_TO_BE_TRUSTED.values(), ids=NOT_TO_BE_TRUSTED.keys())
def test_an_answer_that_could_be_read_in_two_ways_is_none(storage: StorageServer, api: ApiClient, answer: str) -> None:
    storage.script = saying(answer)
    with pytest.raises(RetryLater) as later:
        api.call("GET", "a")
    assert later.value.unreachable


@pytest.mark.parametrize(
    "answer",
    [
        OK + "Content-Length: 2\r\n\r\n{}",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK + "content-length: 2\r\n\r\n{}",
        OK + "content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
        OK + "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\nx-trailer: y\r\n\r\n",
        OK + "content-encoding: identity\r\ncontent-length: 2\r\n\r\n{}",
        OK + "x-empty:\r\n\r\n{}",
        OK + "x: a" + " " * 90_000 + "b\r\ncontent-length: 2\r\n\r\n{}",  # no work that grows with its square
        "HTTP/1.0 200\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 \xd6\xe4\r\nx: \xfc\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
def test_an_answer_in_order_is_read(storage: StorageServer, api: ApiClient, answer: str) -> None:
    storage.script = saying(answer.encode("latin-1"))
    assert api.call("GET", "a").body == b"{}"


PIECES = st.sampled_from(
    [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 103 x\r\n",
        "HTTP/1.1 ",
        "content-length: 2\r\n",
        "Content-Length: 5\r\n",
        "transfer-encoding: chunked\r\n",
        "content-encoding: gzip\r\n",
        "connection: close\r\n",
        "x: y\r\n",
        "\r\n",
        "\n",
        "\0",
        "2\r\n{}\r\n",
        "0\r\n\r\n",
        "{}",
    ]
)


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[tuple[StorageServer, ApiClient]]:
    clients = Clients()
    with StorageServer() as server:
        yield server, api_client(clients, server.url)
    clients.close()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES | st.text(max_size=5), max_size=12))
def test_whatever_comes_is_an_answer_or_none(fuzzed: tuple[StorageServer, ApiClient], pieces: list[str]) -> None:
    server, api = fuzzed
    server.script = saying("".join(pieces).encode("utf-8", "replace"))
    with contextlib.suppress(RetryLater):  # and no other error
        assert len(api.call("GET", "a").body) <= JSON_BYTES + 1


# --- kinds of failure -------------------------------------------------------------------------------------------------


def test_a_failure_names_its_kind(storage: StorageServer, secure_storage: StorageServer, clients: Clients) -> None:
    def failure(url: str, whose: Clients = clients) -> str:
        with pytest.raises((RetryLater, AccountBlocked)) as raised:
            api_client(whose, url).call("GET", "a")
        return str(raised.value)

    with closed_port() as port:
        assert "refused" in failure(f"http://127.0.0.1:{port}")
    storage.script = saying("")
    assert "broke off" in failure(storage.url)
    storage.script = Visit.stay
    clients.api().timeout = httpx.Timeout(PATIENCE_SECONDS, read=0.2)
    assert "did not answer in time" in failure(storage.url)
    strangers = Clients()
    assert "ca_bundle" in failure(secure_storage.url, strangers)
    strangers.close()


# --- handles ----------------------------------------------------------------------------------------------------------


def test_a_kept_connection_is_used_again_and_one_that_has_ended_is_not(storage: StorageServer, api: ApiClient) -> None:
    def twice(visit: Visit) -> None:
        for _ in range(2):
            visit.read_all()
            visit.answer("200 OK", "{}")
            visit.got.clear()

    storage.script = twice
    for _ in range(4):
        assert api.call("GET", "a").success
    assert len(storage.visits) == 2


def test_a_child_that_frees_its_parents_handles_does_not_end_their_connections(
    secure_storage: StorageServer, clients: Clients
) -> None:
    def twice(visit: Visit) -> None:
        for _ in range(2):
            visit.read_all()
            visit.answer("200 OK", "{}")
            visit.got.clear()

    secure_storage.script = twice
    api = api_client(clients, secure_storage.url)
    assert api.call("GET", "a").success
    child = os.fork()
    if child == 0:
        clients._handles._own.__dict__.clear()
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert api.call("GET", "a").success
    assert len(secure_storage.visits) == 1
