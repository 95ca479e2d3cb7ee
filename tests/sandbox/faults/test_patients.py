"""What a patient's id asks of the chart."""

import random
import time
from collections.abc import Iterator

import pytest

from sandbox.faults.patients import Habit, renamed
from tests.harness.sandbox import SandboxProcess
from tests.sandbox.providers.cliniko_clinic import JSON, ClinikoClinic, as_json
from tests.sandbox.providers.pracsuite_clinic import Clinic, eventually


@pytest.mark.parametrize(
    ("patient_id", "habit"),
    [
        ("4711", Habit()),
        ("old-5", Habit()),
        ("many-7-x", Habit("many", 7)),
        ("many", Habit("many", 1600)),
        ("moving", Habit("moving", 250)),
        ("overlapping-9", Habit("overlapping", 9)),
        ("announces-one-more-2", Habit("announces-one-more", 2)),
        ("hiding", Habit("hiding", 0)),
        ("moving-12345678-1234", Habit("moving", 250)),
        ("moving-12ab", Habit("moving", 250)),
    ],
)
def test_the_id_says_it(patient_id: str, habit: Habit) -> None:
    assert Habit.of(patient_id) == habit


@pytest.mark.parametrize(("name", "other"), [("a.b.pdf", "a.b-1.pdf"), ("a", "a-1"), (".a", ".a-1")])
def test_a_name_gets_a_suffix_before_its_ending(name: str, other: str) -> None:
    assert renamed(name) == other


def ids(page: JSON) -> list[int]:
    return [each["attachment_client_id"] for each in page["attachment_clients"]]


def pages(clinic: Clinic, patient_id: str) -> Iterator[JSON]:
    number = 1
    while True:
        page: JSON = clinic.chart(patient_id, page=number, page_size=100).json()
        yield page
        if page["links"]["next"] is None:
            return
        number += 1


def test_many_earlier_records_are_served_quickly(north: Clinic) -> None:
    began = time.monotonic()
    listed = [record for page in pages(north, "many-20100-a") for record in ids(page)]
    assert len(set(listed)) == len(listed) == 20_100
    assert listed == sorted(listed)
    assert time.monotonic() - began < 60


def test_a_moving_list_has_all_records_in_another_order_each_time(north: Clinic) -> None:
    first, second = (north.chart("moving-50-a", page_size=100).json() for _ in range(2))
    assert set(ids(first)) == set(ids(second))
    assert ids(first) != ids(second)


def test_overlapping_pages_begin_with_the_last_record_of_the_page_before(north: Clinic) -> None:
    first, second, third = pages(north, "overlapping-250-a")
    assert ids(second)[0] == ids(first)[-1]
    assert len({*ids(first), *ids(second), *ids(third)}) == 250


def test_a_list_may_announce_one_record_more_than_it_has(north: Clinic) -> None:
    page = north.chart("announces-one-more-3-a").json()
    assert (len(ids(page)), page["total_entries"]) == (3, 4)


def test_a_list_may_hide_what_was_sent(changed: SandboxProcess, north: Clinic) -> None:
    changed.world(hiding_seconds=0.2)
    north.send("hiding-2-a", "a.txt", b"content")
    north.records_once_there("hiding-2-a")
    for count in (3, 2, 3):
        eventually(lambda count=count: len(ids(north.chart("hiding-2-a").json())) == count)  # type: ignore[misc]


def test_a_renamed_document_has_another_name_in_chart_and_record(north: Clinic) -> None:
    north.send("r-1", "RENAMED a.txt", b"content")
    (record,) = north.records_once_there("r-1")
    assert record["file_name"] == "RENAMED a-1.txt"
    link = north.api.get(f"/patient_attachment/{record['record_id']}/presign_url").json()
    assert link["file_name"] == "RENAMED a-1.txt"


def test_rows_are_none_for_a_usual_chart() -> None:
    habit = Habit.of("4711")
    assert habit.earlier_records() == []
    assert habit.listed([1, 2], random.Random(1), 1.0) == [1, 2]


# --- Cliniko ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cliniko(sandbox: SandboxProcess) -> Iterator[ClinikoClinic]:
    process = SandboxProcess("--providers", "cliniko", validation_seconds=0.1)
    yield ClinikoClinic(process)
    process.stop()


def test_cliniko_has_the_same_charts_with_records_of_earlier_days(cliniko: ClinikoClinic) -> None:
    def listed(patient_id: str, query: str = "") -> JSON:
        path = f"/patients/{patient_id}/patient_attachments?per_page=100{query}"
        return as_json(cliniko.api.get(path), 200)

    assert listed("many-1600-a")["total_entries"] == 1600
    assert listed("many-1600-a", "&q[]=created_at:>=2999-01-01T00:00:00Z")["total_entries"] == 0
    one_more = listed("announces-one-more-3-a")
    assert (len(one_more["patient_attachments"]), one_more["total_entries"]) == (3, 4)
    orders = [[each["id"] for each in listed("moving-50-a")["patient_attachments"]] for _ in range(2)]
    assert orders[0] != orders[1]
    record = cliniko.send("r-1", "RENAMED-a.txt", b"content")
    assert cliniko.processed(record["id"])["filename"] == "RENAMED-a-1.txt"
