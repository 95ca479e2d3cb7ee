"""A callback: the receipt or the error, signed, by https, and again until it is taken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.harness.callbacks import SECRET, SECRET_BEFORE, SETTINGS, Callee, called_back
from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until


@pytest.fixture
def callee(tmp_path: Path) -> Iterator[Callee]:
    with called_back(tmp_path) as listening:
        yield listening


@pytest.fixture
def north(tmp_path: Path, world: SandboxProcess) -> Iterator[Installation]:
    with installed(tmp_path / "clinic", world, top=SETTINGS) as started:
        yield started


def test_the_receipt_is_called_back_signed_until_it_is_taken(north: Installation, callee: Callee) -> None:
    callee.answer = lambda _: 503 if len(callee.calls) == 1 else 200
    north.start_worker(SSL_CERT_FILE=str(callee.ca_file))
    result = north.upload(north.write("called.pdf", b"called"), f"c{uuid4()}", callback_url=callee.url)
    assert result.get(timeout=120)["size_bytes"] == 6
    wait_until(lambda: len(callee.calls) >= 2, "it is called again after a refusal")
    last = callee.calls[-1]
    assert last.signed
    now = time.time()
    assert last.signed_in_time(SECRET, now)
    assert last.signed_in_time(SECRET_BEFORE, now), "while receivers change to the new secret"
    assert not last.signed_in_time("guessed", now)
    assert not last.signed_in_time(SECRET, now + 3600), "a recorded call that comes again is known"
    assert (last.said["job_id"], last.said["file_name"]) == (result.id, "called.pdf")
    wait_until(lambda: north.redis.hget(f"chartpost:job:{result.id}", "step") == "", "the job is closed")
    assert len(callee.calls) == 2
