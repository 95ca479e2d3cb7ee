"""A stream that takes no more entries is found, and mended as the sentence says."""

from __future__ import annotations

import json

import pytest
import redis

from tasks.ledger import keys
from tasks.ledger.seal import Seal
from worker.cli.commands.check.streams import check_streams
from worker.stream.group import ConsumerGroup
from worker.stream.messages import IntakeStream

LARGEST = f"{2**64 - 1}-{2**64 - 1}"
PRODUCERS = keys.INTAKE + ":lab"


def faults(client: redis.Redis) -> list[str]:
    return [result.message for result in check_streams(client, [keys.INTAKE, PRODUCERS]) if not result.ok]


def test_streams_that_take_entries_are_well(valkey: redis.Redis) -> None:
    assert [result.ok for result in check_streams(valkey, [keys.INTAKE, PRODUCERS])] == [True]
    valkey.xadd(keys.INTAKE, {"job": "{}"})
    assert faults(valkey) == []


@pytest.mark.parametrize("stream", [keys.INTAKE, PRODUCERS])
def test_a_stream_that_was_ended_is_named_and_mended_as_the_sentence_says(
    stream: str, valkey: redis.Redis, valkey_url: str
) -> None:
    valkey.xadd(stream, {"job": "{}"})
    valkey.xadd(stream, {"job": "{}"}, id=LARGEST)
    with pytest.raises(redis.ResponseError):
        valkey.xadd(stream, {"job": "{}"})
    [waits] = faults(valkey)
    assert f"added to {stream}" in waits
    assert "wait until the intake has read what it still holds (2)" in waits
    group = ConsumerGroup(
        redis.Redis.from_url(valkey_url), IntakeStream(Seal("a secret")), "reader", lease_seconds=2, block_ms=10
    )
    if stream == keys.INTAKE:
        group.create()
        for message in list(group.new()):
            group.remove(message)
        assert not valkey.xlen(stream)
    else:
        valkey.xtrim(stream, 0)
    [empty] = faults(valkey)
    assert f"delete its key (DEL {stream}), and the intake makes it again" in empty
    assert "wait" not in empty
    valkey.delete(stream)
    assert valkey.xadd(stream, {"job": json.dumps({})})
    assert faults(valkey) == []
    if stream == keys.INTAKE:
        with pytest.raises(redis.ResponseError, match="NOGROUP"):
            list(group.new())
        group.create()
        assert len(list(group.new())) == 1
