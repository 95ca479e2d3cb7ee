"""A Redis restart under a worker that holds an unacknowledged message: with the guard it goes on, without it dies.

When a test here that is named "without the guard" fails, kombu has mended a fault, and that part of
`worker/celery/kombu_guard.py` can go.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from kombu import Connection, Consumer, Exchange, Message, Producer, Queue
from kombu.transport.redis import Channel

from tests.harness.installation import Child, Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.valkey import FaultyValkey
from tests.harness.waiting import PATIENCE_SECONDS, wait_until
from tests.worker.celery.slow_storage import SlowStorage
from worker.celery.kombu_guard import GuardedChannel


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


def test_an_entry_that_is_not_a_message_ends_no_worker_and_the_call_behind_it_is_opened(north: Installation) -> None:
    worker = north.start_worker()
    rubbish = [
        b"rubbish",
        b"\xff\xfe",
        b'"text"',
        b"[1]",
        b"{}",
        b'{"properties": {}}',
        b'{"properties": {"delivery_tag": 1}}',
    ]
    for queue in ("chartpost", "chartpost.stages"):
        north.redis.lpush(queue, *rubbish)
    job = north.send(north.write("scan.pdf", b"a scan"), "4711")
    wait_until(lambda: north.stage(job) == "delivered", "the call behind it is delivered")
    assert worker.process.poll() is None
    assert worker.log.count("no_message_dropped") >= 2 * (len(rubbish) - 1)
    assert "rubbish" not in worker.log


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
    queue = Queue("popped", Exchange("popped"), routing_key="popped")
    with Connection(valkey_url) as connection:
        connection.transport.Channel = kind  # type: ignore[attr-defined]  # the stubs leave it out
        Producer(connection).publish({"a": "message"}, exchange=queue.exchange, routing_key="popped", declare=[queue])
        with Consumer(connection, [queue]):
            valkey.config_set("maxmemory", "1")
            try:
                with pytest.raises(redis.ConnectionError if kind is GuardedChannel else redis.ResponseError):
                    connection.drain_events(timeout=PATIENCE_SECONDS)
            finally:
                valkey.config_set("maxmemory", "0")
    assert valkey.llen("popped") == 0
    with Connection(valkey_url) as connection:
        connection.transport.Channel = kind  # type: ignore[attr-defined]  # as above
        connection.connect()
    assert valkey.llen("popped") == (1 if kind is GuardedChannel else 0)


@pytest.mark.parametrize("kind", [GuardedChannel, Channel], ids=["guarded", "without the guard"])
def test_an_acknowledgement_that_redis_refuses_is_a_lost_connection_only_with_the_guard(
    valkey_url: str, valkey: redis.Redis, kind: type[Channel]
) -> None:
    """Celery lives with lost connections; any other error of an acknowledgement ends its worker."""
    queue = Queue("held", Exchange("held"), routing_key="held")
    with Connection(valkey_url) as connection:
        connection.transport.Channel = kind  # type: ignore[attr-defined]  # the stubs leave it out
        Producer(connection).publish({"a": "message"}, exchange=queue.exchange, routing_key="held", declare=[queue])
        held: list[Message] = []
        with Consumer(connection, [queue], callbacks=[lambda _, message: held.append(message)]):
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
