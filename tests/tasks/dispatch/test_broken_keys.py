"""A key in Redis that has become another type stops one account at most, and is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from config.celery import STAGE_QUEUE, machine_queue
from config.load import load
from tasks.dispatch.feeder import Feeder
from tasks.dispatch.feeder_report import feeder_troubles
from tasks.dispatch.workers import Workers
from tasks.ledger.consistency import Consistency
from tasks.ledger.key_types import kept_aside
from tasks.ledger.keys import PREFIX
from tasks.model.document import Document, Door
from tasks.runtime import Runtime
from tests.harness.waiting import wait_until
from worker.celery.queue_messages import read_message

SETTINGS = """
data_dir = "{folder}/data"
secret_key = "a secret for tests"
[redis]
url = "{url}"
[worker]
lease_seconds = 1.0
[accounts.south_clinic]
provider = "pracsuite"
base_url = "http://127.0.0.1:1/v1"
insecure = true
vendor_api_key = "v"
api_key = "a"
[accounts.north_clinic]
provider = "cliniko"
base_url = "http://127.0.0.1:1/v1"
insecure = true
api_key = "b"
contact = "Test (test@example.org)"
[producers.lab]
accounts = ["south_clinic"]
"""


@pytest.fixture
def runtime(tmp_path: Path, valkey_url: str, valkey: redis.Redis) -> Runtime:
    config = tmp_path / "chartpost.toml"
    config.write_text(SETTINGS.format(folder=tmp_path, url=valkey_url))
    (tmp_path / "data").mkdir()
    return Runtime(load(config, {}))


class Fed:
    """A feeder at work, the jobs that it has sent, and a worker that does each at once."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.sent: list[str] = []
        workers = Workers(runtime.redis, "here", 4, lambda: True, machine=runtime.machine.name)
        self.feeder: Feeder = runtime.feeder(workers, lambda refused: None)
        self._ended = threading.Event()
        self._worker = threading.Thread(target=self._work, args=(runtime.machine.name(),))

    def start(self) -> None:
        self.feeder.start()
        self._worker.start()

    def stop(self) -> None:
        self.feeder.stop()
        self._ended.set()
        self._worker.join()

    def open(self, account: str) -> str:
        job_id = str(uuid4())
        document = Document(account, "4711", f"file:///{job_id}", f"{job_id}.pdf", 3, door=Door.CELERY)
        provider = self.runtime.accounts[account].provider
        self.runtime.ledger.open(job_id, document, provider.kind, route=provider.route(document))
        return job_id

    def _work(self, machine: str) -> None:
        while not self._ended.wait(0.01):
            for queue in (STAGE_QUEUE, machine_queue(machine)):
                with suppress(redis.ResponseError):  # the queue itself is broken
                    while message := self.runtime.redis.rpop(queue):
                        self._do_at_once(str(read_message(str(message).encode(), queue).args[0]))

    def _do_at_once(self, job_id: str) -> None:
        for account in self.runtime.accounts:
            for family in ("due", "flying"):
                with suppress(redis.ResponseError):
                    self.runtime.redis.zrem(f"{PREFIX}{family}:{account}", job_id)
        with suppress(redis.ResponseError):
            self.runtime.redis.hset(f"{PREFIX}job:{job_id}", "step", "")  # no work is left
        self.sent.append(job_id)

    def sends(self, job_id: str) -> None:
        wait_until(lambda: job_id in self.sent, f"{job_id} is not sent")


@pytest.fixture
def fed(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fed]:
    monkeypatch.setattr("tasks.dispatch.key_guard._LOOK_SECONDS", 0.0)
    monkeypatch.setattr("tasks.dispatch.skipped._KEPT_SECONDS", 0.5)
    fed = Fed(runtime)
    fed.start()
    fed.sends(fed.open("south_clinic"))
    yield fed
    fed.stop()


LISTS_AND_STREAMS = (
    *(PREFIX + name for name in ("intake", "intake:lab", "intake:rejected", "dead")),
    *("chartpost", "chartpost\x06\x163", "chartpost.from.lab", "chartpost.from.lab\x06\x169", "chartpost.stages"),
)


def break_key(client: redis.Redis, key: str) -> None:
    """Make it another type in one go, as a message that is put back into the wrong list does."""
    pipe = client.pipeline()
    pipe.delete(key)
    if key in LISTS_AND_STREAMS or "calls-of" in key:
        pipe.set(key, "broken")
    else:
        pipe.lpush(key, "broken")
    pipe.execute()


OF_SOUTH = ("due:south_clinic", "flying:south_clinic", "account:south_clinic", "open:south_clinic")


@pytest.mark.parametrize("key", OF_SOUTH)
def test_a_broken_key_of_one_account_stops_that_account_alone(fed: Fed, valkey: redis.Redis, key: str) -> None:
    break_key(valkey, PREFIX + key)
    fed.open("south_clinic")
    fed.sends(fed.open("north_clinic"))
    assert fed.runtime.redis.type(PREFIX + key) == "list", "a person decides what becomes of it"


SHARED = (
    *(PREFIX + name for name in ("accounts", "clock", "events", "finished", "jobs", "machines", "run", "turn")),
    *(PREFIX + name for name in ("due:~closing", "flying:~closing", "due:~closing@{machine}", "due:~callbacks")),
    PREFIX + "workers",
    *LISTS_AND_STREAMS,
)


def test_a_broken_key_that_all_need_is_set_aside_and_stops_nobody(fed: Fed, valkey: redis.Redis) -> None:
    for key in (key.format(machine=fed.runtime.machine.name()) for key in SHARED):
        break_key(valkey, key)
        aside = wait_until(lambda: kept_aside(valkey), f"{key} is not set aside")
        assert [valkey.type(name) for name in aside] == ["string" if key in LISTS_AND_STREAMS else "list"]
        valkey.delete(*aside)
        fed.sends(fed.open("south_clinic"))
        fed.sends(fed.open("north_clinic"))
        wait_until(lambda: not feeder_troubles(valkey), "the feeder still says that it fails")


@pytest.mark.parametrize("family", ["gate", "gate-reason", "calls-of"])
def test_a_broken_rate_limit_is_set_aside(fed: Fed, valkey: redis.Redis, family: str) -> None:
    group = fed.runtime.accounts["south_clinic"].provider.limit_group
    break_key(valkey, f"{PREFIX}{family}:{group}")
    fed.feeder._key_guard.look(of_groups=True)
    assert kept_aside(valkey) == [f"{PREFIX}set-aside:{family}:{group}"]
    fed.sends(fed.open("south_clinic"))
    fed.sends(fed.open("north_clinic"))


@pytest.mark.parametrize("family", ["job", "waiting"])
def test_a_broken_key_of_one_job_stops_that_job_alone(fed: Fed, valkey: redis.Redis, family: str) -> None:
    first = fed.open("south_clinic")
    fed.sends(first)
    break_key(valkey, f"{PREFIX}{family}:{first}")
    valkey.zadd(f"{PREFIX}due:south_clinic", {first: 0})
    fed.sends(fed.open("south_clinic"))
    if family == "job":
        wait_until(lambda: any(first in each.skipped_jobs for each in feeder_troubles(valkey).values()), "not said")


def test_what_was_due_is_due_again_after_a_mended_lane(fed: Fed, valkey: redis.Redis) -> None:
    break_key(valkey, f"{PREFIX}due:south_clinic")
    waiting = [fed.open("south_clinic") for _ in range(3)]
    wait_until(lambda: feeder_troubles(valkey), "nobody says that the account is skipped")
    consistency = Consistency(fed.runtime.redis, fed.runtime.ledger)
    assert any("set aside" in each.what for each in list(consistency.inconsistencies(mend=True)))
    for job_id in waiting:
        fed.sends(job_id)


def test_a_feeder_that_fails_for_a_bug_says_so(fed: Fed, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fed.feeder._probes, "start", lambda due: next(iter(())))
    wait_until(lambda: [each.failing for each in feeder_troubles(valkey).values()] == ["StopIteration"], "it does not")
    monkeypatch.undo()
    wait_until(lambda: not feeder_troubles(valkey), "it still says so")
