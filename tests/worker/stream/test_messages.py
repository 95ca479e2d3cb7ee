"""A message becomes one job, or stands among the rejected; never neither."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from tasks.model.document import Door
from tasks.model.route import Stage
from tasks.runtime import Runtime
from tests.worker.stream.stream import Stream
from worker.stream.build import stream_reader
from worker.stream.reader import StreamReader

# PracSuite takes neither options nor descriptions.
OVOK = """
[accounts.practice]
provider = "ovok"
base_url = "http://127.0.0.1:1"
insecure = true
email = "chartpost@practice.example"
password = "p"
client_id = "5e505642-9024-474d-9434-e5a44f505cc5"
"""


@pytest.fixture
def config(config: Path) -> Path:
    with config.open("a") as settings:
        settings.write(OVOK)
    return config


def test_a_message_becomes_a_job_and_leaves_the_stream(stream: Stream, reader: StreamReader) -> None:
    entry = stream.add(stream.document(account="practice", description="A referral", options={"document_id": "7"}))
    reader.read_once()  # makes the group
    reader.read_once()
    job = stream.job(entry)
    assert job is not None
    assert (job.stage, job.document.door, job.document.stream_id) == (Stage.RECEIVED, Door.STREAM, entry)
    assert (job.document.size_bytes, job.document.options) == (6, {"document_id": "7"})
    assert (stream.left(), stream.pending(), stream.rejected()) == ([], 0, [])


def test_its_job_has_the_id_that_follows_from_the_entry(stream: Stream, reader: StreamReader) -> None:
    entry = stream.add(stream.document())
    run(reader)
    assert stream.jobs() == [f"chartpost:job:{stream.job_id(entry)}"]


def test_its_job_has_the_id_that_it_gives_and_is_found_by_the_entry_too(
    stream: Stream, reader: StreamReader, runtime: Runtime
) -> None:
    given = str(uuid4())
    entry = stream.add(stream.document(job_id=given.upper()))
    run(reader)
    assert stream.jobs() == [f"chartpost:job:{given}"]
    found = runtime.ledger.get(entry)
    assert found is not None
    assert found.id == given


def test_what_was_added_before_the_first_reader_came_is_read(stream: Stream, runtime: Runtime) -> None:
    entries = [stream.add(stream.document(stream.write(f"{number}.pdf", b"x"))) for number in range(3)]
    run(stream_reader(runtime, block_ms=10))
    assert all(stream.job(entry) for entry in entries)


def test_the_same_message_under_one_job_id_opens_one_job(stream: Stream, reader: StreamReader) -> None:
    document = stream.document(job_id=str(uuid4()))
    stream.add(document)
    run(reader)
    stream.write("scan.pdf", b"it has grown since")
    stream.add(document)
    run(reader)
    assert len(stream.jobs()) == 1
    assert (stream.left(), stream.rejected()) == ([], [])


def test_a_job_id_that_was_used_for_another_document_is_rejected(stream: Stream, reader: StreamReader) -> None:
    given = str(uuid4())
    stream.add(stream.document(job_id=given))
    second = stream.add(stream.document(job_id=given, patient_id="4712"))
    run(reader)
    assert [(one["id"], one["code"]) for one in stream.rejected()] == [(second, "invalid_request")]
    assert len(stream.jobs()) == 1


def test_a_second_message_under_an_idempotency_key_shows_the_first_ones_job(
    stream: Stream, reader: StreamReader, runtime: Runtime
) -> None:
    first, second = (stream.add(stream.document(idempotency_key="k")) for _ in range(2))
    run(reader)
    jobs = [runtime.ledger.get(stream.job_id(entry)) for entry in (first, second)]
    assert jobs[0] is not None
    assert jobs[1] is not None
    assert jobs[0].id == jobs[1].id
    assert stream.rejected() == []


BAD: dict[str, tuple[object, str]] = {
    "not JSON": (b"{", "invalid_request"),
    "not UTF-8": (b'{"account": "\xff"}', "invalid_request"),
    "not an object": ([1, 2], "invalid_request"),
    "a number of thousands of digits": (b"1" * 10_000, "invalid_request"),
    "not a number": (b'{"account": NaN}', "invalid_request"),
    "nested by the thousand": (b"[" * 20_000, "invalid_request"),
    "options nested too deep": ({"options": json.loads('{"a":' * 40 + "1" + "}" * 40)}, "invalid_request"),
    # Python's reader takes these, and whoever looks into them recursively comes to the end of the stack.
    **{
        f"nested {deep} deep": (b'{"options": ' + b"[" * deep + b"]" * deep + b"}", "invalid_request")
        for deep in range(400, 1000, 100)
    },
    "half a character": ({"description": "\ud800"}, "invalid_request"),
    "an unknown field": ({"patient": "4711"}, "invalid_request"),
    "a field of the wrong kind": ({"patient_id": 4711}, "invalid_request"),
    "no such patient id": ({"patient_id": "../4711"}, "invalid_request"),
    "a job_id that is none": ({"job_id": "7"}, "invalid_request"),
    "a job_id that is a number": ({"job_id": 7}, "invalid_request"),
    "a callback to an unknown host": ({"callback_url": "https://example.org/"}, "invalid_request"),
    "larger than 64 KB": ({"description": "x" * 70_000}, "invalid_request"),
    "an unknown account": ({"account": "nobody"}, "unknown_account"),
    "no patient": ({"patient_id": None}, "patient_required"),
    "a source from elsewhere": ({"source": "file:///etc/passwd"}, "source_not_allowed"),
    "a bucket from elsewhere": ({"source": "s3://theirs/scan.pdf"}, "source_not_allowed"),
    "a file that is not there": ({"source": "scan-2.pdf"}, "file_missing"),
    "an empty file": ({"source": "empty.pdf"}, "file_empty"),
    "a file that is too large": ({"source": "large.pdf"}, "file_too_large"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_accepted_stands_once_among_the_rejected(
    stream: Stream, reader: StreamReader, what: str
) -> None:
    entry, code = add_bad(stream, what)
    run(reader)
    assert (stream.left(), stream.pending()) == ([], 0)
    assert [(one["id"], one["code"]) for one in stream.rejected()] == [(entry, code)]
    assert stream.rejected()[0]["reason"]


def test_a_small_rejected_message_is_kept_whole_and_sealed(stream: Stream, reader: StreamReader) -> None:
    message = b'{"account": "Meier", "patient_id": "\xff4711", "Meier": 1}'
    stream.add(message)
    run(reader)
    rejected = stream.rejected()[0]
    assert b"Meier" not in json.dumps(rejected).encode()
    assert stream.unsealed(rejected) == message


def test_a_refusal_names_no_unknown_field(stream: Stream, reader: StreamReader) -> None:
    stream.add(stream.document(Meier="1", acount="x"))
    run(reader)
    reason = stream.rejected()[0]["reason"]
    assert "Meier" not in reason
    assert "is it meant to be account?" in reason


def test_an_entry_without_the_field_is_rejected(stream: Stream, reader: StreamReader) -> None:
    entry = stream.add_fields({b"document": b"{}", b"b": b"\xff"})
    run(reader)
    assert [one["id"] for one in stream.rejected()] == [entry]


@pytest.mark.parametrize("what", ["not JSON", "an unknown account", "a job_id that is none"])
def test_a_rejected_message_without_a_job_has_an_event(stream: Stream, reader: StreamReader, what: str) -> None:
    entry, code = add_bad(stream, what)
    run(reader)
    assert stream.jobs() == []
    event = stream.events()[0]
    assert (event["state"], event["code"], event["stream_id"]) == ("failed", code, entry)
    assert event["job"] == stream.job_id(entry)


def test_a_message_for_a_known_account_that_cannot_be_sent_has_a_failed_job(
    stream: Stream, reader: StreamReader
) -> None:
    entry, _ = add_bad(stream, "an empty file")
    run(reader)
    job = stream.job(entry)
    assert job is not None
    assert (job.stage, job.code, job.document.stream_id) == (Stage.FAILED, "file_empty", entry)
    assert stream.events() == []  # its closing writes the event, and only once


def test_another_document_under_an_idempotency_key_is_rejected(stream: Stream, reader: StreamReader) -> None:
    stream.add(stream.document(idempotency_key="k"))
    second = stream.add(stream.document(idempotency_key="k", description="another"))
    run(reader)
    assert [(one["id"], one["code"]) for one in stream.rejected()] == [(second, "invalid_request")]


def test_rejected_messages_leave_with_the_jobs_of_their_time(stream: Stream, reader: StreamReader) -> None:
    old = int((time.time() - 31 * 86_400) * 1000)
    for number in range(200):
        stream.redis.xadd("chartpost:intake:rejected", {"id": "x"}, id=f"{old}-{number}")
    stream.add(b"{")
    run(reader)
    assert len(stream.rejected()) <= 101  # whole nodes of 100 entries go at a time


def test_of_a_large_message_its_beginning_and_its_digest_are_kept(stream: Stream, reader: StreamReader) -> None:
    message = b"\xff" * 3_000_000
    for _ in range(3):
        stream.add(message)
    run(reader)
    kept = stream.rejected()
    assert [int(one["size_bytes"]) for one in kept] == [len(message)] * 3
    assert {one["sha256"] for one in kept} == {sha256(message).hexdigest()}
    assert stream.unsealed(kept[0]) == message[:65536]
    assert (stream.redis.memory_usage("chartpost:intake:rejected") or 0) < 1_000_000


def add_bad(stream: Stream, what: str) -> tuple[str, str]:
    """Add one of the BAD messages; returns its entry and the code that it is to get."""
    stream.write("empty.pdf", b"")
    stream.write("large.pdf", b"x" * 1001)
    bad, code = BAD[what]
    if not isinstance(bad, dict):
        return stream.add(bad), code
    fields: dict[str, Any] = stream.document() | bad
    if "://" not in fields["source"]:
        fields["source"] = (stream.root / fields["source"]).as_uri()
    return stream.add(fields), code


def run(reader: StreamReader) -> None:
    """Read until nothing is left to be read."""
    reader.read_once()
    while reader.read_once():
        pass


def test_a_refused_message_under_the_id_of_a_job_tells_nothing_of_that_job(
    stream: Stream, reader: StreamReader, runtime: Runtime
) -> None:
    reader.read_once()
    job_id = str(uuid4())
    stream.add(stream.document(job_id=job_id))
    run(reader)
    wrong = stream.add({"job_id": job_id, "account": "No Account"})
    run(reader)
    assert [event["job"] for event in stream.events()] == [stream.job_id(wrong)]
    assert not stream.redis.exists(f"chartpost:rejected:{job_id}")
    assert [each["id"] for each in stream.rejected()] == [wrong]


@pytest.mark.parametrize("key", ["chartpost:intake:rejected", "chartpost:events"])
def test_a_message_that_cannot_be_kept_stays_in_its_stream(stream: Stream, reader: StreamReader, key: str) -> None:
    reader.read_once()
    stream.redis.set(key, "of another type")
    entry = stream.add(b"not JSON")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        reader.read_once()
    assert (stream.left(), stream.pending()) == ([entry], 1)


def test_large_entries_are_not_read_together(stream: Stream, reader: StreamReader) -> None:
    reader.read_once()
    for _ in range(8):
        stream.add_fields({b"job": b"x" * 200_000})
    assert reader.read_once() == 3
    assert {each["size_bytes"] for each in stream.rejected()} == {"200000"}


def test_of_an_entry_without_a_job_its_names_and_values_are_kept(stream: Stream, reader: StreamReader) -> None:
    reader.read_once()
    stream.add_fields({b"jobb": b"\xff{}", b"x": b"1"})
    run(reader)
    (rejected,) = stream.rejected()
    assert stream.unsealed(rejected) == b"jobb\n\xff{}\nx\n1"
