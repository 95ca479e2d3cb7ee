"""Messages of others are kept so far that a person can look at them, and never so many that they fill Redis."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
import redis

from tasks.intake.foreign_messages import HEAD_BYTES, DeadLetters
from tasks.ledger import keys
from tasks.ledger.seal import Seal, SealBroken

KEPT_BYTES = 16 * 1024 * 1024  # as keep_foreign.lua has it


@pytest.fixture
def client(valkey_url: str, valkey: redis.Redis) -> redis.Redis:
    return redis.Redis.from_url(valkey_url, decode_responses=True)


@pytest.fixture
def dead(client: redis.Redis) -> DeadLetters:
    return DeadLetters(client, Seal("a secret"), jobs_days=30)


def add(dead: DeadLetters, raw: bytes, **fields: str) -> None:
    dead.add(raw, **{"queue": "chartpost", "code": "not_a_message", "reason": "It is no message.", **fields})


def kept_bytes(client: redis.Redis) -> int:
    found: Any = client.xrange(keys.DEAD_LETTERS)
    return sum(len(fields["message"]) for _, fields in found)


@pytest.mark.parametrize("raw", [b"", b"Meier", b"\xff\xfe\x00 Meier", b"\xed\xa0\x80", "Größe".encode()])
def test_a_small_message_is_kept_exactly_and_sealed(dead: DeadLetters, client: redis.Redis, raw: bytes) -> None:
    task_id = str(uuid4())
    add(dead, raw, task_id=task_id)
    [letter] = dead.newest()
    assert (letter.id, letter.code, letter.queue) == (task_id, "not_a_message", "chartpost")
    assert (letter.size_bytes, letter.sha256) == (len(raw), sha256(raw).hexdigest())
    assert dead.open(letter) == raw
    assert "Meier" not in str(client.xrange(keys.DEAD_LETTERS))
    with pytest.raises(SealBroken):
        DeadLetters(client, Seal("another"), jobs_days=30).open(letter)


def test_of_a_large_message_its_beginning_and_its_digest_are_kept(dead: DeadLetters, client: redis.Redis) -> None:
    raw = b"\xff" * 12_000_000
    add(dead, raw)
    [letter] = dead.newest()
    assert dead.open(letter) == raw[:HEAD_BYTES]
    assert (letter.size_bytes, letter.sha256) == (len(raw), sha256(raw).hexdigest())


def test_large_messages_take_no_more_room_than_is_given_to_them(dead: DeadLetters, client: redis.Redis) -> None:
    for number in range(250):
        add(dead, b"%03d" % number + b"x" * 70_000)
    assert KEPT_BYTES - 100_000 < kept_bytes(client) <= KEPT_BYTES
    assert dead.open(dead.newest(1)[0]).startswith(b"249")
    # What a person deletes makes room, and what an earlier version has written does not count.
    client.xtrim(keys.DEAD_LETTERS, maxlen=1, approximate=False)
    for _ in range(100):
        add(dead, b"x" * 70_000)
    assert dead.count() == 101


def test_small_messages_are_bounded_in_number(dead: DeadLetters) -> None:
    for _ in range(1200):
        add(dead, b"x")
    assert 1000 <= dead.count() <= 1100, "whole nodes go at a time"


def test_old_ones_leave_with_the_jobs_of_their_time(dead: DeadLetters, client: redis.Redis) -> None:
    old = int((time.time() - 31 * 86_400) * 1000)
    for number in range(200):
        client.xadd(keys.DEAD_LETTERS, {"id": "x"}, id=f"{old}-{number}")
    add(dead, b"x")
    assert dead.count() <= 101


def test_they_are_found_and_dropped_by_their_entries(dead: DeadLetters) -> None:
    for raw in (b"1", b"2", b"3"):
        add(dead, raw)
    third, second, first = dead.newest()
    assert dead.find(second.entry) == second
    assert dead.drop(first.entry, second.entry, "1-1") == 2
    assert dead.newest() == [third]
    assert dead.find(second.entry) is None
