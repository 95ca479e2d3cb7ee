"""One sick account harms no other, and gets well by itself."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until

WORKERS = "chartpost:worker"
SLOTS = 8  # of one account: half of the worker's


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory, world: SandboxProcess) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("accounts") / "clinic", world) as started:
        started.start_worker()
        yield started


@pytest.fixture(autouse=True)
def world_as_before(at_work: Installation) -> Iterator[None]:
    for key in at_work.redis.scan_iter():
        if not key.startswith(WORKERS):  # else nothing is sent until the worker's next beat
            at_work.redis.delete(key)
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


def send_many(clinic: Installation, count: int, account: str) -> list[str]:
    """Foreign calls, without listening for their results; the jobs' ids."""
    source = clinic.write("many.pdf", b"one of many")
    return [clinic.send(source, f"m{uuid4()}", account=account, file_name=f"{n}.pdf") for n in range(count)]


@contextmanager
def throttled(folder: Path, world: SandboxProcess) -> Iterator[Installation]:
    """At work, with a `slow_clinic`: the north clinic by another host name, so that it has a limit of its own."""
    north = world.settings["accounts"]["north_clinic"]
    slow = {**north, "base_url": north["base_url"].replace("127.0.0.1", "localhost"), "requests_per_minute": 60}
    table = "".join(f"{key} = {json.dumps(value)}\n" for key, value in slow.items())
    with installed(folder, world, end=f"\n[accounts.slow_clinic]\n{table}") as started:
        started.start("worker", "intake")
        started.start_worker()
        yield started


def test_refused_credentials_park_the_account_and_its_documents_go_on_when_they_work_again(
    at_work: Installation,
) -> None:
    at_work.world.world(revoke=[key_of(at_work, "north_clinic")])
    results = many(at_work, 30, "north_clinic")
    wait_until(lambda: status_of(at_work, "north_clinic") == "parked", "the account is parked")
    assert_only_probes(at_work, "north_clinic")
    healthy = many(at_work, 5, "south_clinic")
    assert all(result.get(timeout=120)["size_bytes"] == 11 for result in healthy)
    assert not any(result.ready() for result in results)
    at_work.world.world(restore=[key_of(at_work, "north_clinic")])
    assert all(result.get(timeout=120)["size_bytes"] == 11 for result in results)
    assert status_of(at_work, "north_clinic") == "ok"


def assert_only_probes(clinic: Installation, account: str) -> None:
    """While nothing is on its way: a call in each interval, and these grow; not one for each document that waits."""
    wait_until(lambda: not clinic.redis.zcard(f"chartpost:flying:{account}"), "what was on its way has its answer")
    clinic.world.forget_requests()
    began, interval = time.monotonic(), clinic.process.settings.retry.probe_first_seconds
    time.sleep(6 * interval)
    calls = sum(clinic.world.requests()["counts"].values())
    assert calls <= (time.monotonic() - began) / interval


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
    patience = at_work.process.settings.accounts["north_clinic"].confirm.give_up_after_seconds
    at_work.world.world(hold_validation="slow.pdf")
    slow = at_work.upload(at_work.write("slow.pdf", b"slow"), f"a{uuid4()}")
    wait_until(lambda: str(slow.state) == "STORED", "the slow one is stored")
    at_work.world.world(revoke=[key_of(at_work, "north_clinic")])
    wait_until(lambda: status_of(at_work, "north_clinic") == "parked", "the account is parked")
    time.sleep(patience + 1)
    at_work.world.world(restore=[key_of(at_work, "north_clinic")])
    wait_until(lambda: status_of(at_work, "north_clinic") == "ok", "the account is well")
    at_work.world.forget_requests()
    wait_until(lambda: sum(at_work.world.requests()["counts"].values()) > 1, "its record is asked for in vain")
    at_work.world.world(hold_validation=None)
    assert slow.get(timeout=120)["size_bytes"] == 4


def test_credentials_that_are_refused_a_second_time_fail_no_document_that_waited_through_the_first(
    at_work: Installation,
) -> None:
    key = key_of(at_work, "north_clinic")
    at_work.world.world(hold_validation="slow.pdf")
    slow = at_work.upload(at_work.write("slow.pdf", b"slow"), f"a{uuid4()}")
    wait_until(lambda: str(slow.state) == "STORED", "it waits for its record")
    for _ in range(2):
        at_work.world.world(revoke=[key])
        wait_until(lambda: status_of(at_work, "north_clinic") == "parked", "the account is parked")
        time.sleep(0.5)
        at_work.world.world(restore=[key])
        [other] = many(at_work, 1, "north_clinic")
        assert other.get(timeout=120)["size_bytes"] == 11
    at_work.world.world(hold_validation=None)
    assert slow.get(timeout=120)["size_bytes"] == 4


@pytest.mark.parametrize("fault", ["503", "504", "reset"])
def test_a_provider_that_is_down_costs_probes_and_not_a_failure_of_each_document(
    at_work: Installation, fault: str
) -> None:
    at_work.world.world(down={"pracsuite": fault})
    results = many(at_work, 40, "north_clinic")
    wait_until(lambda: status_of(at_work, "north_clinic") == "down", "the account is down")
    assert_only_probes(at_work, "north_clinic")
    at_work.world.world(down={"pracsuite": None})
    assert all(result.get(timeout=120)["size_bytes"] == 11 for result in results)


def test_a_backlog_of_a_throttled_account_does_not_delay_a_healthy_one(tmp_path: Path, world: SandboxProcess) -> None:
    """`make bench` tells for how long a backlog of 5,000 does."""
    with throttled(tmp_path / "clinic", world) as clinic:
        backlog = send_many(clinic, 600, "slow_clinic")
        wait_until(lambda: status_of(clinic, "slow_clinic") == "throttled", "the backlog is throttled")
        healthy = send_many(clinic, 20, "south_clinic")
        wait_until(lambda: all(clinic.stage(job) == "delivered" for job in healthy), "the healthy ones are delivered")
        waiting = [job for job in backlog if clinic.stage(job) == "received"]
        assert len(waiting) > 500, "they did not wait for those before them"


def test_a_flood_of_foreign_calls_does_not_delay_the_calls_of_another_account_behind_it(
    tmp_path: Path, world: SandboxProcess
) -> None:
    """A queue is first come, first served: what helps is that opening a call is cheap. `make bench` measures it."""
    with installed(tmp_path / "clinic", world) as flooded:
        flood, healthy = send_many(flooded, 600, "north_clinic"), send_many(flooded, 20, "south_clinic")
        flooded.start("worker", "intake")
        flooded.start_worker()
        wait_until(lambda: all(flooded.stage(job) == "delivered" for job in healthy), "the healthy ones are delivered")
        assert flooded.redis.zcard("chartpost:open:north_clinic") > len(flood) / 2, "they did not wait for the flood"


def test_an_account_whose_uploads_hang_leaves_slots_to_the_others(tmp_path: Path, world: SandboxProcess) -> None:
    """The storage of one account takes connections and never answers; it is a socket of the test's."""
    with hanging_server() as port, installed(tmp_path / "clinic", world) as hung:
        settings = hung.config.read_text()
        base = world.settings["accounts"]["north_clinic"]["base_url"]
        hung.config.write_text(settings.replace(base, f"http://127.0.0.1:{port}/pracsuite/v1", 1))
        hung.start_worker()
        hanging = [hung.send(hung.write(f"{number}.pdf", b"hangs"), "h") for number in range(30)]
        wait_until(lambda: hung.redis.zcard("chartpost:flying:north_clinic") == SLOTS, "its slots are taken")
        healthy = many(hung, 20, "south_clinic")
        assert all(result.get(timeout=120)["size_bytes"] == 11 for result in healthy)
        assert all(hung.stage(job) == "received" for job in hanging)
        assert hung.redis.zcard("chartpost:flying:north_clinic") <= SLOTS


def test_three_accounts_that_hang_or_drip_leave_slots_to_one_that_answers(
    tmp_path: Path, world: SandboxProcess
) -> None:
    """Each may hold half of the slots, so two of them could hold them all."""
    with hanging_server() as hangs, dripping_server() as drips, installed(tmp_path / "clinic", world) as clinic:
        sick = {"north_clinic": hangs, "cliniko_clinic": drips, "ovok_clinic": drips}
        settings = clinic.config.read_text()
        for account, port in sick.items():
            settings = re.sub(
                rf'(\[accounts\.{account}\][^\[]*?base_url = "http://127\.0\.0\.1:)\d+', rf"\g<1>{port}", settings
            )
        clinic.config.write_text(settings)
        for account in sick:
            many(clinic, 2 * SLOTS, account)
        clinic.start_worker()
        kept = 2 * SLOTS // 4

        def held() -> int:
            return sum(int(clinic.redis.zcard(f"chartpost:flying:{account}")) for account in sick)

        wait_until(lambda: held() >= 2 * SLOTS - kept - 2, "they take what they may")
        for _ in range(3):
            assert all(result.get(timeout=120)["size_bytes"] == 11 for result in many(clinic, 4, "south_clinic"))
            assert held() <= 2 * SLOTS - kept


@contextmanager
def dripping_server() -> Iterator[int]:
    """Answers each request with a header that never ends, a byte at a time."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        stopped = threading.Event()
        threading.Thread(target=_drip, args=(server, stopped), daemon=True).start()
        yield server.getsockname()[1]
        stopped.set()


def _drip(server: socket.socket, stopped: threading.Event) -> None:
    open_ones: list[socket.socket] = []
    server.settimeout(0.2)
    while not stopped.is_set():
        with suppress(OSError):
            connection = server.accept()[0]
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            open_ones.append(connection)
        for each in open_ones:
            with suppress(OSError):
                each.send(b"x", socket.MSG_DONTWAIT)


@contextmanager
def hanging_server() -> Iterator[int]:
    """Connections are taken by the kernel; nobody ever reads from them."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]
