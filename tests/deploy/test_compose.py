"""Every service of docker-compose.yml, run by its own command against each other until documents are delivered."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
import redis
from celery import Celery

from tests.deploy.containers import House
from tests.harness.waiting import PATIENCE_SECONDS, wait_until

OURS = ("worker", "watcher", "intake", "web", "flower")
PATIENT = "Patient-Meier-4711"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"))
    try:
        yield house
    finally:
        house.stop()


@pytest.fixture
def house(built: House) -> House:
    """Everything that `docker compose --profile demo up` starts, healthy; what an earlier test has ended as well."""
    missing = [name for name in ("valkey", "sandbox", *OURS) if not built.runs(name)]
    for name in missing:
        if name in OURS:
            built.start(name)
        else:
            start_well(built, name)
    wait_until_well(built, *missing)
    return built


def start_well(house: House, name: str) -> None:
    house.start(name)
    wait_until_well(house, name)


def wait_until_well(house: House, *names: str) -> None:
    for name in names:
        container = house.running[name]
        wait_until(lambda: ends_well(house, name), f"{name} is healthy: {container.log.read_text()}")  # noqa: B023


def ends_well(house: House, name: str) -> bool:
    assert house.running[name].process.poll() is None, house.running[name].log.read_text()
    return house.check_health(name) == 0


def examiner(house: House) -> redis.Redis:
    """Somebody who may see everything in Valkey; only the tests have them."""
    return redis.Redis(port=house.ports["valkey"], username="examiner", decode_responses=True)


def drop(house: House, name: str, content: bytes) -> None:
    """A scanner's way: written elsewhere, then moved in."""
    folder = house.documents / "inbox" / "north_clinic" / PATIENT
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{uuid4()}.part"
    draft.write_bytes(content)
    draft.rename(folder / name)


def receipt(house: House, name: str) -> dict[str, Any]:
    path = house.documents / "delivered" / "north_clinic" / PATIENT / f"{name}.receipt.json"
    wait_until(path.exists, f"{name} is delivered")
    said: dict[str, Any] = json.loads(path.read_text())
    return said


def charts(house: House) -> list[dict[str, Any]]:
    answer = httpx.get(f"http://127.0.0.1:{house.ports['sandbox']}/_sandbox/charts", trust_env=False, timeout=60)
    records: list[dict[str, Any]] = answer.json()["records"]
    return [record for record in records if record["patient_id"] == PATIENT]


def call(house: House, name: str, content: bytes, **fields: Any) -> Any:
    """Another service's call, as the Valkey user that other services have."""
    path = house.outgoing / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    address = house.secret("caller_redis_url")
    kwargs = {"account": "north_clinic", "patient_id": PATIENT, "source": path.as_uri(), **fields}
    caller = Celery(broker=address, backend=address)
    return caller.send_task("chartpost.upload", kwargs=kwargs, queue="chartpost", task_id=str(uuid4()))


def flower(house: House, path: str, *, login: bool = True, method: str = "GET") -> httpx.Response:
    user, _, password = house.secret("flower_basic_auth").partition(":")
    return httpx.request(
        method,
        f"http://127.0.0.1:{house.ports['flower']}{path}",
        auth=(user, password) if login else None,
        trust_env=False,
        timeout=30,
    )


def test_a_document_dropped_into_the_inbox_is_delivered(house: House) -> None:
    drop(house, "referral.pdf", b"a referral")
    said = receipt(house, "referral.pdf")
    [record] = [record for record in charts(house) if record["file_name"] == "referral.pdf"]
    assert said["record"]["id"] == record["record_id"]


def test_another_service_calls_with_a_user_of_its_own(house: House) -> None:
    assert call(house, "lab.pdf", b"a report").get(timeout=120)["size_bytes"] == 8


def test_a_message_of_the_stream_is_delivered(house: House) -> None:
    path = house.outgoing / "streamed.pdf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"streamed")
    job = {"account": "north_clinic", "patient_id": PATIENT, "source": path.as_uri()}
    redis.Redis.from_url(house.secret("caller_redis_url")).xadd("chartpost:intake", {"job": json.dumps(job)})
    wait_until(lambda: "streamed.pdf" in {record["file_name"] for record in charts(house)}, "it is delivered")


def test_flower_asks_for_the_password_everywhere_that_shows_anything(house: House) -> None:
    for path in ("/", "/tasks", "/broker", "/api/tasks", "/api/workers", "/api/queues/length"):
        assert flower(house, path, login=False).status_code == 401, path
        assert flower(house, path).status_code == 200, path
    assert flower(house, "/healthcheck").text == "OK"


def test_flower_shows_tasks_but_neither_patients_nor_files_and_a_deferral_is_no_failure(house: House) -> None:
    worker = house.running["worker"].log
    wait_until(lambda: "Events of group {task} enabled" in worker.read_text(), "Flower has asked for events")
    busy = call(house, "BUSY-1 Befund.pdf", b"deferred once")
    busy.get(timeout=120)
    call(house, "BUSY-1 Befund.pdf", b"deferred once", file_name="BUSY-1 Befund.pdf").get(timeout=120)  # a duplicate
    call(house, "leer.pdf", b"").get(timeout=120, propagate=False)
    shown = wait_until(lambda: ended(flower(house, "/api/tasks").json(), busy.id), "Flower has seen the task's end")
    assert {"chartpost.upload", "chartpost.presign", "chartpost.post", "chartpost.confirm"} <= {
        task["name"] for task in shown.values()
    }
    assert {task["state"] for task in shown.values()} <= {"SUCCESS", "RECEIVED", "STARTED", "RETRY"}
    assert "RETRY" in {task["state"] for task in shown.values() if task["args"] == busy.id}
    one = flower(house, f"/task/{busy.id}").text + flower(house, f"/api/task/info/{busy.id}").text
    everything = json.dumps(shown) + one + flower(house, "/metrics").text
    assert not [word for word in (PATIENT, "Meier", "Befund", "outgoing") if word in everything]


def ended(tasks: dict[str, Any], job_id: str) -> dict[str, Any] | None:
    return tasks if tasks.get(job_id, {}).get("state") == "SUCCESS" else None


def test_flower_shows_no_password_and_lets_nobody_act(house: House) -> None:
    name = next(iter(wait_until(lambda: flower(house, "/api/workers?refresh=1").json(), "Flower sees the worker")))
    workers = flower(house, "/api/workers?refresh=1").text + flower(house, f"/worker/{name}").text
    for secret in ("redis_url", "flower_redis_url", "secret_key", "north_clinic_api_key"):
        words = house.secret(secret)
        assert (urlsplit(words).password or words) not in workers, secret
    for path in ("/api/task/send-task/chartpost.upload", f"/api/worker/shutdown/{name}"):
        assert flower(house, path, method="POST").status_code == 403, path


def test_a_worker_shows_its_metrics(house: House) -> None:
    call(house, "counted.pdf", b"counted").get(timeout=120)
    text = httpx.get(f"http://127.0.0.1:{house.ports['worker']}/metrics", trust_env=False, timeout=60).text
    assert 'chartpost_steps_total{outcome="done",step="post"}' in text
    assert "chartpost_workers 1.0" in text


def test_a_person_who_was_added_logs_in_to_the_page(house: House) -> None:
    password = "a long walk by the sea"
    added = house.run("web", ["chartpost", "users", "add", "anna", "--may", "admin", "--password", "@-"], password)
    assert added.returncode == 0, added.stderr
    page = f"http://127.0.0.1:{house.ports['web']}"
    with httpx.Client(base_url=page, trust_env=False, timeout=60, headers={"Origin": page}) as client:
        answer = client.post("/login", data={"name": "anna", "password": password})
        assert answer.status_code == 303, answer.text
        token = answer.headers["set-cookie"].partition(";")[0]  # for https, which httpx therefore does not send here
        assert token.startswith("__Host-chartpost=")
        assert "north_clinic" in client.get("/", headers={"Cookie": token}).text
    assert len(list((house.documents / "audit").iterdir())) == 1
    # What the page keeps beside a job, as the user that it logs in as.
    acts = redis.Redis.from_url(house.secret("redis_url"))
    acts.lpush("chartpost:acts:test", "x")
    acts.ltrim("chartpost:acts:test", 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_secret_stands_in_the_process_list(house: House) -> None:
    lines = [Path(f"/proc/{each.process.pid}/cmdline").read_bytes().decode() for each in house.running.values()]
    assert len([line for line in lines if line]) == 7
    secrets = [path.read_text().strip() for path in house.secrets.iterdir() if path.name != "valkey_users"]
    assert not [line for line in lines for secret in secrets if secret in line]


def test_each_user_of_valkey_may_do_what_it_needs_and_no_more(house: House) -> None:
    caller = redis.Redis.from_url(house.secret("caller_redis_url"))
    looker = redis.Redis.from_url(house.secret("flower_redis_url"))
    with pytest.raises(redis.exceptions.NoPermissionError):
        caller.hgetall("chartpost:job:1")
    with pytest.raises(redis.exceptions.NoPermissionError):
        looker.lpush("chartpost", "a message")
    with pytest.raises(redis.exceptions.NoPermissionError):
        redis.Redis.from_url(house.secret("redis_url")).flushall()
    denied: Any = examiner(house).acl_log()
    refusals = {(each["username"], each["object"]) for each in denied}
    assert refusals == {("caller", "hgetall"), ("flower", "lpush"), ("chartpost", "flushall")}


def test_health_fails_while_valkey_is_stopped_and_a_restart_loses_nothing(house: House) -> None:
    call(house, "kept.pdf", b"kept").get(timeout=120)
    jobs = examiner(house).zcard("chartpost:jobs")
    assert house.running["valkey"].stop(PATIENCE_SECONDS) == 0
    health = {name: house.check_health(name) for name in ("valkey", *OURS)}
    # The page is there to say so, and a restart of it would help nobody.
    assert health == {**dict.fromkeys(("valkey", *OURS), 1), "web": 0}
    start_well(house, "valkey")
    assert examiner(house).zcard("chartpost:jobs") == jobs > 0
    wait_until_well(house, *OURS)
    drop(house, "afterwards.pdf", b"afterwards")
    assert receipt(house, "afterwards.pdf")["assurance"] == "confirmed"


def test_every_container_ends_by_itself_within_its_grace_period(house: House) -> None:
    for name in (*reversed(OURS), "sandbox", "valkey"):
        seconds = float(house.services[name]["stop_grace_period"].removesuffix("s"))
        before = time.monotonic()
        assert house.running[name].stop(seconds) == 0, name
        assert time.monotonic() - before < seconds
