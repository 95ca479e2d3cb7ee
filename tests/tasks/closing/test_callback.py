"""The callback: one address, parsed once by the client that calls it; each call ends, and its answer is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from config.types import ProxyAddress
from tasks.closing.callback import Callback
from tasks.http.addresses import check_callback
from tasks.http.trust import trust
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.errors import RetryLater
from tasks.model.route import Step
from tests.harness.proxy import proxy
from tests.tasks.closing.test_closing import opened
from tests.tasks.http.test_transport import WITHOUT_END, saying
from tests.tasks.ledger.test_ledger import start, to_delivered
from tests.tasks.storage_server import Script, StorageServer

HOSTS = ("cb.example", "127.0.0.1")

NOT_TO_BE_CALLED = {
    "a port of letters": "https://cb.example:abc/",
    "a port that is too high": "https://cb.example:99999/",
    "port 0": "https://cb.example:0/",
    "a line break": "https://cb.example/a\nb",
    "a tab": "https://cb.example/\t",
    "a zero": "https://cb.example/\0",
    "a surrogate": "https://cb.example/\ud800",
    "70,000 characters": "https://cb.example/" + "x" * 70_000,
    "brackets": "https://[cb.example]/",
    "an open bracket": "https://[cb.example/",
    "a user name": "https://us@cb.example/",
    "a password": "https://:pw@cb.example/",
    "another host": "https://elsewhere.example/",
    "another host behind a backslash": "https://elsewhere.example\\@cb.example/",
    "no TLS": "http://cb.example/",
    "no scheme": "cb.example/",
    "nothing": "",
}


@pytest.mark.parametrize("url", NOT_TO_BE_CALLED.values(), ids=NOT_TO_BE_CALLED.keys())
def test_an_address_that_cannot_be_called_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ValueError, match=r"^it") as refused:
        check_callback(url, HOSTS)
    assert not url or url not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://cb.example/a?b=c", "https://CB.example.:8443/", "https://127.0.0.1:9/%20ä", "https://cb.example"]
)
def test_an_address_of_an_allowed_host_is_taken(url: str) -> None:
    assert isinstance(check_callback(url, HOSTS), httpx.URL)


@given(
    st.text(max_size=60)
    | st.text("https:/cb.example@[]\\#?%0:1\n\0 ", max_size=40).map(lambda text: f"https://cb.example{text}")
)
def test_whatever_is_written_is_called_at_an_allowed_host_or_refused(url: str) -> None:
    try:
        parsed = check_callback(url, HOSTS)
    except ValueError:
        return
    assert parsed.host.rstrip(".") in HOSTS


# --- calling ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def callee(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageServer]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    trust.cache_clear()
    with StorageServer(certificate=certificate) as server:
        yield server
    trust.cache_clear()


@pytest.fixture
def lease(valkey: redis.Redis, callee: StorageServer) -> Lease:
    ledger = Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)
    job_id = opened(ledger, callback_url=callee.url)
    to_delivered(ledger, job_id)
    return start(ledger, job_id, Step.NOTIFY)


@pytest.mark.parametrize("script", WITHOUT_END.values(), ids=WITHOUT_END.keys())
def test_a_callee_that_answers_without_end_is_given_up(callee: StorageServer, lease: Lease, script: Script) -> None:
    callee.script = script
    callback = Callback(HOSTS, "shared")
    callback._clients.api().deadline = 1.0
    with suppress(RetryLater):  # some have said 200
        callback.post(lease)


def test_only_a_success_is_enough(callee: StorageServer, lease: Lease) -> None:
    callback = Callback(HOSTS, "shared")
    callee.script = saying("HTTP/1.1 307 Elsewhere\r\nLocation: https://cb.example/\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(RetryLater, match="307"):
        callback.post(lease)
    callee.script = saying("HTTP/1.1 204 Done\r\n\r\n")
    callback.post(lease)


def test_a_receiver_that_hangs_is_left_alone_for_a_while(
    callee: StorageServer, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.model.away._SLOW_SECONDS", 0.2)
    callee.script = lambda visit: visit.read_to(10**9)
    callback = Callback(HOSTS, "shared")
    callback._clients.api().deadline = 0.5
    with pytest.raises(RetryLater, match="not answered"):
        callback.post(lease)
    for _ in range(100):
        with pytest.raises(RetryLater, match="a moment ago"):
            callback.post(lease)
    assert len(callee.visits) == 1


def test_it_goes_through_everybodys_proxy(callee: StorageServer, lease: Lease) -> None:
    callee.script = saying("HTTP/1.1 204 Done\r\n\r\n")
    with proxy() as between:
        Callback(HOSTS, "shared", ProxyAddress("127.0.0.1", between.port)).post(lease)
        assert between.heads


@pytest.mark.parametrize("url", ["https://cb.example:abc/", "https://[cb.example]/", "https://elsewhere.example/"])
def test_an_address_that_an_earlier_version_has_taken_ends_too(valkey: redis.Redis, url: str) -> None:
    ledger = Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)
    job_id = opened(ledger, callback_url=url)
    to_delivered(ledger, job_id)
    with capture_logs() as logs:
        Callback(HOSTS, "shared").post(start(ledger, job_id, Step.NOTIFY))
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["callback_given_up"]
