"""Whatever a stranger puts into the queue: the worker lives, no slot is lost, and the good call behind it is taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.harness.installation import Child, Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.valkey import everything_in
from tests.harness.waiting import wait_until
from tests.worker.celery.raw_messages import LINK, broken, entry, harmless, many

SLOTS = 4
MANY = 16
BROKEN = list(broken({}))


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory, world: SandboxProcess) -> Iterator[Installation]:
    """One worker for all of these tests: none of them harms it."""
    with installed(tmp_path_factory.mktemp("foreign") / "clinic", world) as started:
        started.start_worker(CHARTPOST_WORKER__CONCURRENCY=str(SLOTS))
        yield started


@pytest.fixture(autouse=True)
def worker(at_work: Installation) -> Iterator[Child]:
    at_work.redis.delete("chartpost:dead")
    worker = at_work.children[0]
    yield worker
    assert worker.process.poll() is None, "the worker lives"
    assert peak_bytes(worker) < 400_000_000


def peak_bytes(child: Child) -> int:
    """The most memory that a process has had at once."""
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def dead_letters(clinic: Installation) -> list[dict[str, str]]:
    found: Any = clinic.redis.xrange("chartpost:dead")
    return [fields for _, fields in found]


def good_call_is_taken(clinic: Installation) -> None:
    good = clinic.send(clinic.write("good.pdf", b"good"), f"f{uuid4()}")
    wait_until(lambda: clinic.stage(good), "the call behind it is taken")
    wait_until(lambda: clinic.redis.hlen("unacked") == 0, "no message holds a slot")


@pytest.mark.parametrize("code", sorted({code for _, code, _ in BROKEN}))
def test_broken_messages_of_each_kind_and_many_of_each_stop_nothing(at_work: Installation, code: str) -> None:
    entries = [raw for _, of_code, raw in BROKEN if of_code == code]
    for raw in entries:
        at_work.redis.lpush("chartpost", *many(raw, MANY))
    good_call_is_taken(at_work)
    assert Counter(letter["code"] for letter in dead_letters(at_work)) == {code: len(entries) * MANY}
    assert at_work.redis.llen("chartpost") == 0
    assert (
        not at_work.redis.exists("chartpost:due:north_clinic")
        or at_work.redis.type("chartpost:due:north_clinic") == "zset"
    )


def test_odd_messages_that_ask_for_nothing_more_are_taken(at_work: Installation) -> None:
    kwargs = {"account": "north_clinic", "patient_id": f"f{uuid4()}", "source": at_work.write("odd.pdf", b"odd")}
    entries = [raw for name, raw in harmless(kwargs, str(uuid4()))]
    for raw in entries:
        at_work.redis.lpush("chartpost", raw)
    good_call_is_taken(at_work)
    assert dead_letters(at_work) == []


def test_a_call_of_each_priority_is_taken(at_work: Installation) -> None:
    source, jobs = at_work.write("urgent.pdf", b"urgent"), [str(uuid4()) for _ in range(10)]
    for priority, job in enumerate(jobs):
        kwargs = {"account": "north_clinic", "patient_id": f"f{uuid4()}", "source": source}
        at_work.celery.send_task("chartpost.upload", kwargs=kwargs, queue="chartpost", task_id=job, priority=priority)
    wait_until(lambda: all(at_work.stage(job) for job in jobs), "each is taken")


@pytest.mark.parametrize(
    "options",
    [{"countdown": 3600}, {"expires": 3600}, {"link": LINK}, {"link_error": LINK}, {"chain": [LINK]}, {"chord": LINK}],
    ids=str,
)
def test_what_chartpost_does_not_do_is_refused_and_the_caller_told(
    at_work: Installation, options: dict[str, Any]
) -> None:
    kwargs = {"account": "north_clinic", "patient_id": "1", "source": at_work.write("later.pdf", b"later")}
    result = at_work.celery.send_task(
        "chartpost.upload", kwargs=kwargs, queue="chartpost", task_id=str(uuid4()), **options
    )
    with pytest.raises(Exception, match="chartpost does not do") as raised:
        result.get(timeout=60)
    assert type(raised.value).__name__ == "DocumentFailed"
    assert raised.value.args[0] == "invalid_request"
    assert not at_work.stage(result.id)
    wait_until(lambda: dead_letters(at_work), "it is kept")
    assert dead_letters(at_work)[0]["id"] == result.id


def test_a_broken_call_under_the_id_of_a_job_on_its_way_tells_its_caller_nothing(at_work: Installation) -> None:
    at_work.world.world(hold_validation="held.pdf")
    result = at_work.upload(at_work.write("held.pdf", b"held"), f"f{uuid4()}")
    wait_until(lambda: str(result.state) == "STORED", "it is on its way")
    broken_calls = [
        entry(task_id=result.id, headers={"eta": "2999-01-01T00:00:00"}),
        entry(task_id=result.id, kwargs={"surprise": 1}),
        entry(task_id=result.id, args=["by position"]),
        entry(task_id=result.id, kwargs={"account": "nobody", "source": "file:///x"}),
    ]
    at_work.redis.lpush("chartpost", *broken_calls)
    good_call_is_taken(at_work)
    assert str(result.state) == "STORED"
    at_work.world.world(reset=True)
    assert result.get(timeout=60)["job_id"] == result.id


def test_neither_logs_nor_redis_show_what_a_stranger_put_into_ids_and_names(
    at_work: Installation, worker: Child
) -> None:
    canary = "Anna-Meier"
    headers = {"shadow": canary, "argsrepr": canary, "kwargsrepr": canary, "origin": canary, "root_id": canary}
    at_work.redis.lpush(
        "chartpost",
        entry(task_id=f"{canary} 1", headers=headers),
        entry(task=f"chartpost.{canary}", task_id=str(uuid4()), headers=headers),
        entry(task="celery.map", args=[canary], headers=headers),
        entry("chartpost.presign", args=[canary]),
        entry(task_id=str(uuid4()), kwargs={"account": canary, "source": canary}, headers=headers),
        entry(task_id=str(uuid4()), headers={**headers, "eta": canary}),
    )
    at_work.redis.lpush("chartpost.stages", entry("chartpost.presign", args=[canary], headers=headers))
    good_call_is_taken(at_work)
    wait_until(lambda: at_work.redis.llen("chartpost.stages") == 0, "the step is taken")
    wait_until(lambda: len(dead_letters(at_work)) == 6, "all but one are kept")
    assert canary not in worker.log
    assert canary not in everything_in(at_work.redis)


def test_celerys_own_tasks_are_not_registered(at_work: Installation) -> None:
    registered = at_work.celery.control.inspect(timeout=30, limit=1).registered() or {}
    assert {name.split(".")[0] for names in registered.values() for name in names} == {"chartpost"}
