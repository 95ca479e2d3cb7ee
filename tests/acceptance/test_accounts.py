"""One sick account harms no other, and gets well by itself."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory, world: SandboxProcess) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("accounts") / "clinic", world) as started:
        started.start_worker()
        yield started


@pytest.fixture(autouse=True)
def world_as_before(at_work: Installation) -> Iterator[None]:
    at_work.redis.flushall()
    yield
    at_work.world.world(reset=True)


def key_of(clinic: Installation, account: str) -> str:
    return str(clinic.world.settings["accounts"][account]["api_key"])


def status_of(clinic: Installation, account: str) -> str:
    return clinic.process.account_statuses.health(account).status


def presigns(clinic: Installation) -> int:
    counts = clinic.world.requests()["counts"]
    return sum(count for call, count in counts.items() if call.startswith("POST /pracsuite"))


def many(clinic: Installation, count: int, account: str) -> list[Any]:
    source = clinic.write(f"{uuid4()}.pdf", b"one of many")
    return [clinic.upload(source, f"a{uuid4()}", account=account, file_name=f"{n}.pdf") for n in range(count)]


def test_refused_credentials_park_the_account_and_its_documents_go_on_when_they_work_again(
    at_work: Installation,
) -> None:
    at_work.world.world(revoke=[key_of(at_work, "north_clinic")])
    results = many(at_work, 30, "north_clinic")
    wait_until(lambda: status_of(at_work, "north_clinic") == "parked", "the account is parked")
    time.sleep(1)  # what was on its way by then has its answer
    at_work.world.forget_requests()
    time.sleep(3)
    # One probe per interval (0.5 s, growing), not one call per document.
    assert sum(at_work.world.requests()["counts"].values()) <= 6
    healthy = many(at_work, 5, "south_clinic")
    assert all(result.get(timeout=120)["size_bytes"] == 11 for result in healthy)
    assert not any(result.ready() for result in results)
    at_work.world.world(restore=[key_of(at_work, "north_clinic")])
    assert all(result.get(timeout=120)["size_bytes"] == 11 for result in results)
    assert status_of(at_work, "north_clinic") == "ok"


def test_a_document_that_is_refused_like_a_bad_credential_does_not_hold_its_account_for_ever(
    at_work: Installation,
) -> None:
    refused = at_work.upload(at_work.write("refused.pdf", b"refused"), "401-not-ours")
    others = many(at_work, 10, "north_clinic")
    assert all(result.get(timeout=120)["size_bytes"] == 11 for result in others)
    with pytest.raises(Exception, match="refused_by_provider"):
        refused.get(timeout=120)
    wait_until(lambda: status_of(at_work, "north_clinic") == "ok", "the account is well")


def test_time_spent_parked_does_not_turn_documents_into_gave_up(at_work: Installation) -> None:
    account = at_work.process.settings.accounts["north_clinic"]
    assert account.confirm.give_up_after_seconds == 6.0
    [waiting] = many(at_work, 1, "north_clinic")
    wait_until(lambda: waiting.state in ("STORED", "SUCCESS"), "it is stored")
    slow = at_work.upload(at_work.write("SLOW-5.pdf", b"slow"), f"a{uuid4()}")
    wait_until(lambda: str(slow.state) == "STORED", "the slow one is stored")
    at_work.world.world(revoke=[key_of(at_work, "north_clinic")])
    wait_until(lambda: status_of(at_work, "north_clinic") == "parked", "the account is parked")
    time.sleep(7)  # longer than its patience
    at_work.world.world(restore=[key_of(at_work, "north_clinic")])
    assert slow.get(timeout=120)["size_bytes"] == 4


def test_credentials_that_are_refused_a_second_time_fail_no_document_that_waited_through_the_first(
    at_work: Installation,
) -> None:
    key = key_of(at_work, "north_clinic")
    slow = at_work.upload(at_work.write("SLOW-6.pdf", b"slow"), f"a{uuid4()}")
    wait_until(lambda: str(slow.state) == "STORED", "it waits for its record")
    for _ in range(2):
        at_work.world.world(revoke=[key])
        wait_until(lambda: status_of(at_work, "north_clinic") == "parked", "the account is parked")
        time.sleep(0.5)
        at_work.world.world(restore=[key])
        [other] = many(at_work, 1, "north_clinic")
        assert other.get(timeout=120)["size_bytes"] == 11
    assert slow.get(timeout=120)["size_bytes"] == 4


@pytest.mark.parametrize("fault", ["503", "504", "reset"])
def test_a_provider_that_is_down_costs_probes_and_not_a_failure_of_each_document(
    at_work: Installation, fault: str
) -> None:
    at_work.world.world(down={"pracsuite": fault})
    results = many(at_work, 40, "north_clinic")
    wait_until(lambda: status_of(at_work, "north_clinic") == "down", "the account is down")
    time.sleep(1)
    at_work.world.forget_requests()
    time.sleep(3)
    assert sum(at_work.world.requests()["counts"].values()) <= 6
    at_work.world.world(down={"pracsuite": None})
    assert all(result.get(timeout=120)["size_bytes"] == 11 for result in results)


def test_a_backlog_of_a_throttled_account_does_not_delay_a_healthy_one(tmp_path: Path, world: SandboxProcess) -> None:
    """The slow account is the north clinic by another host name, so that it has a limit of its own."""
    north = world.settings["accounts"]["north_clinic"]
    slow = {**north, "base_url": north["base_url"].replace("127.0.0.1", "localhost"), "requests_per_minute": 60}
    table = "".join(f"{key} = {json.dumps(value)}\n" for key, value in slow.items())
    with installed(tmp_path / "clinic", world, end=f"\n[accounts.slow_clinic]\n{table}") as throttled:
        throttled.start("worker", "intake")
        throttled.start_worker()
        source = throttled.write("backlog.pdf", b"one of many")
        backlog = [
            throttled.send(source, f"b{number}", account="slow_clinic", file_name=f"{number}.pdf")
            for number in range(5000)
        ]
        wait_until(lambda: status_of(throttled, "slow_clinic") == "throttled", "the backlog is throttled")
        asked = time.monotonic()
        healthy = many(throttled, 20, "south_clinic")
        assert all(result.get(timeout=120)["size_bytes"] == 11 for result in healthy)
        took = time.monotonic() - asked
        assert any(throttled.stage(job) == "received" for job in backlog), "there is no backlog"
        assert took < 10 * throttled.process.settings.worker.lease_seconds


def test_a_flood_of_foreign_calls_does_not_delay_the_calls_of_another_account_behind_it(
    tmp_path: Path, world: SandboxProcess
) -> None:
    """A queue is first come, first served: what helps is that opening a call is cheap."""
    with installed(tmp_path / "clinic", world) as flooded:
        source = flooded.write("flood.pdf", b"one of many")
        for number in range(2000):
            flooded.send(source, f"f{number}", file_name=f"{number}.pdf")
        healthy = [flooded.send(source, f"h{uuid4()}", account="south_clinic") for _ in range(20)]
        flooded.start("worker", "intake")
        flooded.start_worker()
        asked = time.monotonic()
        wait_until(lambda: all(flooded.stage(job) == "delivered" for job in healthy), "the healthy ones are delivered")
        took = time.monotonic() - asked
        assert flooded.redis.zcard("chartpost:open:north_clinic") > 1000, "there is no flood"
        assert took < 8 * flooded.process.settings.worker.lease_seconds


def test_an_account_whose_uploads_hang_leaves_slots_to_the_others(tmp_path: Path, world: SandboxProcess) -> None:
    """The storage of one account takes connections and never answers; it is a socket of the test's."""
    with hanging_server() as port, installed(tmp_path / "clinic", world) as hung:
        settings = hung.config.read_text()
        base = world.settings["accounts"]["north_clinic"]["base_url"]
        hung.config.write_text(settings.replace(base, f"http://127.0.0.1:{port}/pracsuite/v1", 1))
        hung.start_worker()
        hanging = [hung.send(hung.write(f"{number}.pdf", b"hangs"), "h") for number in range(30)]
        wait_until(lambda: hung.redis.zcard("chartpost:flying:north_clinic") >= 8, "its slots are taken")
        healthy = many(hung, 20, "south_clinic")
        assert all(result.get(timeout=120)["size_bytes"] == 11 for result in healthy)
        assert all(hung.stage(job) == "received" for job in hanging)


@contextmanager
def hanging_server() -> Iterator[int]:
    """Connections are taken by the kernel; nobody ever reads from them."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]
