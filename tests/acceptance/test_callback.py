"""A callback: the receipt or the error, signed, by https, and again until it is taken."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest

from tests.clinics import Clinic, clinic, wait_until
from tests.tls import Authority, tls_front
from tests.worlds import SandboxProcess

SECRET = "shared with the caller"


class Called:
    """What came in; the first call is answered with 503."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        called = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                called.requests.append((self.headers["X-Chartpost-Signature"], body))
                self.send_response(503 if len(called.requests) == 1 else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Not to the terminal."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)


@pytest.fixture
def called() -> Iterator[Called]:
    made = Called()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def north(tmp_path: Path, world: SandboxProcess) -> Iterator[Clinic]:
    top = f'callback_hosts = ["127.0.0.1"]\ncallback_secret = "{SECRET}"\n'
    with clinic(tmp_path / "clinic", world, top=top) as started:
        yield started


def test_the_receipt_is_called_back_signed_until_it_is_taken(north: Clinic, called: Called, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "callers")
    certificate, key = authority.server_files()
    with tls_front(certificate, key, called.server.server_port) as port:
        north.start_worker(SSL_CERT_FILE=str(authority.ca_file))
        url = f"https://127.0.0.1:{port}/done"
        result = north.upload(north.write("called.pdf", b"called"), f"c{uuid4()}", callback_url=url)
        assert result.get(timeout=60)["size_bytes"] == 6
        wait_until(lambda: len(called.requests) >= 2, "it is called again after a refusal")
    signature, body = called.requests[-1]
    assert signature == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    receipt = json.loads(body)
    assert (receipt["job_id"], receipt["file_name"]) == (result.id, "called.pdf")
    wait_until(lambda: north.redis.hget(f"chartpost:job:{result.id}", "step") == "", "the job is closed")
    assert len(called.requests) == 2
