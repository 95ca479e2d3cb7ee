"""Patients with thousands of records, and lists that hide, move or announce too much: delivered, once, and no harm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.harness.installation import Installation, impatient, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until

LIMIT = 72
IMPATIENT = "south_clinic"
PAGES_OF_MANY = 16
DOCUMENTS = 8


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory, world: SandboxProcess) -> Iterator[Installation]:
    """A clinic with two workers."""
    with installed(tmp_path_factory.mktemp("charts") / "clinic", world) as started:
        for _ in range(2):
            started.start_worker(**impatient(IMPATIENT))
        yield started


@pytest.fixture(autouse=True)
def world_as_before(world: SandboxProcess) -> Iterator[None]:
    yield
    world.world(reset=True)


def sent(clinic: Installation, patient: str, *names: str, account: str = "north_clinic") -> list[str]:
    """Documents, each of its own bytes and size; the ids of their jobs."""
    return [
        clinic.send(clinic.write(f"{uuid4()}.pdf", b"x" * (5000 + n)), patient, file_name=name, account=account)
        for n, name in enumerate(names)
    ]


def ended(clinic: Installation, jobs: list[str], stage: str = "delivered") -> None:
    final = ("delivered", "failed", "cancelled")
    wait_until(lambda: all(clinic.stage(job) in final for job in jobs), "all end", LONG_PATIENCE_SECONDS)
    ends = {job: (clinic.stage(job), clinic.redis.hget(f"chartpost:job:{job}", "code")) for job in jobs}
    assert {end for end, _ in ends.values()} == {stage}, ends


def listings(world: SandboxProcess, patient: str) -> int:
    """How many pages of this patient's list were asked for."""
    last = world.requests()["last"]
    return sum(f"/patient/{patient}/" in each["path"] for each in last if each["method"] == "GET")


def logs(clinic: Installation) -> str:
    return "".join(child.log for child in clinic.children)


def test_documents_of_a_long_chart_share_one_listing_and_leave_room_for_others(
    north: Installation, world: SandboxProcess
) -> None:
    """Eight documents with a listing of sixteen pages each would need the limit of two minutes."""
    limits = {
        f"CHARTPOST_ACCOUNTS__{account}__REQUESTS_PER_MINUTE": str(LIMIT)
        for account in ("NORTH_CLINIC", "SOUTH_CLINIC")
    }
    for _ in range(2):
        north.start_worker(**limits)
    world.forget_requests()
    patient = f"many-1600-{uuid4()}"
    jobs = sent(north, patient, *(f"{n}.pdf" for n in range(DOCUMENTS)))
    others = [job for _ in range(2) for job in sent(north, f"s{uuid4()}", "a.pdf", account="south_clinic")]
    ended(north, jobs + others)
    assert len(north.chart(patient_id=patient)) == DOCUMENTS
    assert PAGES_OF_MANY <= listings(world, patient) <= 2 * PAGES_OF_MANY
    assert "limit of requests per minute is used up" not in logs(north), "the other clinic waited for the limit"


def test_a_listing_goes_on_where_the_limit_stopped_it_and_in_another_worker(
    north: Installation, world: SandboxProcess
) -> None:
    """At half of the limit the list takes two minutes' share; its first reader is killed in between."""
    limit = {"CHARTPOST_ACCOUNTS__NORTH_CLINIC__REQUESTS_PER_MINUTE": "24"}
    worker = north.start_worker(**limit)
    world.forget_requests()
    patient = f"many-1600-{uuid4()}"
    jobs = sent(north, patient, "a.pdf", "b.pdf")
    wait_until(lambda: listings(world, patient) >= 13, "the first share of pages is read")
    worker.kill()
    north.start_worker(**limit)
    ended(north, jobs)
    # Nine at most are lost with the killed worker, and read again.
    assert listings(world, patient) <= PAGES_OF_MANY + 9 + 6


def test_a_patient_with_more_than_twenty_thousand_records_is_served_and_parks_nobody(
    at_work: Installation, world: SandboxProcess
) -> None:
    patient = f"many-20100-{uuid4()}"
    jobs = sent(at_work, patient, "a.pdf", "b.pdf", "LOST c.pdf")
    ended(at_work, jobs)
    assert len(at_work.chart(patient_id=patient)) == 3
    assert "account_parked" not in logs(at_work)
    kept = max(int(at_work.redis.memory_usage(key) or 0) for key in at_work.redis.scan_iter("chartpost:cached:*"))
    assert kept < 1_000_000
    sizes = [at_work.redis.memory_usage(f"chartpost:job:{job}") or 0 for job in jobs]
    assert max(sizes) < 20_000, "a delivered job keeps no snapshot"


@pytest.mark.parametrize("kind", ["moving", "overlapping", "announces-one-more", "announces-one-more-250"])
def test_a_list_that_does_not_add_up_fails_no_document_and_parks_nobody(at_work: Installation, kind: str) -> None:
    patient = f"{kind}-{uuid4()}"
    jobs = sent(at_work, patient, "a.pdf", "b.pdf", "LOST c.pdf")
    others = sent(at_work, f"o{uuid4()}", "d.pdf", "e.pdf")
    ended(at_work, others + jobs)
    assert sorted(record["file_name"] for record in at_work.chart(patient_id=patient)) == [
        "LOST c.pdf",
        "a.pdf",
        "b.pdf",
    ]
    assert "account_parked" not in logs(at_work)


def test_a_duplicate_is_skipped_though_the_list_hides_the_earlier_record_for_a_moment(
    at_work: Installation, world: SandboxProcess
) -> None:
    world.world(hiding_seconds=0.6)
    patient = f"hiding-{uuid4()}"
    sources = [at_work.write(f"{uuid4()}.pdf", b"y" * (700 + n)) for n in range(4)]
    for _ in range(3):
        ended(at_work, [at_work.send(source, patient) for source in sources])
        time.sleep(0.35)  # so that some come while the list hides what it has
    assert len(at_work.chart(patient_id=patient)) == 4


def test_a_record_of_the_same_size_under_another_name_is_named(at_work: Installation) -> None:
    patient = f"r{uuid4()}"
    jobs = sent(at_work, patient, "RENAMED a.pdf", account=IMPATIENT)
    ended(at_work, jobs, "failed")
    (record,) = at_work.chart(patient_id=patient)
    failure = at_work.process.ledger.get(jobs[0]).failure  # type: ignore[union-attr]
    assert failure is not None
    assert failure.code == "not_confirmed"
    sentence = f"A record of the same size came under another name: record {record['record_id']}."
    assert failure.message.endswith(sentence)
    assert failure.hint.startswith("Look there first.")


def test_a_lost_answer_and_a_renamed_record_are_held_for_a_person_and_not_sent_twice(at_work: Installation) -> None:
    patient = f"l{uuid4()}"
    jobs = sent(at_work, patient, "LOST RENAMED a.pdf")
    ended(at_work, jobs, "failed")
    (record,) = at_work.chart(patient_id=patient)
    failure = at_work.process.ledger.get(jobs[0]).failure  # type: ignore[union-attr]
    assert failure is not None
    assert failure.code == "outcome_unknown"
    assert f"record {record['record_id']}." in failure.message


def test_a_record_that_was_removed_is_sent_again_after_some_looks(at_work: Installation) -> None:
    account, patient = "cliniko_clinic", f"a{uuid4()}"
    source = at_work.write(f"{uuid4()}.pdf", b"z" * 900)
    ended(at_work, [at_work.send(source, patient, account=account, file_name="a.pdf")])
    (record,) = at_work.chart(patient_id=patient)
    archived = at_work.command("records", "archive", record["record_id"], "--account", account)
    assert archived.returncode == 0, archived.stderr
    again = at_work.send(source, patient, account=account, file_name="a.pdf")
    ended(at_work, [again])
    assert len(at_work.chart(patient_id=patient)) == 2
    looks = [line for line in logs(at_work).splitlines() if "job_looks_for_earlier" in line and again in line]
    assert len(looks) == 4
