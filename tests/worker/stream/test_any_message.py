"""Whatever stands in the stream ends as a job or among the rejected: never lost, never a crash."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker.stream.stream import Stream
from tests.worker.stream.test_messages import run
from worker.stream.reader import FAULT_OF_CHARTPOST, StreamReader

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
STRANGE: dict[str, st.SearchStrategy[Any]] = {
    "account": st.sampled_from(["north_clinic", "nobody", ""]) | JSON,
    "patient_id": st.sampled_from(["4711", "..", "a@b", None]) | JSON,
    "source": st.sampled_from(["file:///etc/passwd", "s3://theirs/x", "file://[", "s3:///", "", "file:///%00"]) | JSON,
    "file_name": st.sampled_from(["a/b.pdf", "${filename}", "…", "\ud800"]) | JSON,
    "description": JSON,
    "options": st.dictionaries(st.text(), JSON, max_size=3) | JSON,
    "idempotency_key": st.sampled_from(["k", ""]) | JSON,
    "callback_url": st.sampled_from(["https://[", "https://example.org", "ftp://x"]) | JSON,
    "delete_source": JSON,
    "job_id": st.uuids().map(str) | JSON,
    "content_type": JSON,
    "whatever": JSON,
}


def changed() -> st.SearchStrategy[dict[str, Any]]:
    """Some fields of a document, strange ones."""
    return st.lists(st.sampled_from(sorted(STRANGE)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: STRANGE[name] for name in names})
    )


@pytest.fixture
def started(reader: StreamReader, stream: Stream) -> StreamReader:
    reader.read_once()
    return reader


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(message=st.binary(max_size=200) | JSON | changed())
def test_any_message_becomes_a_job_or_is_rejected(started: StreamReader, stream: Stream, message: object) -> None:
    if isinstance(message, dict):
        message = stream.document() | message
    entry = stream.add(message if isinstance(message, bytes) else json.dumps(message).encode())
    taken = started.read_once()
    rejected = [one for one in stream.rejected() if one["id"] == entry]
    assert taken == 1
    assert (stream.left(), stream.pending()) == ([], 0)
    assert len(rejected) == 1 or accepted(stream, entry)
    assert not [one for one in rejected if one["reason"] == FAULT_OF_CHARTPOST]


def accepted(stream: Stream, entry: str) -> bool:
    alias = stream.redis.exists(f"chartpost:alias:{entry}")
    return bool(alias) or stream.job(entry) is not None


def test_the_strangest_are_among_them(started: StreamReader, stream: Stream) -> None:
    """The search above finds both ends; this holds it to that."""
    stream.add(stream.document())
    stream.add(stream.document(account="nobody"))
    run(started)
    assert (len(stream.jobs()), len(stream.rejected())) == (1, 1)
