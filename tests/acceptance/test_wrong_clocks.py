"""Machines whose clock is wrong: their documents arrive, once each, and none fails for the clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.installation import Child, Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until

HOUR = 3600
DOCUMENTS = 6
ENDED = ("delivered", "failed", "cancelled")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("--providers", "pracsuite,cliniko,ovok,redox,nhn", validation_seconds=0.2) as process:
        yield process


@pytest.fixture
def installation(tmp_path: Path, sandbox: SandboxProcess) -> Iterator[Installation]:
    with installed(tmp_path / "installation", sandbox) as made:
        yield made
        sandbox.world(reset=True)


def start_shifted_worker(installation: Installation, seconds: float) -> Child:
    before = len(installation.process.workers.alive())
    child = installation.start("tests.harness.shifted_worker", str(seconds))
    wait_until(lambda: len(installation.process.workers.alive()) > before, "the worker consumes")
    return child


def delivered(installation: Installation, *jobs: str) -> None:
    wait_until(lambda: all(installation.stage(job) in ENDED for job in jobs), "every document has its end")
    assert {installation.stage(job) for job in jobs} == {"delivered"}


def delivered_once(installation: Installation, name: str, count: int = DOCUMENTS) -> None:
    """Send documents one after the other, and see each of them arrive."""
    jobs = [
        installation.send(installation.write(f"{name}-{number}.pdf", b"x" * (100 + number)), f"{name}-{number}")
        for number in range(count)
    ]
    delivered(installation, *jobs)
    for number in range(count):
        assert len(installation.chart(patient_id=f"{name}-{number}")) == 1


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_worker_whose_clock_is_wrong_delivers_and_says_so(installation: Installation, seconds: int) -> None:
    worker = start_shifted_worker(installation, seconds)
    delivered_once(installation, f"alone-{abs(seconds)}-{seconds > 0:d}")
    assert worker.log.count('"clock_wrong"') == 1


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_worker_whose_clock_is_wrong_finds_what_a_lost_create_has_made(
    installation: Installation, sandbox: SandboxProcess, seconds: int
) -> None:
    """Ovok shows its documents by when they were made. The second worker has not called it yet: it has the session."""
    installation.account = "ovok_clinic"
    names = [f"LOSTCREATE {number} {seconds}.pdf" for number in range(4)]
    for two in (names[:2], names[2:]):
        worker = start_shifted_worker(installation, seconds)
        for name in two:
            delivered(installation, installation.send(installation.write(name, name.encode()), None))
        worker.stop()
    made = Counter(each["file_name"] for each in sandbox.ovok_documents())
    assert {name: made[name] for name in names} == dict.fromkeys(names, 1)
    assert all(len(installation.chart(file_name=name)) == 1 for name in names)


def test_beside_a_worker_whose_clock_is_right_no_document_fails(installation: Installation) -> None:
    start_shifted_worker(installation, HOUR)
    installation.start_worker()
    delivered_once(installation, "beside", count=12)


def test_forms_that_are_of_no_use_park_the_account_and_never_fail_a_document(
    installation: Installation, sandbox: SandboxProcess
) -> None:
    installation.start_worker()
    sandbox.world(form_seconds=-60)
    job = installation.send(installation.write("forms.pdf", b"content"), "forms")

    def status() -> tuple[str, str]:
        (row,) = [row for row in installation.process.account_statuses.all() if row.name == installation.account]
        return row.status, row.reason or ""

    wait_until(lambda: status()[0] == "parked", "the account is parked")
    assert "6 forms in a row were of no use: The upload form has expired" in status()[1]
    assert "clock" not in status()[1], "the clock is right"
    wait_until(lambda: int(installation.redis.hget(f"chartpost:job:{job}", "presigns") or 0) >= 8, "it is tried again")
    assert installation.stage(job) != "failed"
    sandbox.world(form_seconds=900)
    wait_until(lambda: installation.stage(job) == "delivered", "it is delivered with a form that is of use")
    assert len(installation.chart(patient_id="forms")) == 1


@pytest.mark.parametrize(("account", "server"), [("redox_hospital", "Redox"), ("nhn_hospital", "HelseID")])
def test_tokens_that_are_refused_for_the_clock_are_asked_for_by_the_providers_and_the_reason_says_so(
    installation: Installation, account: str, server: str
) -> None:
    """The first request cannot know better. Its answer tells the time, by which the next one is signed."""
    worker = start_shifted_worker(installation, -HOUR)
    installation.account = account
    job = installation.send(installation.write("tokens.pdf", b"content"), "12345678901")

    # By the log: the account may be parked for less than a look at its status takes.
    wait_until(lambda: '"account_parked"' in worker.log, "the account is parked")
    assert f"This machine's clock is wrong: it is 60 min behind {server}" in worker.log
    wait_until(lambda: installation.stage(job) == "delivered", "it is delivered")
