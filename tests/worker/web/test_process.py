"""`chartpost web` and `chartpost run` as processes: they start, tell what is wrong, take up settings, and end."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.harness.installation import Child
from tests.harness.page import SETTINGS
from tests.harness.ports import free_port
from tests.harness.waiting import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.usefixtures("valkey")  # emptied: what it holds may be sealed under another test's key


class Started:
    def __init__(self, folder: Path, url: str, web: str = "") -> None:
        folder.mkdir()
        self.port = free_port()
        self.config = folder / "chartpost.toml"
        self.settings = SETTINGS.format(folder=folder, url=url) + f"port = {self.port}\n{web}"
        self.config.write_text(self.settings)
        self.log = folder / "log"

    def start(self, *command: str) -> Child:
        return Child(["worker", *command], self.config, self.log)

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/login", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def test_it_answers_reloads_and_ends_when_told(folder: Path, valkey_url: str) -> None:
    place = Started(folder, valkey_url)
    child = place.start("web")
    try:
        wait_until(place.answers, f"the page answers: {child.log}")
        with socket.create_connection(("127.0.0.1", place.port)):  # a browser that keeps its connection open
            place.config.write_text(place.settings + "session_hours = 1.0\n")
            child.send(signal.SIGHUP)
            wait_until(lambda: child.log.count('"page_ready"') == 2, "it has begun again with the new settings")
            assert child.process.poll() is None, "in the same process"
            wait_until(place.answers, "the page answers again")
            assert child.stop() == 0
    finally:
        child.kill()


def test_a_port_that_is_taken_is_a_sentence(folder: Path, valkey_url: str) -> None:
    place = Started(folder, valkey_url)
    with socket.create_server(("127.0.0.1", place.port)):
        child = place.start("web")
        assert child.process.wait(PATIENCE_SECONDS) == 1
    assert f"The page cannot listen at 127.0.0.1:{place.port}: Address already in use." in child.log


def test_a_certificate_that_is_none_is_a_sentence(folder: Path, valkey_url: str, tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.write_text("no certificate")
    child = Started(folder, valkey_url, f'tls_certificate = "{file}"\ntls_key = "{file}"').start("web")
    assert child.process.wait(PATIENCE_SECONDS) == 2
    assert "must be a certificate with its chain" in child.log
    assert "Traceback" not in child.log


def test_run_serves_the_page_as_one_of_its_parts(folder: Path, valkey_url: str) -> None:
    place = Started(folder, valkey_url, "enabled = true")
    child = place.start("run")
    try:
        wait_until(place.answers, f"the page answers: {child.log}")
        wait_until(lambda: '"ready"' in child.log, f"all is ready: {child.log}")
        assert '"web"' in child.log
        assert child.stop() == 0
        assert not place.answers()
    finally:
        child.kill()
