"""The marks of a ledger: the first process that writes leaves them, and all others must agree with them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from config.version import own_version
from tasks.ledger import keys
from tasks.ledger.identity import IS_CLUSTER, OTHER_KEY, SCHEMA, LedgerIdentity, LedgerRefused
from tasks.ledger.key_types import set_aside, wrong_shared_keys
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.document import Document, Door
from tasks.model.route import Step
from tests.harness.cluster import one_node_cluster


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def identity(client: redis.Redis, key: str = "a secret", **options: object) -> LedgerIdentity:
    return LedgerIdentity(client, Seal(key), **options)  # type: ignore[arg-type]


def ledger(client: redis.Redis, key: str = "a secret") -> Ledger:
    return Ledger(client, Seal(key), lease_seconds=30, jobs_days=30)


def a_document() -> Document:
    return Document("north_clinic", "4711", "file:///scan.pdf", "scan.pdf", 6, door=Door.CELERY)


def test_the_first_process_leaves_marks_and_a_second_one_with_the_same_key_agrees(valkey: redis.Redis) -> None:
    identity(valkey).confirm()
    assert valkey.get(keys.SCHEMA) == str(SCHEMA)
    before = valkey.get(keys.SEAL_CHECK)
    assert before
    assert "a secret" not in before
    identity(valkey).confirm()
    assert valkey.get(keys.SEAL_CHECK) == before
    assert (valkey.ttl(keys.SEAL_CHECK), valkey.ttl(keys.SCHEMA)) == (-1, -1)


def test_another_key_is_refused_at_every_door_and_changes_nothing(valkey: redis.Redis) -> None:
    ledger(valkey).open("j1", a_document(), "pracsuite")
    before = {key: valkey.dump(key) for key in valkey.scan_iter("*")}
    other = ledger(valkey, "another secret")
    for act in (
        other.identity.confirm,
        other.identity.examine,
        lambda: other.open("j2", a_document(), "pracsuite"),
        lambda: other.start("j1", Step.PRESIGN),
    ):
        with pytest.raises(LedgerRefused, match="another secret_key"):
            act()
    assert {key: valkey.dump(key) for key in valkey.scan_iter("*")} == before


def test_a_question_leaves_no_mark(valkey: redis.Redis) -> None:
    identity(valkey).examine()
    assert list(valkey.scan_iter("*")) == []


def test_a_ledger_from_before_the_marks_is_known_by_its_rows(valkey: redis.Redis) -> None:
    ledger(valkey).open("j1", a_document(), "pracsuite")
    valkey.zadd("chartpost:jobs", {"expired": 1e15})  # newest of all, and its row is gone
    valkey.delete(keys.SEAL_CHECK, keys.SCHEMA)
    with pytest.raises(LedgerRefused, match="another secret_key"):
        identity(valkey, "another secret").confirm()
    assert not valkey.exists(keys.SEAL_CHECK, keys.SCHEMA)
    identity(valkey).confirm()
    assert valkey.exists(keys.SEAL_CHECK, keys.SCHEMA) == 2


def test_of_many_that_come_at_once_with_two_keys_those_with_one_key_win(valkey_url: str, valkey: redis.Redis) -> None:
    for _ in range(10):
        valkey.flushall()
        together = threading.Barrier(8)
        outcomes: list[tuple[str, bool]] = []

        def come(key: str, together: threading.Barrier = together, outcomes: list[tuple[str, bool]] = outcomes) -> None:
            mine = identity(redis.Redis.from_url(valkey_url, decode_responses=True), key)
            together.wait(60)
            try:
                mine.confirm()
                outcomes.append((key, True))
            except LedgerRefused:
                outcomes.append((key, False))

        threads = [threading.Thread(target=come, args=(("one", "two")[number % 2],)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(outcomes) == 8
        assert len({key for key, accepted in outcomes if accepted}) == 1
        assert len([key for key, accepted in outcomes if accepted]) == 4


def test_a_newer_schema_is_refused_and_a_lower_one_is_raised(valkey: redis.Redis) -> None:
    identity(valkey, schema=2).confirm()
    valkey.set(keys.SCHEMA, 1)
    identity(valkey, schema=2).confirm()
    assert valkey.get(keys.SCHEMA) == "2"
    valkey.set(keys.SCHEMA, 3)
    for act in (identity(valkey, schema=2).confirm, identity(valkey, schema=2).examine):
        with pytest.raises(LedgerRefused) as refused:
            act()
        assert str(refused.value) == (
            f"What this Redis holds was written by a newer chartpost (schema 3); this is chartpost {own_version()}, "
            "which knows schemas up to 2. Start that one or a later one here. This one has changed nothing."
        )
    assert valkey.get(keys.SCHEMA) == "3"


def test_the_version_that_raised_the_schema_is_the_one_to_start(valkey: redis.Redis) -> None:
    identity(valkey, schema=2).confirm()
    assert valkey.get(keys.SCHEMA_VERSION) == own_version()
    valkey.mset({keys.SCHEMA: 3, keys.SCHEMA_VERSION: "2.1.0"})
    before = {key: valkey.dump(key) for key in valkey.scan_iter("*")}
    with pytest.raises(
        LedgerRefused, match=r"by chartpost 2\.1\.0 \(schema 3\).* Start chartpost 2\.1\.0 or a later one"
    ):
        identity(valkey, schema=2).confirm()
    assert {key: valkey.dump(key) for key in valkey.scan_iter("*")} == before
    valkey.set(keys.SCHEMA_VERSION, "what a person\nhas put there")
    with pytest.raises(LedgerRefused, match="by a newer chartpost"):
        identity(valkey, schema=2).confirm()


def test_of_two_machines_the_one_with_the_earlier_version_leaves_the_ledger_alone_within_a_second(
    valkey: redis.Redis,
) -> None:
    """As in an upgrade that does not stop all machines first: it opens, starts and feeds nothing any more."""
    clock = Clock()
    earlier = ledger(valkey)
    earlier.identity = identity(valkey, schema=1, clock=clock)
    earlier.open("j1", a_document(), "pracsuite")
    identity(valkey, schema=2).confirm()
    clock.now += 1.1
    before = {key: valkey.dump(key) for key in valkey.scan_iter("*")}
    for act in (
        earlier.identity.confirm,
        lambda: earlier.open("j2", a_document(), "pracsuite"),
        lambda: earlier.start("j1", Step.PRESIGN),
    ):
        with pytest.raises(LedgerRefused, match="schema 2"):
            act()
    assert {key: valkey.dump(key) for key in valkey.scan_iter("*")} == before


def test_after_a_wipe_the_newer_version_marks_the_ledger_again_before_the_earlier_one_can_use_it_for_long(
    valkey: redis.Redis,
) -> None:
    clock = Clock()
    earlier, newer = identity(valkey, schema=1, clock=clock), identity(valkey, schema=2, clock=clock)
    newer.confirm()
    valkey.flushall()
    earlier.confirm()  # an empty Redis is anybody's
    assert valkey.get(keys.SCHEMA) == "1"
    clock.now += 1.1
    newer.confirm()
    with pytest.raises(LedgerRefused, match="schema 2"):
        earlier.confirm()


def test_marks_that_have_become_another_type_are_set_aside_and_made_again(valkey: redis.Redis) -> None:
    mine = ledger(valkey)
    mine.open("j1", a_document(), "pracsuite")
    for key in (keys.SEAL_CHECK, keys.SCHEMA, keys.SCHEMA_VERSION):
        valkey.delete(key)
        valkey.lpush(key, "1")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        identity(valkey).confirm()
    assert len(set_aside(valkey, wrong_shared_keys(valkey))) == 3
    identity(valkey).confirm()
    assert valkey.get(keys.SCHEMA) == str(SCHEMA)


def test_after_a_wipe_the_marks_are_made_again_and_another_installation_that_came_first_is_noticed(
    valkey: redis.Redis,
) -> None:
    clock = Clock()
    running = identity(valkey, clock=clock)
    running.confirm()
    valkey.flushall()
    running.confirm()
    assert not valkey.exists(keys.SEAL_CHECK)  # asked at most once a second
    clock.now += 1.1
    running.confirm()
    assert valkey.exists(keys.SEAL_CHECK, keys.SCHEMA) == 2

    valkey.flushall()
    identity(valkey, "another secret").confirm()
    clock.now += 1.1
    with pytest.raises(LedgerRefused) as refused:
        running.confirm()
    assert str(refused.value) == OTHER_KEY
    with pytest.raises(LedgerRefused):
        running.confirm()  # and not for a second only


def test_opening_a_job_after_a_wipe_marks_the_ledger_again(valkey: redis.Redis) -> None:
    mine = ledger(valkey)
    mine.open("j1", a_document(), "pracsuite")
    valkey.flushall()
    mine.identity._confirm_at = float("-inf")  # a second has passed
    mine.open("j2", a_document(), "pracsuite")
    assert valkey.exists(keys.SEAL_CHECK, keys.SCHEMA) == 2


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with one_node_cluster(Path(tmp_path_factory.mktemp("cluster"))) as url:
        yield redis.Redis.from_url(url, decode_responses=True)


def test_a_cluster_is_refused_even_if_one_server_is_all_of_it(cluster: redis.Redis) -> None:
    for act in (identity(cluster).confirm, identity(cluster).examine):
        with pytest.raises(LedgerRefused) as refused:
            act()
        assert str(refused.value) == IS_CLUSTER
    assert list(cluster.scan_iter("*")) == []


def test_where_info_is_not_allowed_all_else_is_still_examined(valkey_url: str, valkey: redis.Redis) -> None:
    valkey.acl_setuser("hosted", enabled=True, passwords=["+x"], keys=["*"], categories=["+@all"], commands=["-info"])
    try:
        hosted = redis.Redis.from_url(f"redis://hosted:x@{valkey_url.rpartition('@')[2]}", decode_responses=True)
        with pytest.raises(redis.ResponseError):
            hosted.info("cluster")
        identity(hosted).confirm()
        with pytest.raises(LedgerRefused):
            identity(hosted, "another secret").confirm()
    finally:
        valkey.acl_deluser("hosted")
