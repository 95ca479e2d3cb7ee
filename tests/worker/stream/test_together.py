"""Many messages are opened together, and each becomes what it would have become alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tasks.runtime import Runtime
from tests.harness.waiting import PATIENCE_SECONDS, wait_until
from tests.worker.conftest import LEASE_SECONDS
from tests.worker.stream.stream import Stream
from tests.worker.stream.test_messages import run
from tests.worker.stream.test_reader import killed_at, reading
from worker.stream.reader import StreamReader

MANY = 250
ONE_ID, ANOTHER_ID = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def add_many(stream: Stream, count: int = MANY) -> list[str]:
    """Messages for patients of their own."""
    return [stream.add(stream.document(patient_id=f"p{number}")) for number in range(count)]


def test_many_messages_are_opened_in_few_round_trips(stream: Stream, reader: StreamReader) -> None:
    entries = add_many(stream)
    stream.redis.config_resetstat()
    run(reader)
    calls: Any = stream.redis.info("commandstats")
    assert all(stream.job(entry) for entry in entries)
    assert (stream.left(), stream.pending(), stream.rejected()) == ([], 0, [])
    for command in ("mget", "xack", "xdel"):
        assert calls[f"cmdstat_{command}"]["calls"] < MANY / 10


@pytest.mark.parametrize("method", ["Ledger.open_together", "ConsumerGroup.remove"])
def test_a_reader_killed_in_a_batch_loses_no_message_and_opens_no_job_twice(
    config: Path, stream: Stream, reader: StreamReader, method: str
) -> None:
    entries = add_many(stream, 60)
    killed_at(config, method)
    assert 0 < len(stream.jobs()) <= len(entries)
    assert stream.left() == entries, "nothing is acknowledged yet"
    time.sleep(LEASE_SECONDS)
    run(reader)
    assert sorted(stream.jobs()) == sorted(f"chartpost:job:{stream.job_id(entry)}" for entry in entries)
    assert (stream.left(), stream.pending(), stream.rejected()) == ([], 0, [])


def test_readers_killed_at_any_moment_leave_one_job_for_each_message(config: Path, stream: Stream) -> None:
    entries = add_many(stream, 20 * MANY)
    for part in range(1, 4):
        with reading(config):
            opened = part * len(entries) // 5
            wait_until(lambda wanted=opened: len(stream.jobs()) >= wanted, "some are opened")  # type: ignore[misc]
    assert len(stream.left()) > 0
    with reading(config):
        wait_until(lambda: not stream.left(), "the rest is opened", PATIENCE_SECONDS)
    assert sorted(stream.jobs()) == sorted(f"chartpost:job:{stream.job_id(entry)}" for entry in entries)
    assert stream.rejected() == []


def test_bad_messages_are_rejected_alone(stream: Stream, reader: StreamReader) -> None:
    good = add_many(stream, 10)
    bad = [stream.add(b"{"), stream.add(stream.document("missing.pdf"))]
    good += add_many(stream, 10)
    # No JSON, and half a character, which none of Redis's arguments can hold.
    bad += [stream.add(b"{"), stream.add(b'{"account": "north_clinic", "description": "\\ud800"}')]
    good += add_many(stream, 10)
    run(reader)
    assert all(stream.job(entry) for entry in good)
    assert [rejected["id"] for rejected in stream.rejected()] == bad
    assert stream.left() == []


def test_an_error_in_the_opening_of_one_job_holds_up_no_other(
    stream: Stream, reader: StreamReader, runtime: Runtime
) -> None:
    run(reader)  # makes the group
    before = add_many(stream, 10)
    wrong = stream.add(stream.document(patient_id="wrong", idempotency_key="k"))
    after = add_many(stream, 10)
    stream.redis.set(f"chartpost:idem:{key_of(runtime, wrong, 'k')}", "of another type")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        reader.read_once()
    assert all(stream.job(entry) for entry in (*before, *after))
    assert (stream.left(), stream.job(wrong)) == ([wrong], None)


def key_of(runtime: Runtime, entry: str, key: str) -> str:
    return runtime.seal.lookup("idempotency", "north_clinic", key)


Messages = Callable[[Stream], list[dict[str, Any]]]

ORDER_MATTERS: dict[str, Messages] = {
    "one key for one document": lambda stream: [
        stream.document(idempotency_key="k"),
        stream.document(idempotency_key="k"),
    ],
    "one key for two documents": lambda stream: [
        stream.document(idempotency_key="k"),
        stream.document(idempotency_key="k", patient_id="4712"),
        stream.document(idempotency_key="k"),
    ],
    "one id for one document": lambda stream: [stream.document(job_id=ONE_ID), stream.document(job_id=ONE_ID)],
    "one id for two documents": lambda stream: [
        stream.document(job_id=ONE_ID),
        stream.document(job_id=ONE_ID, patient_id="4712"),
    ],
    "a chain of ids and keys": lambda stream: [
        stream.document(job_id=ONE_ID, patient_id="1"),
        stream.document(job_id=ONE_ID, patient_id="2", idempotency_key="k"),
        stream.document(job_id=ANOTHER_ID, patient_id="3", idempotency_key="k"),
    ],
    "a refused document's id": lambda stream: [
        stream.document("missing.pdf", job_id=ONE_ID),
        stream.document(job_id=ONE_ID, patient_id="4712"),
    ],
    "an id that is taken by a key": lambda stream: [
        stream.document(idempotency_key="k"),
        stream.document(idempotency_key="k", job_id=ONE_ID),
        stream.document(job_id=ONE_ID, patient_id="4712"),
    ],
    "the id of one that its key refuses": lambda stream: [
        stream.document(idempotency_key="k"),
        stream.document(idempotency_key="k", job_id=ONE_ID, patient_id="4712"),
        stream.document(job_id=ONE_ID, patient_id="4713"),
    ],
    "one name": lambda stream: [stream.document(), stream.document()],
}


@pytest.mark.parametrize("what", ORDER_MATTERS)
def test_what_meets_in_one_batch_is_treated_as_one_after_the_other(
    stream: Stream, reader: StreamReader, runtime: Runtime, what: str
) -> None:
    messages = ORDER_MATTERS[what](stream)
    run(reader)
    for message in messages:
        stream.add(message)
        run(reader)
    alone = outcomes(stream, runtime)
    stream.redis.flushall()
    run(reader)
    for message in messages:
        stream.add(message)
    run(reader)
    assert outcomes(stream, runtime) == alone


def outcomes(stream: Stream, runtime: Runtime) -> tuple[list[Any], list[Any]]:
    """What became of the messages, without the ids of entries, which are never the same."""
    jobs = [runtime.ledger.get(key.removeprefix("chartpost:job:")) for key in stream.jobs()]
    assert stream.left() == []
    opened = sorted(
        (job.document.patient_id, job.document.idempotency_key, job.stage, job.id in (ONE_ID, ANOTHER_ID) and job.id)
        for job in jobs
        if job
    )
    return opened, [(rejected["code"], rejected["reason"]) for rejected in stream.rejected()]
