"""What each user of deploy/valkey/users.acl.example may do, proven on Valkey and on Redis 7.0.

The servers are asked themselves: a command that a later version brings along is walked over too, and refused.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery
from redis.exceptions import NoPermissionError

from tests.deploy.containers import House
from tests.harness.sandbox import ROOT
from tests.harness.servers import VALKEY, redis_server
from tests.harness.waiting import wait_until

EVERYBODY = {"auth", "hello", "quit", "reset"}  # also to clients that are not logged in
CONNECTION = EVERYBODY | {"ping", "select", "client|setname", "client|setinfo"}
SENDING = {"multi", "exec", "discard", "lpush", "llen", "sadd", "xadd"}
READING = {"subscribe", "unsubscribe", "get", "mget"}
CHANNELS = {"publish", "subscribe", "unsubscribe", "psubscribe", "punsubscribe"}
QUEUES_OF_ITS_OWN = {"multi", "exec", "discard", "brpop", "llen", "del", "pexpire", "sadd", "srem"}
SCRIPTS_OF_KOMBU = {"evalsha", "script|load", "script|exists", "time", "exists", "zadd", "zrangebyscore", "zrem"}
RIGHTS = {
    "health": {"ping"},
    "caller": CONNECTION | SENDING | READING,
    "producer.lab": CONNECTION | SENDING | READING,
    "flower": CONNECTION | CHANNELS | QUEUES_OF_ITS_OWN | SCRIPTS_OF_KOMBU | {"get", "mget"},
}
ADDRESSES = {
    "caller": "caller_redis_url",
    "producer.lab": "producer_lab_redis_url",
    "flower": "flower_redis_url",
    "chartpost": "redis_url",
}

KEYS = [
    *(f"{queue}{step}" for queue in ("chartpost", "chartpost.from.lab") for step in ("", "\x06\x163", "\x06\x169")),
    "chartpost\x06\x164",
    "chartpost:xy",  # as long as a queue's list for a priority
    "chartpost.stages",
    "chartpost.stages.7d2f3c5e-0000-4000-8000-000000000000",
    "chartpost.from.lab2",
    "chartpost.from.la",
    "chartpost:intake",
    "chartpost:intake:lab",
    "chartpost:intake:lab2",
    "chartpost:intake:rejected",
    "chartpost:dead",
    "chartpost:events",
    "chartpost:jobs",
    "chartpost:job:7d2f3c5e-0000-4000-8000-000000000000",
    "chartpost:due:north_clinic",
    "chartpost:seal-check",
    "unacked",
    "unacked_index",
    "celery-task-meta-7d2f3c5e-0000-4000-8000-000000000000",
    *(f"_kombu.binding{kind}.{queue}" for kind in ("", "_permanent") for queue in ("chartpost", "chartpost.from.lab")),
    "_kombu.binding.chartpost.stages",
    "_kombu.binding.celery.pidbox",
    "anything",
]


def of_its_own(queue: str, stream: str) -> dict[str, set[str]]:
    """Key -> the commands of a service that sends to this queue and stream."""
    return {
        **{f"{queue}{step}": {"lpush", "llen"} for step in ("", "\x06\x163", "\x06\x169")},
        **{f"_kombu.binding{kind}.{queue}": {"sadd"} for kind in ("", "_permanent")},
        stream: {"xadd"},
        "celery-task-meta-7d2f3c5e-0000-4000-8000-000000000000": {"get", "mget"},
    }


@pytest.fixture(scope="module", params=["Valkey", "Redis"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    server = VALKEY if request.param == "Valkey" else redis_server()
    started = House(tmp_path_factory.mktemp("rights"), server, producers=["lab", "lab2"])
    started.start("valkey")
    try:
        wait_until(lambda: started.check_health("valkey") == 0, "the server answers")
        yield started
    finally:
        started.stop()


@cache
def examiner(house: House) -> Any:
    """Any: answers are untyped here."""
    return redis.Redis(port=house.ports["valkey"], username="examiner", password="-", decode_responses=True)


def logged_in(house: House, user: str) -> Any:
    if user == "health":
        return redis.Redis(port=house.ports["valkey"], username=user, password="-", protocol=2)
    return redis.Redis.from_url(house.secret(ADDRESSES[user]), protocol=2)


@cache
def every_command(house: House) -> dict[str, list[str]]:
    """Name (`get`, `client|pause`) -> the shortest call that the server looks at; what is too short it never checks."""
    server = examiner(house)
    names = server.command_list()
    containers = {name.partition("|")[0] for name in names if "|" in name}
    described = {}
    # `COMMAND INFO` with its two words as one: redis-py would parse the answer to `COMMAND`, without subcommands.
    for row in server.execute_command("COMMAND INFO", *(name for name in names if name not in containers)):
        words = row[0].split("|")
        described[row[0]] = [*words, *["0"] * (abs(row[1]) - len(words))]
    return described


def dry_run(house: House, user: str, *words: str) -> str:
    """ "OK", or why the server refuses."""
    return str(examiner(house).execute_command("ACL DRYRUN", user, *words))


@cache
def may_run(house: House, user: str) -> set[str]:
    """The commands that a user may run on some key or channel."""
    commands = every_command(house)
    return {name for name, words in commands.items() if "permissions to run" not in dry_run(house, user, *words)}


def named_in_example(user: str) -> set[str]:
    line = re.search(rf"^#?user {re.escape(user)} .*$", example(), re.MULTILINE)
    assert line
    return set(re.findall(r"(?<= \+)[\w|@]+", line[0]))


def example() -> str:
    return (ROOT / "deploy/valkey/users.acl.example").read_text().replace("producer.NAME", "producer.lab")


@pytest.mark.parametrize("user", [*RIGHTS, "chartpost"])
def test_of_all_the_servers_commands_a_user_may_run_those_of_the_example_alone(house: House, user: str) -> None:
    known = every_command(house).keys()
    assert len(known) > 300
    assert may_run(house, user) == (named_in_example(user) | EVERYBODY) & known
    assert named_in_example(user) - known <= {"client|setinfo"}
    if user in RIGHTS:
        assert named_in_example(user) == RIGHTS[user]


@pytest.mark.parametrize("user", [*RIGHTS, "chartpost"])
def test_every_other_command_is_refused_to_a_client_that_is_logged_in(house: House, user: str) -> None:
    client = logged_in(house, user)
    commands = every_command(house)
    refused = commands.keys() - may_run(house, user)
    assert {
        "client|pause",
        "client|kill",
        "client|list",
        "client|no-evict",
        "client|reply",
    } <= refused
    # It tells names of keys, which this user may list anyway.
    assert ("client|tracking" in refused) == (user != "chartpost")
    assert {"flushall", "flushdb", "shutdown", "config|set", "config|get", "keys", "monitor", "eval"} <= refused
    assert {"debug", "module|load", "slowlog|get", "acl|list", "acl|setuser", "replicaof", "save", "migrate"} <= refused
    assert {"function|load", "fcall", "swapdb", "sort", "dump", "restore", "object|freq", "latency|reset"} <= refused
    for name in refused:
        # DEBUG and MODULE are refused to everybody, before their rights are looked at.
        with pytest.raises(redis.ResponseError, match=r"NOPERM|no permissions|command not allowed"):
            client.execute_command(*commands[name])
    assert client.execute_command("PING")
    examiner(house).acl_log_reset()


def test_scripts_of_chartpost_use_what_its_user_may_run() -> None:
    scripts = [*ROOT.glob("tasks/**/*.lua"), *ROOT.glob("worker/**/*.lua")]
    calls = [
        call for path in scripts for call in re.findall(r"redis\.p?call\(\s*'(\w+)'(?:, '([A-Z]+)')?", path.read_text())
    ]
    used = {f"{word}|{second}".lower() if word in ("XGROUP", "XINFO") else word.lower() for word, second in calls}
    assert len(used) > 30
    assert used <= named_in_example("chartpost")


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("caller", of_its_own("chartpost", "chartpost:intake")),
        ("producer.lab", of_its_own("chartpost.from.lab", "chartpost:intake:lab")),
    ],
    ids=["caller", "producer"],
)
def test_a_sender_reaches_its_own_queue_and_stream_and_each_only_with_its_commands(
    house: House, user: str, expected: dict[str, set[str]]
) -> None:
    arguments = {"lpush": "x", "sadd": "x", "xadd": "* a b"}
    for key in KEYS:
        for command in ("lpush", "llen", "sadd", "smembers", "get", "mget", "xadd"):
            words = [command, key, *arguments.get(command, "").split()]
            allowed = command in expected.get(key, set())
            assert (dry_run(house, user, *words) == "OK") == allowed, words


def test_flower_counts_what_waits_and_reads_no_message(house: House) -> None:
    queues = {key for key in KEYS if re.match(r"chartpost(\.|\x06|$)", key)}
    own = {"_kombu.binding.celery.pidbox"}
    assert {key for key in KEYS if dry_run(house, "flower", "llen", key) == "OK"} == queues | own
    for key in KEYS:
        for words in (["brpop", key, "0"], ["del", key], ["evalsha", "0" * 40, "1", key]):
            assert (dry_run(house, "flower", *words) == "OK") == (key in own), words
        assert (dry_run(house, "flower", "get", key) == "OK") == key.startswith("celery-task-meta-")


def test_a_script_of_flowers_reads_no_message_either(house: House) -> None:
    flower = logged_in(house, "flower")
    examiner(house).lpush("chartpost", "a message")
    for command in ("LRANGE chartpost 0 -1", "LPOP chartpost", "HGETALL unacked", "LPUSH chartpost x", "KEYS *"):
        words = ", ".join(f"'{word}'" for word in command.split())
        loaded = flower.script_load(f"return redis.call({words})")
        with pytest.raises(redis.ResponseError, match=r"permission|can't run this command|can't access"):
            flower.evalsha(loaded, 0)
    examiner(house).delete("chartpost")
    examiner(house).acl_log_reset()


@pytest.mark.parametrize("user", ["caller", "producer.lab"])
def test_another_service_sends_calls_and_gets_results_with_its_rights_alone(house: House, user: str) -> None:
    address = house.secret(ADDRESSES[user])
    queue, stream = (
        ("chartpost", "chartpost:intake") if user == "caller" else ("chartpost.from.lab", "chartpost:intake:lab")
    )
    service, server = Celery(broker=address, backend=address), examiner(house)
    sent = service.send_task("chartpost.upload", kwargs={"account": "north_clinic"}, queue=queue, task_id=str(uuid4()))
    service.send_task("chartpost.upload", kwargs={}, queue=queue, priority=9)
    assert (server.llen(queue), server.llen(f"{queue}\x06\x169")) == (1, 1)
    finished = json.dumps(
        {"status": "SUCCESS", "result": "done", "traceback": None, "children": [], "task_id": sent.id}
    )
    server.set(f"celery-task-meta-{sent.id}", finished)
    server.publish(f"celery-task-meta-{sent.id}", finished)
    assert sent.get(timeout=60) == "done"
    with redis.Redis.from_url(address) as client:
        assert client.xadd(stream, {"job": "{}"})
    assert server.acl_log() == []


def test_whoever_may_read_results_is_pushed_none_that_it_did_not_ask_for(house: House) -> None:
    """A subscription by pattern, or tracking, would name the ids of everybody's results."""
    for user in ("caller", "producer.lab"):
        client = logged_in(house, user)
        for words in ("PSUBSCRIBE celery-task-meta-*", "SUBSCRIBE __keyspace@0__:*", "CLIENT TRACKING ON BCAST"):
            with pytest.raises(NoPermissionError):
                client.execute_command(*words.split())
    examiner(house).acl_log_reset()


def test_a_name_that_is_no_producers_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "deploy/make_secrets.py"), "--folder", str(tmp_path)]
    for name in ("lab*", "../lab"):
        done = subprocess.run([*command, f"--producer={name}"], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "begins with a letter" in done.stderr
    assert not list(tmp_path.iterdir())
