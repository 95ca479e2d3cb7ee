"""Feeders of several machines on one Redis: each sends what its machine can do."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
import redis

from config.celery import STAGE_QUEUE, machine_queue
from config.load import load
from tasks.dispatch.feeder import Feeder
from tasks.dispatch.housekeeping import Housekeeping
from tasks.dispatch.waiting import MachinesWaitedFor
from tasks.dispatch.workers import LiveWorker, Workers
from tasks.folders.machines import Machine
from tasks.ledger.keys import PREFIX
from tasks.ledger.lease import NotStarted
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.document import Document, Door
from tasks.model.route import Step
from tasks.runtime import Runtime
from tests.worker.conftest import write_settings
from worker.celery.queue_messages import read_message

ACCOUNT = "north_clinic"
SLOTS = 4


def jobs_in(client: redis.Redis, queue: str) -> list[str]:
    """The jobs whose steps wait in a queue, the oldest message first."""
    return [str(read_message(str(raw).encode(), queue).args[0]) for raw in reversed(client.lrange(queue, 0, -1))]


class Here:
    """One machine: its folders, its feeder and its queue."""

    def __init__(self, client: redis.Redis, runtime: Runtime, folder: Path) -> None:
        self.machine = Machine(client, folder)
        self.machine.beat()
        self.name = str(self.machine.name())
        self._redis = client
        self.workers = Workers(client, self.name, SLOTS, lambda: True, machine=self.machine.name)
        self.feeder = Feeder(
            client=client,
            breaker=runtime.breaker,
            accounts=runtime.accounts,
            workers=self.workers,
            lease_seconds=30,
            housekeeping=Housekeeping(client, lanes=(), jobs_days=30, longest_wait_seconds=3600),
            machine=self.machine,
        )
        self.ledger = Ledger(client, Seal("a secret"), lease_seconds=30, jobs_days=30, machine=self.machine.name)
        self.workers.beat()

    def in_queue(self) -> list[str]:
        """The jobs whose steps were sent to this machine alone."""
        return jobs_in(self._redis, machine_queue(self.name))

    def open(self, home: str | None = None) -> str:
        job_id = str(uuid4())
        door = Door.INBOX if home else Door.CELERY
        document = Document(ACCOUNT, "4711", f"file:///{job_id}", f"{job_id}.pdf", 3, door=door, home=home)
        self.ledger.open(job_id, document, "pracsuite")
        return job_id


@pytest.fixture
def both(tmp_path: Path, valkey_url: str, valkey: redis.Redis) -> tuple[Here, Here]:
    runtime = Runtime(load(write_settings(tmp_path, valkey_url), {}))
    return Here(valkey, runtime, tmp_path / "one"), Here(valkey, runtime, tmp_path / "other")


def test_each_feeder_sends_the_jobs_of_its_machine_and_any_sends_the_others(
    both: tuple[Here, Here], valkey: redis.Redis
) -> None:
    one, other = both
    of_one, of_other, of_any = one.open(one.name), one.open(other.name), one.open()
    assert (one.feeder.tick(), other.feeder.tick()) == (2, 1)
    assert (one.in_queue(), other.in_queue()) == ([of_one], [of_other])
    assert jobs_in(valkey, STAGE_QUEUE) == [of_any]


def test_a_worker_elsewhere_starts_no_step_of_such_a_job(both: tuple[Here, Here]) -> None:
    one, other = both
    job_id = one.open(one.name)
    assert other.ledger.start(job_id, Step.PRESIGN) == NotStarted("elsewhere")
    assert not isinstance(one.ledger.start(job_id, Step.PRESIGN), NotStarted)


def test_a_job_that_is_bound_to_another_machine_is_due_there(both: tuple[Here, Here]) -> None:
    one, other = both
    job_id = one.open()
    assert one.ledger.bind(job_id, other.name)
    assert not one.ledger.bind(job_id, other.name), "it is known by now"
    assert (one.feeder.tick(), other.feeder.tick()) == (0, 1)
    job = one.ledger.get(job_id)
    assert job is not None
    assert job.document.home == other.name


def test_messages_that_wait_for_one_machine_leave_the_window_to_the_others(
    both: tuple[Here, Here], valkey: redis.Redis
) -> None:
    one, other = both
    for _ in range(40):
        one.open(one.name)
    valkey.lpush(machine_queue(one.name), *["a message"] * SLOTS)
    assert one.feeder.tick() == 0, "its queue is full"
    shared = one.open()
    assert other.feeder.tick() == 1
    assert other.in_queue() == []
    assert jobs_in(valkey, STAGE_QUEUE) == [shared]


def test_a_document_waits_for_its_machine_only_while_no_worker_is_there(
    both: tuple[Here, Here], valkey: redis.Redis
) -> None:
    one, other = both
    job = one.ledger.get(one.open(one.name))
    assert job is not None
    assert MachinesWaitedFor(valkey, other.workers).of_job(job) == ""
    one.workers.leave()
    waited_for = MachinesWaitedFor(valkey, other.workers)
    assert one.name[:8] in waited_for.of_job(job)
    assert {account: sum(counts.values()) for account, counts in waited_for.documents().items()} == {ACCOUNT: 1}


def test_a_worker_of_an_earlier_version_says_only_its_slots(valkey: redis.Redis) -> None:
    valkey.sadd(PREFIX + "workers", "old")
    valkey.set(PREFIX + "worker:old", 4)
    assert Workers(valkey).live() == {"old": LiveWorker(4)}
