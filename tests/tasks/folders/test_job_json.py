"""job.json, as it is written and read."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.folders.job_json import Commit, JobFile, JobFileDamaged, from_bytes, to_bytes
from tasks.model.document import Document, Door
from tasks.model.errors import Code
from tasks.model.job import Failure
from tests.tasks.folders.documents import JOB

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other work may slow the machine

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
FULL = JobFile(
    job_id=JOB,
    document=Document(
        account="north_clinic",
        patient_id="4711",
        source="",
        file_name="M_ller.pdf",
        size_bytes=7,
        door=Door.SEND,
        content_type="application/pdf",
        description="„Brief“\n",
        options={"metadata": {"type": "a|b|c"}},
        idempotency_key="k",
        callback_url="https://example.org/",
        round=2,
    ),
    disk_name="M\udcfcller.pdf",
    received_at=NOW,
    refused=Failure(Code.FILE_EMPTY, "The file is empty.", hint="Scan it again."),
    commit=Commit(stands=True, noted_at=NOW, snapshot=("1", "2"), key="uploads/1", provider_facts={"token": "t"}),
)


def there_and_back(job_file: JobFile) -> JobFile:
    return JobFile.from_json(from_bytes(to_bytes(job_file.to_json())))


def test_every_field_comes_back_as_it_was() -> None:
    assert there_and_back(FULL) == FULL


@pytest.mark.parametrize(
    "other_fields",
    [
        {"sent_at": "2026-03-01T12:00:00+00:00"},
        {"sent_at": None},
        {"a field of another version": [1]},
        {"commit": {"stands": False}},
        {"document": {"file_name": "b.pdf"}},
        {"source": "file:///etc/passwd", "identity": "1:2:3", "place": "sender", "producer": "lab"},
    ],
)
def test_a_file_with_fields_that_are_not_known_here_is_read_without_them(other_fields: dict[str, object]) -> None:
    written = {**json.loads(to_bytes(FULL.to_json())), **other_fields}
    assert JobFile.from_json(from_bytes(to_bytes(written))) == FULL


def test_a_file_without_a_version_is_read_as_the_first() -> None:
    written = json.loads(to_bytes(FULL.to_json()))
    assert written.pop("version") == 1
    assert JobFile.from_json(from_bytes(to_bytes(written))) == FULL


@FUZZ
@given(
    st.text(st.characters(exclude_categories=[], exclude_characters="/\0"), min_size=1).filter(
        lambda name: name not in (".", "..")
    ),
    st.text(st.characters(exclude_categories=[])),
)
def test_any_name_and_description_come_back(name: str, description: str) -> None:
    job_file = replace(FULL.with_document(description=description), disk_name=name)
    assert there_and_back(job_file) == job_file


@FUZZ
@given(st.binary())
def test_noise_is_damage_and_nothing_else(content: bytes) -> None:
    with pytest.raises(JobFileDamaged):
        JobFile.from_json(from_bytes(content))


@FUZZ
@given(st.integers(min_value=0, max_value=len(to_bytes(FULL.to_json())) - 3))
def test_a_file_cut_off_anywhere_is_damage(length: int) -> None:
    with pytest.raises(JobFileDamaged):
        JobFile.from_json(from_bytes(to_bytes(FULL.to_json())[:length]))


@pytest.mark.parametrize(
    "damage",
    [
        {"received_at": "2026-03-01T12:00:00"},
        {"size_bytes": "many"},
        {"unknown_since": "yesterday"},
        {"committed_step": "jump"},
        {"version": 0},
    ],
)
def test_what_is_damaged_is_named_and_its_value_is_not(damage: dict[str, object]) -> None:
    (name, value), *_ = damage.items()
    with pytest.raises(JobFileDamaged, match=name) as error:
        JobFile.from_json({**FULL.to_json(), **damage})
    assert str(value) not in str(error.value)
