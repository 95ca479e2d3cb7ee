"""Strangers who can reach the port of the metrics hold few connections, and none for long."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from tests.harness.ports import free_port
from tests.harness.waiting import wait_until
from worker.celery import metrics_server
from worker.celery.metrics_server import AT_ONCE, MetricsServer


@pytest.fixture(params=["127.0.0.1", "::1"])
def address(request: pytest.FixtureRequest) -> str:
    if request.param == "::1" and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    return str(request.param)


@pytest.fixture
def port(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(metrics_server, "DEADLINE_SECONDS", 1.0)
    registry = CollectorRegistry()
    Gauge("answers", "of everything", registry=registry).set(42)
    chosen = free_port()
    try:
        server = MetricsServer(address, chosen, registry)
    except OSError:
        pytest.skip("this machine has no such address")
    yield chosen
    server.end()


def scrape(address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def connected(address: str, port: int) -> socket.socket:
    return socket.create_connection((address, port), timeout=30)


def is_cut(connection: socket.socket) -> bool:
    connection.settimeout(30)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_scrape_is_served(address: str, port: int) -> None:
    assert "answers 42.0" in scrape(address, port)


def test_whoever_says_nothing_or_a_byte_now_and_then_is_cut_off(address: str, port: int) -> None:
    silent, slow = connected(address, port), connected(address, port)
    began = time.monotonic()

    def drip() -> None:
        try:
            while time.monotonic() - began < 60:
                slow.send(b"G")
                time.sleep(0.1)
        except OSError:
            pass

    threading.Thread(target=drip, daemon=True).start()
    assert is_cut(silent)
    assert is_cut(slow)
    assert time.monotonic() - began < 30, "long before it would end by itself"
    assert "answers 42.0" in scrape(address, port)


def test_more_than_may_are_cut_off_at_once(address: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "DEADLINE_SECONDS", 600.0)
    before = threading.active_count()
    held = [connected(address, port) for _ in range(AT_ONCE)]
    wait_until(lambda: threading.active_count() >= before + 2 * AT_ONCE, "each has a thread, and one for its deadline")
    more = [connected(address, port) for _ in range(20)]
    assert all(map(is_cut, more))
    for connection in held:
        connection.close()
    wait_until(lambda: "answers 42.0" in scraped(address, port), "the next one is served")


def scraped(address: str, port: int) -> str:
    """Empty where it is cut off."""
    try:
        return scrape(address, port)
    except OSError:
        return ""
