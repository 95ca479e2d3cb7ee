"""A Redis restart under a worker that holds an unacknowledged message: with the guard it goes on, without it dies.

When a test here that is named "without the guard" fails, kombu has mended a fault, and that part of
`worker/celery/kombu_guard.py` can go.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest
import redis
from kombu import Connection, Consumer, Message
from kombu.transport.redis import Channel

from config.celery import direct_queue
from tasks.runtime import Runtime
from tests.harness.installation import Child, Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.valkey import FaultyValkey
from tests.harness.waiting import PATIENCE_SECONDS, wait_until
from tests.worker.celery.raw_messages import UUID as CALL
from tests.worker.celery.raw_messages import entry
from tests.worker.celery.slow_storage import SlowStorage
from worker.celery import kombu_guard
from worker.celery.build import dead_letter_keeper
from worker.celery.kombu_guard import GuardedChannel, guard_kombu
from worker.celery.queue_messages import MOST_RETURNS, Unfit


@pytest.fixture
def storage() -> Iterator[SlowStorage]:
    storage = SlowStorage()
    yield storage
    storage.let_go.set()
    storage.shutdown()
    storage.server_close()


@pytest.fixture(scope="module")
def world() -> Iterator[SandboxProcess]:
    with SandboxProcess() as sandbox:
        yield sandbox


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyValkey]:
    """A Valkey of this test's own: it is restarted."""
    server = FaultyValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def north(tmp_path: Path, world: SandboxProcess, server: FaultyValkey) -> Iterator[Installation]:
    url = (tmp_path / "valkey" / "redis.url").read_text().strip()
    with installed(tmp_path / "clinic", world, url) as started:
        yield started


def worker_of(application: str, clinic: Installation, storage: SlowStorage) -> Child:
    """A worker with a call in its hands, which is acknowledged when it ends: it asks the storage about its source."""
    environ = {**clinic.world.aws_environment, "CHARTPOST_S3__ENDPOINT_URL": storage.url}
    worker = clinic.start("celery", "-A", application, "worker", **environ)
    wait_until(clinic.process.workers.alive, "the worker consumes")
    clinic.upload("s3://sources/slow.pdf")
    wait_until(storage.asked.is_set, "the call is taken")
    assert clinic.redis.zcard("unacked_index") == 1
    return worker


def restart(server: FaultyValkey) -> None:
    server.stop()
    server.start()


def test_a_worker_survives_a_redis_restart_and_delivers_again(
    north: Installation, server: FaultyValkey, storage: SlowStorage
) -> None:
    worker = worker_of("worker", north, storage)
    restart(server)
    storage.let_go.set()
    patient = f"g{uuid4()}"
    after = north.upload(north.write("after.pdf", b"after"), patient)
    assert after.get(timeout=120)["size_bytes"] == 5
    assert [record["file_name"] for record in north.chart(patient_id=patient)] == ["after.pdf"]
    assert worker.process.poll() is None


def test_without_the_guard_the_same_restart_ends_the_worker(
    north: Installation, server: FaultyValkey, storage: SlowStorage
) -> None:
    worker = worker_of("tests.worker.celery.unguarded", north, storage)
    restart(server)
    storage.let_go.set()
    assert worker.process.wait(PATIENCE_SECONDS) == 1
    assert "Unrecoverable error: AttributeError" in worker.log


@pytest.mark.parametrize("kind", [GuardedChannel, Channel], ids=["guarded", "without the guard"])
def test_a_message_popped_while_redis_refuses_to_note_it_is_put_back_only_by_the_guard(
    valkey_url: str, valkey: redis.Redis, kind: type[Channel]
) -> None:
    with Connection(valkey_url) as connection:
        connection.transport.Channel = kind  # type: ignore[attr-defined]  # the stubs leave it out
        valkey.lpush("chartpost", entry())
        with Consumer(connection, [direct_queue("chartpost")]):
            valkey.config_set("maxmemory", "1")
            try:
                with pytest.raises(redis.ConnectionError if kind is GuardedChannel else redis.ResponseError):
                    connection.drain_events(timeout=PATIENCE_SECONDS)
            finally:
                valkey.config_set("maxmemory", "0")
    assert valkey.llen("chartpost") == 0
    with Connection(valkey_url) as connection:
        connection.transport.Channel = kind  # type: ignore[attr-defined]  # as above
        connection.connect()
    assert valkey.llen("chartpost") == (1 if kind is GuardedChannel else 0)


@pytest.mark.parametrize("kind", [GuardedChannel, Channel], ids=["guarded", "without the guard"])
def test_an_acknowledgement_that_redis_refuses_is_a_lost_connection_only_with_the_guard(
    valkey_url: str, valkey: redis.Redis, kind: type[Channel]
) -> None:
    """Celery lives with lost connections; any other error of an acknowledgement ends its worker."""
    with Connection(valkey_url) as connection:
        connection.transport.Channel = kind  # type: ignore[attr-defined]  # the stubs leave it out
        valkey.lpush("chartpost", entry())
        held: list[Message] = []
        with Consumer(connection, [direct_queue("chartpost")], callbacks=[lambda _, message: held.append(message)]):
            connection.drain_events(timeout=PATIENCE_SECONDS)
            valkey.replicaof("127.0.0.1", "1")
            try:
                with pytest.raises(redis.ConnectionError if kind is GuardedChannel else redis.exceptions.ReadOnlyError):
                    held[0].ack()
            finally:
                valkey.replicaof("NO", "ONE")
            held[0].ack()
    assert valkey.zcard("unacked_index") == 0


def test_one_client_serves_all_commands_of_a_channel_until_its_connections_are_lost(valkey_url: str) -> None:
    """kombu makes one for every command; under many small messages that was an eighth of a worker's work."""
    channel = GuardedChannel(Connection(valkey_url).transport)
    with channel.conn_or_acquire() as one, channel.conn_or_acquire() as other:
        assert one is other
    channel._disconnect_pools()  # type: ignore[attr-defined]  # the stubs leave it out
    with channel.conn_or_acquire() as later:
        assert later is not one
        assert later.ping()
    assert channel.client is not later, "the one that blocks has a connection of its own"
    channel.close()


# What goes back to its queue


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker."""
    monkeypatch.setattr(GuardedChannel, "writes", True)


@pytest.fixture
def guarded(writing: None) -> type[GuardedChannel]:
    """The channels of a worker, whose dead letters are only collected: `guarded.kept`."""

    class Guarded(GuardedChannel):
        kept: ClassVar[list[tuple[bytes, str, Unfit]]] = []

        @staticmethod
        def keep_dead(raw: bytes, queue: str, unfit: Unfit) -> None:
            Guarded.kept.append((raw, queue, unfit))

    return Guarded


@contextmanager
def consuming(
    url: str, kind: type[Channel], queue: str = "chartpost", *, at_once: int = 0
) -> Iterator[tuple[Connection, list[Any]]]:
    """A consumer of a queue, whose messages become visible again at once; and what it holds.

    `at_once`: how many messages it may hold; 0: any number.
    """
    held: list[Any] = []
    with Connection(url, transport_options={"visibility_timeout": 0, "unacked_restore_throttle": 1}) as connection:
        connection.transport.Channel = kind  # type: ignore[attr-defined]  # the stubs leave it out
        take = [lambda _, message: held.append(message)]
        with Consumer(connection, [direct_queue(queue)], callbacks=take, prefetch_count=at_once or None):
            yield connection, held


def returns(valkey: redis.Redis, queue: str = "chartpost") -> list[int]:
    found: Any = valkey.lrange(queue, 0, -1)
    return [json.loads(message)["headers"]["returns"] for message in found]


def test_a_message_that_a_dead_worker_held_comes_back_and_is_counted(
    valkey_url: str, valkey: redis.Redis, guarded: type[GuardedChannel]
) -> None:
    valkey.lpush("chartpost", entry())
    for count in range(MOST_RETURNS):
        with consuming(valkey_url, guarded) as (connection, held):
            connection.drain_events(timeout=PATIENCE_SECONDS)
            held[0].channel.qos.restore_visible()
            held[0].channel.qos._delivered.clear()  # as if this process had been killed
        assert returns(valkey) == [count + 1]
    with consuming(valkey_url, guarded) as (connection, held):
        connection.drain_events(timeout=PATIENCE_SECONDS)
        assert held == []
    [(raw, queue, unfit)] = guarded.kept  # type: ignore[attr-defined]
    assert (queue, unfit.code, unfit.task_id) == ("chartpost", "redelivered", CALL)
    assert json.loads(raw)["headers"]["id"] == CALL
    assert (valkey.llen("chartpost"), valkey.hlen("unacked"), valkey.zcard("unacked_index")) == (0, 0, 0)


@pytest.mark.parametrize(("in_order", "counted"), [(True, 0), (False, 1)])
def test_what_a_worker_gives_back_at_its_end_counts_only_if_it_ended_badly(
    valkey_url: str, valkey: redis.Redis, guarded: type[GuardedChannel], in_order: bool, counted: int
) -> None:
    valkey.lpush("chartpost", entry())
    guarded.ends_in_order = in_order
    with consuming(valkey_url, guarded) as (connection, held):
        connection.drain_events(timeout=PATIENCE_SECONDS)
        assert len(held) == 1
    assert returns(valkey) == [counted]


def test_what_a_task_puts_back_does_not_count(
    valkey_url: str, valkey: redis.Redis, guarded: type[GuardedChannel]
) -> None:
    """An outage of a storage may last for hours."""
    valkey.lpush("chartpost", entry())
    with consuming(valkey_url, guarded) as (connection, held):
        for _ in range(MOST_RETURNS + 1):
            connection.drain_events(timeout=PATIENCE_SECONDS)
            held.pop().requeue()
        assert returns(valkey) == [0]


STEPS = ("chartpost.stages", "chartpost.stages.old-mill")
CALLS = ("chartpost", "chartpost.from.lab")


def step() -> bytes:
    return entry("chartpost.notify", str(uuid4()), args=[str(uuid4())])


def transactions(valkey: redis.Redis) -> int:
    return int(valkey.info("commandstats").get("cmdstat_exec", {}).get("calls", 0))


@pytest.mark.parametrize("queue", STEPS)
def test_a_steps_message_costs_no_command_but_the_one_that_takes_it(
    valkey_url: str, valkey: redis.Redis, guarded: type[GuardedChannel], queue: str
) -> None:
    valkey.lpush(queue, step())
    with consuming(valkey_url, guarded, queue) as (connection, held):
        before = transactions(valkey)
        connection.drain_events(timeout=PATIENCE_SECONDS)
        assert (valkey.hlen("unacked"), valkey.zcard("unacked_index")) == (0, 0)
        held[0].ack()
        assert transactions(valkey) == before
    assert valkey.llen(queue) == 0


@pytest.mark.parametrize("queue", CALLS)
def test_a_call_is_noted_as_unacknowledged_until_it_is_acknowledged(
    valkey_url: str, valkey: redis.Redis, guarded: type[GuardedChannel], queue: str
) -> None:
    valkey.lpush(queue, entry())
    with consuming(valkey_url, guarded, queue) as (connection, held):
        connection.drain_events(timeout=PATIENCE_SECONDS)
        assert (valkey.hlen("unacked"), valkey.zcard("unacked_index")) == (1, 1)
        held[0].ack()
        assert (valkey.hlen("unacked"), valkey.zcard("unacked_index")) == (0, 0)


@pytest.mark.parametrize("queue", STEPS)
def test_a_worker_holds_no_more_messages_of_steps_than_it_may(
    valkey_url: str, valkey: redis.Redis, guarded: type[GuardedChannel], queue: str
) -> None:
    valkey.lpush(queue, step(), step(), step())
    with consuming(valkey_url, guarded, queue, at_once=2) as (connection, held):
        take_all(connection)
        assert (len(held), valkey.llen(queue)) == (2, 1)
        held[0].ack()
        take_all(connection)
        assert (len(held), valkey.llen(queue)) == (3, 0)


@pytest.mark.parametrize("queue", STEPS)
def test_steps_that_wait_are_taken_in_one_turn_and_no_more_than_it_may_hold(
    valkey_url: str, valkey: redis.Redis, guarded: type[GuardedChannel], queue: str
) -> None:
    messages = [step() for _ in range(5)]
    valkey.lpush(queue, *messages)
    with consuming(valkey_url, guarded, queue, at_once=4) as (connection, held):
        connection.drain_events(timeout=PATIENCE_SECONDS)
        assert [message.headers["id"] for message in held] == [
            json.loads(each)["headers"]["id"] for each in messages[:4]
        ]
        assert valkey.llen(queue) == 1


@pytest.mark.parametrize("queue", CALLS)
def test_calls_are_taken_one_by_one_so_that_each_is_noted_at_once(
    valkey_url: str, valkey: redis.Redis, guarded: type[GuardedChannel], queue: str
) -> None:
    valkey.lpush(queue, entry(), entry())
    with consuming(valkey_url, guarded, queue, at_once=4) as (connection, held):
        connection.drain_events(timeout=PATIENCE_SECONDS)
        assert (len(held), valkey.llen(queue)) == (1, 1)


def take_all(connection: Connection) -> None:
    with suppress(TimeoutError):
        while True:
            connection.drain_events(timeout=1)


@pytest.mark.parametrize("queue", STEPS)
def test_a_steps_message_that_a_worker_has_not_begun_goes_back_when_it_ends(
    valkey_url: str, valkey: redis.Redis, guarded: type[GuardedChannel], queue: str
) -> None:
    guarded.ends_in_order = True
    valkey.lpush(queue, step(), step())
    with consuming(valkey_url, guarded, queue) as (connection, held):
        while len(held) < 2:
            connection.drain_events(timeout=PATIENCE_SECONDS)
        begun, waiting = held
        begun.ack()
    [back] = valkey.lrange(queue, 0, -1)
    assert json.loads(back)["headers"]["id"] == waiting.headers["id"]
    with consuming(valkey_url, guarded, queue) as (connection, held):
        connection.drain_events(timeout=PATIENCE_SECONDS)
        held[0].reject(requeue=True)
        assert valkey.llen(queue) == 1


def test_a_message_that_becomes_no_task_counts_as_taken_too(
    valkey_url: str, valkey: redis.Redis, guarded: type[GuardedChannel]
) -> None:
    """Else a flood of them would look as if the worker took nothing, and it would end itself."""
    before = GuardedChannel.taken
    valkey.lpush("chartpost", b"{}", entry())
    with consuming(valkey_url, guarded) as (connection, held):
        while not held:
            connection.drain_events(timeout=PATIENCE_SECONDS)
    assert GuardedChannel.taken - before == 2


FORGED = {"exchange": "", "routing_key": "chartpost:due:north_clinic"}


def test_a_message_goes_back_to_the_queue_that_it_came_from_whatever_it_says(
    valkey_url: str, valkey: redis.Redis, guarded: type[GuardedChannel]
) -> None:
    # A caller may write to the bindings of this queue too.
    valkey.sadd("_kombu.binding.chartpost", "chartpost\x06\x16\x06\x16chartpost:due:north_clinic")
    valkey.lpush("chartpost\x06\x163", entry(properties={"delivery_info": FORGED, "priority": 0}))
    with consuming(valkey_url, guarded) as (connection, held):
        connection.drain_events(timeout=PATIENCE_SECONDS)
        held[0].requeue()
        assert returns(valkey, "chartpost\x06\x163") == [0]
    assert not valkey.exists("chartpost:due:north_clinic")


NOTED = json.loads(entry(properties={"delivery_info": FORGED}))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [*((GuardedChannel, payload) for payload in (NOTED, 5, {}, {"properties": 1})), (Channel, NOTED)],
)
@pytest.mark.usefixtures("writing")
def test_what_an_earlier_version_noted_goes_to_no_key_of_ours_with_the_guard(
    valkey_url: str, valkey: redis.Redis, kind: type[Channel], payload: object
) -> None:
    valkey.zadd("unacked_index", {"tag": 1})
    valkey.hset("unacked", "tag", json.dumps([payload, "", FORGED["routing_key"]]))
    with consuming(valkey_url, kind) as (connection, _):
        channel: Any = connection.default_channel
        channel.qos.restore_visible()
    assert valkey.zcard("unacked_index") == 0
    assert valkey.exists(FORGED["routing_key"]) == (kind is Channel)
    assert valkey.llen("chartpost") == (kind is GuardedChannel)


def test_a_dead_letter_that_redis_refuses_goes_back_and_is_kept_later(
    valkey_url: str, valkey: redis.Redis, guarded: type[GuardedChannel]
) -> None:
    def refused(*_: Any) -> None:
        raise redis.exceptions.OutOfMemoryError("OOM command not allowed")

    valkey.lpush("chartpost", b"rubbish")
    keep, guarded.keep_dead = guarded.keep_dead, staticmethod(refused)
    with consuming(valkey_url, guarded) as (connection, _):
        with pytest.raises(redis.ConnectionError):
            connection.drain_events(timeout=PATIENCE_SECONDS)
        assert valkey.llen("chartpost") == 0
    guarded.keep_dead = staticmethod(keep)  # type: ignore[arg-type]
    with consuming(valkey_url, guarded) as (connection, _):
        connection.drain_events(timeout=PATIENCE_SECONDS)
    assert [raw for raw, _, _ in guarded.kept] == [b"rubbish"]  # type: ignore[attr-defined]
    assert valkey.llen("chartpost") == 0


def test_where_dead_letters_cannot_be_written_at_all_the_others_go_on(
    valkey_url: str, valkey: redis.Redis, runtime: Runtime
) -> None:
    """Somebody has put another kind of key there."""

    class Guarded(GuardedChannel):
        keep_dead = staticmethod(dead_letter_keeper(runtime))

    valkey.set("chartpost:dead", "no stream")
    valkey.lpush("chartpost", b"rubbish", entry())
    with consuming(valkey_url, Guarded) as (connection, held):
        connection.drain_events(timeout=PATIENCE_SECONDS)
        connection.drain_events(timeout=PATIENCE_SECONDS)
        assert len(held) == 1
        held[0].ack()


@pytest.mark.parametrize("reply", [b"rubbish", b"[1]", b"{}", b'{"properties": {}}', b"[" * 3000, b"\xff"])
def test_an_answer_to_inspect_that_is_none_harms_nobody(valkey_url: str, valkey: redis.Redis, reply: bytes) -> None:
    queue = "x.reply.celery.pidbox"
    with Connection(valkey_url) as connection:
        connection.transport.Channel = GuardedChannel  # type: ignore[attr-defined]  # as above
        with Consumer(connection, [direct_queue(queue)]):
            valkey.lpush(queue, reply)
            connection.drain_events(timeout=PATIENCE_SECONDS)


def test_another_kombu_is_refused_since_foreign_messages_would_reach_celery_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kombu_guard, "AFFECTED", "5.6.0")
    with pytest.raises(RuntimeError, match="needs kombu"):
        guard_kombu()
