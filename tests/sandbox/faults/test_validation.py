"""What happens between an upload and its record."""

import time

import pytest

from tests.harness.sandbox import SandboxProcess
from tests.sandbox.providers.pracsuite_clinic import Clinic
from tests.sandbox.s3.engine_view import stored


@pytest.mark.parametrize("name", ["other.pdf", "referral.txt", "referral", "REFERRAL.PDF", "folder/referral.pdf"])
def test_a_document_sent_under_another_name_gets_no_record(north: Clinic, name: str) -> None:
    patient_id = f"wrong-{name.replace('/', '-')}"
    form = north.form(patient_id, "referral.pdf")
    assert north.post(form, b"a", name=name).status_code == 204
    assert north.records_after_validation(patient_id) == []


NAMES = [
    "plain.pdf",
    "Überweisung für Zoë.pdf",
    'a "quoted" name.pdf',
    "100%22 percent.pdf",
    "日本語.pdf",
    "two\nlines.pdf",
    "back\\slash.pdf",
    " .x",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_arrives_as_it_was_asked_for(north: Clinic, name: str) -> None:
    patient_id = f"name-{NAMES.index(name)}"
    assert north.send(patient_id, name, b"a").status_code == 204
    assert [record["file_name"] for record in north.records_once_there(patient_id)] == [name]


def test_a_second_upload_before_validation_replaces_the_first(changed: SandboxProcess, north: Clinic) -> None:
    changed.world(hold_validation="twice.txt")
    form = north.form("twice", "twice.txt")
    north.post(form, b"first")
    north.post(form, b"second!")
    changed.world(hold_validation=None)
    assert [record["size_bytes"] for record in north.records_once_there("twice")] == [len(b"second!")]
    assert len(north.records_after_validation("twice")) == 1


def test_the_last_uploads_name_is_the_one_that_counts(changed: SandboxProcess, north: Clinic) -> None:
    changed.world(hold_validation="renamed.txt")
    form = north.form("renamed", "renamed.txt")
    north.post(form, b"first", name="other.txt")
    north.post(form, b"second!")
    changed.world(hold_validation=None)
    assert [record["size_bytes"] for record in north.records_once_there("renamed")] == [len(b"second!")]


def test_a_second_upload_after_validation_is_a_second_record(north: Clinic) -> None:
    form = north.form("duplicate", "a.txt")
    north.post(form, b"the same")
    north.records_once_there("duplicate")
    assert north.post(form, b"the same").status_code == 204
    assert len(north.records_once_there("duplicate", 2)) == 2


def test_an_invalid_document_never_gets_a_record(north: Clinic) -> None:
    form = north.form("invalid", "INVALID.pdf")
    assert north.post(form, b"a").status_code == 204
    assert north.records_after_validation("invalid") == []
    assert stored(north.sandbox, form["fields"]["key"]) == []


def test_slow_validation_takes_the_seconds_in_the_name(north: Clinic) -> None:
    began = time.monotonic()
    north.send("slow", "SLOW-0.7.pdf", b"a")
    north.records_once_there("slow")
    assert time.monotonic() - began >= 0.7
