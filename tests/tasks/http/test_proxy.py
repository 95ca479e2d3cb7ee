"""Through a proxy that the settings name, and through no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.types import ProxyAddress
from tasks.http.clients import Clients
from tasks.model.errors import RetryLater
from tasks.model.job import Form
from tests.harness.proxy import proxy
from tests.tasks.http.test_transport import api_client, saying
from tests.tasks.storage_server import StorageServer, closed_port
from tests.tasks.transfer.conftest import FIELDS, Upload

OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy_sees_the_name_of_the_host_and_nothing_else(certificate: Path, secure: bool) -> None:
    with (
        StorageServer(saying(OK), certificate=certificate if secure else None) as server,
        proxy(user="us", password="p:@ ss") as between,
    ):
        clients = Clients(certificate, ProxyAddress("127.0.0.1", between.port, "us", "p:@ ss"))
        assert api_client(clients, server.url).call("GET", "a", headers={"x-api-key": "secret"}).body == b"{}"
        assert server.visit.headers["x-api-key"] == "secret"
        assert "proxy-authorization" not in server.visit.headers
        (head,) = between.heads
        assert head.startswith(f"CONNECT {server.url.split('/')[2]} HTTP/1.1")
        assert "secret" not in head
        clients.close()


@pytest.mark.parametrize("secure", [False, True])
def test_an_upload_goes_through_a_proxy_and_keeps_its_commit_point(certificate: Path, secure: bool) -> None:
    with StorageServer(certificate=certificate if secure else None) as server, proxy() as between:
        clients = Clients(certificate, ProxyAddress("127.0.0.1", between.port))
        upload = Upload(clients.fresh(), Form(server.url, FIELDS))
        assert upload.send(b"x" * 600_000).etag_verified
        assert upload.commits == 1
        assert len(between.heads) == 1
        clients.close()


def failure(clients: Clients, url: str) -> str:
    with pytest.raises(RetryLater) as later:
        api_client(clients, url).call("GET", "a")
    assert later.value.unreachable
    clients.close()
    return str(later.value)


def test_a_failure_of_the_proxy_is_named(storage: StorageServer) -> None:
    with proxy(user="us", password="pw") as between:
        assert "proxy wants a user name" in failure(Clients(None, ProxyAddress("127.0.0.1", between.port)), storage.url)
        wrong = ProxyAddress("127.0.0.1", between.port, "us", "other")
        assert "proxy wants a user name" in failure(Clients(None, wrong), storage.url)
    with proxy(refuses="403 Forbidden") as between:
        refused = Clients(None, ProxyAddress("127.0.0.1", between.port))
        assert "the proxy refused the connection (403)" in failure(refused, storage.url)
    with closed_port() as port:
        assert "the proxy: the connection was refused" in failure(
            Clients(None, ProxyAddress("127.0.0.1", port)), storage.url
        )
    assert storage.visits == []


def test_a_proxy_that_refuses_an_upload_leaves_no_doubt(storage: StorageServer) -> None:
    with proxy(refuses="502 Bad Gateway") as between:
        clients = Clients(None, ProxyAddress("127.0.0.1", between.port))
        upload = Upload(clients.fresh(), Form(storage.url, FIELDS))
        with pytest.raises(RetryLater):
            upload.send(b"x")
        assert upload.commits == 0
        clients.close()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_is_not_used(
    storage: StorageServer, clients: Clients, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    storage.script = saying(OK)
    assert api_client(clients, storage.url).call("GET", "a").success


def test_no_proxy_of_the_environment_changes_nothing(storage: StorageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    storage.script = saying(OK)
    with proxy() as between:
        clients = Clients(None, ProxyAddress("127.0.0.1", between.port))
        assert api_client(clients, storage.url).call("GET", "a").success
        assert between.heads
        clients.close()
