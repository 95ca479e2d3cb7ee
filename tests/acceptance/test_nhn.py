"""NHN with real processes: provided once, whatever is killed, lost, wiped or refused; relabelled as asked."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks.providers.nhn.answers import EARLIER
from tests.acceptance.test_kill_matrix import assert_nothing_is_left, points_met
from tests.acceptance.test_memory import forget_peak, peak_mb
from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.valkey import FaultyValkey, everything_in
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until

ACCOUNT = "nhn_hospital"
SIXTY_MB = 60_000_000
ALLOWED_MB = 15
NORMAL = {"system": "urn:oid:2.16.840.1.113883.5.25", "code": "N", "display": "Normal"}
BLOCKED = {"system": "urn:oid:2.16.578.1.12.4.1.1.9603", "code": "NORS", "display": "Sperret"}
KILLS = (
    *(f"ledger.{move}-{side}" for move in ("committed", "delivered") for side in ("before", "after")),
    *(f"commit_log.note_commit-{side}" for side in ("before", "after")),
    *(f"call.nhn-{side}" for side in ("before", "after")),
    "start.register-after",
)


@pytest.fixture
def hospital(opened: Callable[..., Installation]) -> Installation:
    return opened(account=ACCOUNT)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, world: SandboxProcess) -> Iterator[Installation]:
    """One installation, watcher and worker running, for all tests that hurt no process of it."""
    with installed(tmp_path_factory.mktemp("nhn") / "clinic", world, account=ACCOUNT) as started:
        started.start("worker", "watch")
        started.start_worker()
        yield started


@pytest.fixture
def unwell(house: Installation) -> Iterator[Installation]:
    """The same, and the world is well again afterwards."""
    yield house
    house.world.world(reset=True)
    wait_until(lambda: status_of(house) == "ok", "the account is well again")


def status_of(hospital: Installation) -> str:
    return hospital.process.account_statuses.health(ACCOUNT).status


def charted(hospital: Installation, patient: str) -> dict[str, list[str]]:
    """File name -> the digests of what the patient's chart holds under it."""
    found: dict[str, list[str]] = {}
    for record in hospital.chart(provider="nhn", patient_id=patient):
        found.setdefault(record["file_name"], []).append(record["sha256"])
    return found


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- the way through -------------------------------------------------------------------------------------------------


def test_documents_of_both_doors_are_each_in_the_chart_once_and_nobody_else_learns_of_them(
    hospital: Installation,
) -> None:
    patient = f"p{uuid4()}"
    contents = {f"Überweisung {number}.pdf": os.urandom(40_000 * number + 1) for number in range(6)}
    children = [hospital.start("worker", "watch"), hospital.start_worker()]
    calls = {}
    for number, (name, content) in enumerate(contents.items()):
        if number % 2:
            hospital.drop(patient, name, content)
        else:
            calls[name] = hospital.upload(hospital.write(name, content), patient, file_name=name)
    results = {name: call.get(timeout=120) for name, call in calls.items()}
    wait_until(lambda: len(hospital.receipts()) == 3, "the inbox documents have their receipts")

    assert charted(hospital, patient) == {name: [digest(content)] for name, content in contents.items()}
    records = {record["file_name"]: record["record_id"] for record in hospital.chart(patient_id=patient)}
    for receipt in hospital.receipts():
        assert_receipt(receipt, records[receipt["file_name"]], contents[receipt["file_name"]])
        assert receipt["patient_id"] == patient
    for name, result in results.items():
        assert_receipt(result, records[name], contents[name])
    assert_nothing_is_left(hospital)
    assert_quiet(hospital, patient, "\n".join(child.log for child in children))


def assert_receipt(receipt: dict[str, Any], record_id: str, content: bytes) -> None:
    assert (receipt["provider"], receipt["assurance"]) == ("nhn", "confirmed")
    assert receipt["record"]["id"] == record_id
    assert receipt["record"]["url"].endswith(f"/R4/fhir/DocumentReference/{record_id}")
    assert (receipt["sha256"], receipt["size_bytes"]) == (digest(content), len(content))
    assert receipt["times"]["registered"]
    assert receipt["times"]["delivered"]
    assert receipt["attempts"] == 1
    assert receipt["provider_calls"] <= 2
    assert all(remark.startswith("NHN remarked upon it: ") for remark in receipt["remarks"])


def assert_quiet(hospital: Installation, patient: str, logs: str) -> None:
    """No patient, name, key, token, assertion or proof in the logs, or in the clear in Redis."""
    said = logs + everything_in(hospital.redis)
    account = hospital.world.settings["accounts"][ACCOUNT]
    assert "job_delivered" in said
    assert "nhn_event_id" in said
    assert patient not in said
    assert "berweisung" not in said
    assert account["private_key"][100:160] not in said
    assert not re.search(r"eyJ[\w-]{8,}\.", said), "a JWT: tokens, assertions and proofs are all of them"


def test_faults_are_ridden_out_with_one_copy_of_each(house: Installation) -> None:
    run = uuid4().hex
    names = ["CUT.pdf", "BUSY-2.pdf", "LOST.pdf", "LOSTCREATE.pdf", "TIMEOUT504.pdf", "STALL-1.pdf"]
    asked = {
        (patient, name): house.upload(house.write(f"{patient}{name}", name.encode()), patient, file_name=name)
        for patient, name in [*((run, name) for name in names), (f"429-{run}", "a.pdf"), (f"500-{run}", "a.pdf")]
    }
    receipts = {key: call.get(timeout=120) for key, call in asked.items()}
    for patient, name in asked:
        assert charted(house, patient)[name] == [digest(name.encode())]
    for name in ("LOST.pdf", "LOSTCREATE.pdf", "TIMEOUT504.pdf"):
        assert receipts[run, name]["remarks"] == [EARLIER]
    assert_nothing_is_left(house)


def test_what_nhn_refuses_fails_with_its_words_beside_the_file_and_nowhere_else(house: Installation) -> None:
    run = uuid4().hex
    unknown, patient = f"404-{run}", f"p{run}"
    house.drop(unknown, "epikrise.pdf", b"unknown")
    house.drop(patient, "VIRUS.pdf", b"virus")
    bad = house.upload(house.write("a.pdf", b"a"), patient, options={"metadata": {"type": "no coding"}})
    wait_until(lambda: len(errors_of(house, run)) == 2, "both have failed")
    errors = errors_of(house, run)
    assert {error["code"] for error in errors.values()} == {"refused_by_provider"}
    assert "does not know this patient" in errors["epikrise.pdf"]["message"]
    assert "virus scan" in errors["VIRUS.pdf"]["message"]
    with pytest.raises(Exception, match=r"invalid_request.*\(type\)"):
        bad.get(timeout=120)
    assert charted(house, unknown) == charted(house, patient) == {}
    logs = "".join(child.log for child in house.children)
    assert run not in logs
    assert "virus" not in logs


def errors_of(hospital: Installation, run: str) -> dict[str, dict[str, Any]]:
    return {error["file_name"]: error for error in hospital.errors() if run in error["patient_id"]}


def test_labels_are_replaced_once_asked_for_and_a_document_is_not_unblocked_by_chance(house: Installation) -> None:
    run = uuid4().hex
    done = {
        f"{run}-1": house.relabel(f"{run}-1", NORMAL, BLOCKED),
        f"LOST-{run}": house.relabel(f"LOST-{run}", NORMAL, BLOCKED, payload="json-patch"),
        f"OUTCOME-{run}": house.relabel(f"OUTCOME-{run}", NORMAL, BLOCKED),
        f"503-{run}": house.relabel(f"503-{run}", NORMAL, BLOCKED),
    }
    refused = {
        "no such document": house.relabel(f"402-{run}", BLOCKED),
        "other labels": house.relabel(f"UNCHANGED-{run}", BLOCKED),
        "NORS": house.relabel(f"{run}-2", NORMAL),
        "id is not one of FHIR's": house.relabel("not/an/id", BLOCKED),
    }
    for document, call in done.items():
        receipt = call.get(timeout=120)
        assert (receipt["record"]["id"], receipt["assurance"]) == (document, "confirmed")
        assert [label["code"] for label in receipt["labels"]] == ["N", "NORS"]
        assert {label["code"] for label in house.world.labels(document)["labels"]} == {"N", "NORS"}
    for words, call in refused.items():
        with pytest.raises(Exception, match=words):
            call.get(timeout=120)
    assert house.world.labels(f"{run}-2") == {}
    house.relabel(f"{run}-1", NORMAL, allow_unblock=True).get(timeout=120)
    assert [label["code"] for label in house.world.labels(f"{run}-1")["labels"]] == ["N"]
    assert_nothing_is_left(house)


# --- kills and wipes -------------------------------------------------------------------------------------------------


def test_a_worker_killed_around_the_commit_and_the_call_provides_each_document_once(
    hospital: Installation, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    hospital.start("worker", "watch")
    hospital.start("tests.harness.failpoint_worker", str(marks))
    patient, names = f"k{uuid4()}", list[str]()
    for _ in range(3):  # a kill for one document may take another past its own point
        for point in sorted(set(KILLS) - points_met(marks)):
            names.append(f"kill-{point}-{len(names)}.pdf")
            hospital.drop(patient, names[-1], names[-1].encode())
        wait_until(
            lambda: len(hospital.receipts()) == len(names),
            "every document has its receipt",
            seconds=LONG_PATIENCE_SECONDS,
        )

    assert points_met(marks) == set(KILLS)
    assert charted(hospital, patient) == {name: [digest(name.encode())] for name in names}
    assert_nothing_is_left(hospital)


def test_a_worker_killed_while_its_answer_is_withheld_finds_that_it_was_stored_or_leaves_it_to_a_human(
    hospital: Installation,
) -> None:
    """What was stored is known again by its ids; without the file nobody can know."""
    patient = f"l{uuid4()}"
    worker = hospital.start_worker()
    kept, gone = (hospital.upload(hospital.write(f"STALL-30 {n}.pdf", b"stalled"), patient) for n in range(2))
    wait_until(lambda: len(charted(hospital, patient)) == 2, "both are stored while their answers are withheld")
    worker.kill()
    (hospital.documents / "STALL-30 1.pdf").unlink()
    hospital.start_worker()
    receipt = kept.get(timeout=120)
    assert receipt["remarks"] == [EARLIER]
    with pytest.raises(Exception, match="outcome_unknown"):
        gone.get(timeout=120)
    (record,) = hospital.chart(patient_id=patient, file_name="STALL-30 0.pdf")
    assert record["record_id"] == receipt["record"]["id"]


@pytest.fixture
def wiped(tmp_path: Path, world: SandboxProcess) -> Iterator[tuple[Installation, FaultyValkey]]:
    (tmp_path / "valkey").mkdir()
    server = FaultyValkey(tmp_path / "valkey")
    url = server.start()
    try:
        with installed(tmp_path / "clinic", world, url, account=ACCOUNT) as started:
            yield started, server
    finally:
        server.stop()


def test_a_wiped_redis_neither_loses_nor_doubles_what_was_in_flight(wiped: tuple[Installation, FaultyValkey]) -> None:
    hospital, server = wiped
    patient, names = f"w{uuid4()}", [f"STALL-4 {number}.pdf" for number in range(4)]
    hospital.start("worker", "watch")
    hospital.start_worker()
    for name in names:
        hospital.drop(patient, name, name.encode())
    wait_until(lambda: len(charted(hospital, patient)) == 4, "all are stored, and no answer is there yet")
    hospital.drop(patient, "not yet.pdf", b"not yet")
    server.wipe()
    wait_until(lambda: len(hospital.receipts()) == 5, "each has its receipt")
    contents = {**{name: name.encode() for name in names}, "not yet.pdf": b"not yet"}
    assert charted(hospital, patient) == {name: [digest(content)] for name, content in contents.items()}
    assert [receipt["remarks"] for receipt in hospital.receipts()].count([EARLIER]) == 4
    assert_nothing_is_left(hospital)


# --- a sick account --------------------------------------------------------------------------------------------------


def many(hospital: Installation, patient: str) -> list[Any]:
    source = hospital.write(f"{uuid4()}.pdf", b"one of many")
    return [hospital.upload(source, patient, file_name=f"{uuid4()}.pdf") for _ in range(8)]


def test_a_revoked_client_parks_the_account_and_its_documents_go_on_when_it_is_restored(unwell: Installation) -> None:
    patient = f"r{uuid4()}"
    client_id = unwell.world.settings["accounts"][ACCOUNT]["client_id"]
    many(unwell, patient)[0].get(timeout=120)  # there is a token
    unwell.world.world(revoke=[client_id])
    waiting = many(unwell, patient)
    wait_until(lambda: status_of(unwell) == "parked", "the account is parked")
    assert not any(call.ready() for call in waiting)
    unwell.world.world(restore=[client_id])
    for call in waiting:
        assert call.get(timeout=120)["size_bytes"] == 11
    assert status_of(unwell) == "ok"
    wait_until(lambda: len(charted(unwell, patient)) == 16, "the others are delivered too")
    assert all(len(found) == 1 for found in charted(unwell, patient).values())


@pytest.mark.parametrize("part", ["nhn", "helseid"])
def test_a_part_that_is_down_is_waited_for(unwell: Installation, part: str) -> None:
    patient = f"d{uuid4()}"
    unwell.world.world(down={part: "503"}, kill_tokens=["nhn"])
    waiting = many(unwell, patient)
    wait_until(lambda: status_of(unwell) == "down", "the account is down")
    unwell.world.world(down={part: None})
    for call in waiting:
        call.get(timeout=120)
    assert all(len(found) == 1 for found in charted(unwell, patient).values())


def test_a_document_that_is_refused_like_a_bad_token_does_not_hold_its_account_for_ever(unwell: Installation) -> None:
    refused = unwell.upload(unwell.write("a.pdf", b"a"), f"401-{uuid4()}")
    for call in many(unwell, f"o{uuid4()}"):
        call.get(timeout=120)
    with pytest.raises(Exception, match="refused_by_provider"):
        refused.get(timeout=120)
    wait_until(lambda: status_of(unwell) == "ok", "the account is well")


# --- size ------------------------------------------------------------------------------------------------------------


def test_a_document_of_60_mb_adds_little_memory(house: Installation) -> None:
    worker = house.children[1]
    house.upload(house.write("warm.pdf", b"warm"), f"m{uuid4()}").get(timeout=120)
    path = house.documents / "large.pdf"
    with path.open("wb") as file:
        file.truncate(SIXTY_MB)
    before = forget_peak(worker)
    receipt = house.upload(path.as_uri(), f"m{uuid4()}").get(timeout=120)
    added = peak_mb(worker) - before
    print(f"\nmemory added: {added:.1f} MB")  # noqa: T201
    assert receipt["size_bytes"] == SIXTY_MB
    assert added <= ALLOWED_MB


def test_the_accounts_check_names_what_is_wrong(house: Installation) -> None:
    checked = house.command("check", "--json")
    rows = [json.loads(line) for line in checked.stdout.splitlines()]
    assert [row["ok"] for row in rows if row["account"] == ACCOUNT] == [True]
