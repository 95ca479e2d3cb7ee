"""Commands of a thread go over one connection, which is given back with the thread and dropped when it is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import redis

from tasks.ledger.redis import connect
from tasks.ledger.script_loader import load_script
from tasks.ledger.thread_connection import run_id
from tests.harness.valkey import FaultyValkey
from tests.harness.waiting import wait_until

T = TypeVar("T")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyValkey]:
    server = FaultyValkey(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def client(valkey: redis.Redis, valkey_url: str) -> Iterator[redis.Redis]:
    client = connect(valkey_url)
    yield client
    client.close()


def in_threads(count: int, act: Callable[[], T]) -> list[T]:
    """What each thread returned. All of them have acted before the first one ends."""
    results: list[T] = []
    acted = threading.Barrier(count)

    def run() -> None:
        results.append(act())
        acted.wait(60)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def connections(server: redis.Redis) -> int:
    """How many connections there are that `connect` has made."""
    return sum(each["name"] == "chartpost" for each in server.client_list())


def test_a_thread_keeps_its_connection_and_another_one_has_its_own(client: redis.Redis) -> None:
    first = client.client_id()
    client.set("a", "b")
    assert client.get("a") == "b"
    assert client.client_id() == first
    assert len({first, *in_threads(3, client.client_id)}) == 4


def test_threads_that_end_give_their_connections_back(valkey: redis.Redis, client: redis.Redis) -> None:
    client.ping()
    before = connections(valkey)
    for _ in range(30):
        in_threads(5, client.ping)
    assert connections(valkey) <= before + 5


def test_more_threads_than_redis_py_has_connections_for_may_hold_one_each(client: redis.Redis) -> None:
    assert in_threads(120, client.ping) == [True] * 120


def test_connections_end_with_their_client(valkey: redis.Redis, valkey_url: str) -> None:
    client = connect(valkey_url)
    in_threads(3, client.ping)
    before = connections(valkey)
    del client
    wait_until(lambda: connections(valkey) == before - 3, "connections end")


def test_a_closed_client_connects_again(client: redis.Redis) -> None:
    client.ping()
    client.close()
    assert client.ping()


def test_an_answer_that_is_an_error_keeps_the_connection(client: redis.Redis) -> None:
    first = client.client_id()
    client.hset("a hash", "field", "value")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.get("a hash")
    assert client.client_id() == first


def test_a_restart_between_two_commands_is_noticed_before_the_second(server: FaultyValkey) -> None:
    client = connect(server.start())
    client.set("a", "b")
    server.stop()
    with pytest.raises(redis.ConnectionError):
        client.get("a")
    server.start()
    assert client.get("a") == "b"
    server.stop()
    server.start()
    assert client.get("a") == "b"


def test_a_lost_answer_raises_and_the_command_is_not_repeated(server: FaultyValkey) -> None:
    client = connect(f"{server.start()}?socket_timeout=0.5")
    client.set("word", "answer")
    first = client.client_id()
    with server.frozen(), pytest.raises(redis.TimeoutError):
        client.incr("count")
    assert client.get("word") == "answer"  # not the late answer of INCR
    assert client.client_id() != first
    assert client.get("count") == "1"


def test_a_command_that_waits_when_the_server_dies_raises(server: FaultyValkey) -> None:
    client = connect(server.start())
    client.xgroup_create("stream", "group", mkstream=True)
    waits = threading.Thread(target=lambda: errors.append(error_of(read)))
    errors: list[Exception | None] = []

    def read() -> None:
        client.xreadgroup("group", "reader", {"stream": ">"}, block=9000)

    waits.start()
    wait_until(lambda: any(each["cmd"] == "xreadgroup" for each in client.client_list()), "it reads")
    server.kill()
    waits.join()
    assert isinstance(errors[0], redis.ConnectionError)


def error_of(act: Callable[[], object]) -> Exception | None:
    try:
        act()
    except redis.RedisError as error:
        return error
    return None


def test_a_command_that_was_interrupted_leaves_its_answer_to_nobody(
    server: FaultyValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    client = connect(server.start())
    client.set("word", "answer")
    with server.frozen(), monkeypatch.context() as patched:
        patched.setattr(client, "parse_response", interrupt)
        with pytest.raises(KeyboardInterrupt):
            client.incr("count")
    assert client.get("word") == "answer"


def test_a_silent_connection_is_asked_whether_it_lives(valkey: redis.Redis, valkey_url: str) -> None:
    def pings() -> int:
        return int(valkey.info("commandstats").get("cmdstat_ping", {}).get("calls", 0))

    client = connect(f"{valkey_url}?health_check_interval=1")
    client.get("a")
    before = pings()
    time.sleep(1.1)
    client.get("a")
    assert pings() == before + 1


def test_scripts_pipelines_subscriptions_and_blocking_reads_work(valkey: redis.Redis, client: redis.Redis) -> None:
    script = load_script(client, "take_lock")
    valkey.script_flush()
    assert script(keys=["lock"], args=["mark", 1000]) == "1000 mark"
    with client.pipeline(transaction=True) as pipe:
        pipe.set("a", "b")
        pipe.get("a")
        assert pipe.execute() == [True, "b"]
    with client.pubsub() as pubsub:  # type: ignore[no-untyped-call]  # redis-py has no types here
        pubsub.subscribe("channel")
        assert pubsub.get_message(timeout=10)
        client.publish("channel", "word")
        message = pubsub.get_message(timeout=10)
        assert message
        assert message["data"] == "word"
    client.xgroup_create("stream", "group", mkstream=True)
    assert not client.xreadgroup("group", "reader", {"stream": ">"}, block=10)
    client.xadd("stream", {"field": "value"})
    assert client.xreadgroup("group", "reader", {"stream": ">"}, block=10_000)


def test_without_decoding_answers_are_bytes(valkey: redis.Redis, valkey_url: str) -> None:
    client = connect(valkey_url, decode_responses=False)
    client.set("a", b"\xff")
    assert client.get("a") == b"\xff"
    client.close()


def test_a_child_never_uses_its_parents_connections(client: redis.Redis) -> None:
    holding, end = threading.Event(), threading.Event()

    def hold() -> None:
        client.ping()
        holding.set()
        end.wait(60)

    other = threading.Thread(target=hold)  # its connection lies in the child too, where the thread does not
    other.start()
    holding.wait(60)
    first = client.client_id()
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.write(writes, str(client.client_id()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reads, 100)) != first
    assert client.client_id() == first
    end.set()
    other.join()


def test_a_process_with_threads_that_hold_connections_ends_without_a_word(valkey_url: str) -> None:
    program = (
        "import threading, sys\n"
        "from tasks.ledger.redis import connect\n"
        "client = connect(sys.argv[1])\n"
        "client.ping()\n"
        "done = threading.Event()\n"
        "def hold():\n"
        "    client.ping(); done.set(); threading.Event().wait()\n"
        "threading.Thread(target=hold, daemon=True).start()\n"
        "done.wait()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, valkey_url], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_the_run_of_redis_is_asked_once_for_each_connection(valkey: redis.Redis, client: redis.Redis) -> None:
    def asked() -> int:
        return int(valkey.info("commandstats").get("cmdstat_info", {}).get("calls", 0))

    valkey.config_resetstat()
    right = valkey.info("server")["run_id"]
    before = asked()
    assert {run_id(client) for _ in range(5)} == {right}
    assert asked() - before == 2  # one of them is the count's own
    assert in_threads(3, lambda: run_id(client)) == [right] * 3
    assert asked() - before == 2 + 1 + 3


@pytest.mark.parametrize("noticed", [False, True], ids=["between two questions", "by a command that failed"])
def test_a_restart_of_redis_is_another_run(server: FaultyValkey, noticed: bool) -> None:
    client = connect(server.start())
    before = run_id(client)
    server.kill()
    if noticed:
        with pytest.raises(redis.ConnectionError):
            client.ping()
    url = server.start()
    after = run_id(client)
    assert after != before
    assert after == run_id(redis.Redis.from_url(url))
    assert after == run_id(client)


def test_a_run_that_cannot_be_asked_for_is_an_error_and_not_the_last_one(server: FaultyValkey) -> None:
    client = connect(server.start())
    run_id(client)
    server.kill()
    with pytest.raises(redis.ConnectionError):
        run_id(client)
