"""Ovok with real processes: one document at Ovok for each of ours, whatever is killed, lost or wiped meanwhile."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.test_kill_matrix import assert_nothing_is_left
from tests.harness.installation import Installation, impatient, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.valkey import FaultyValkey, everything_in
from tests.harness.waiting import LONG_PATIENCE_SECONDS, PATIENCE_SECONDS, wait_until

ACCOUNT = "ovok_clinic"
LEASE_SECONDS = 2.0
RECOVERY_LEASES = 8

QUICK = """confirm.first_seconds = 0.2
confirm.cap_seconds = 0.4
confirm.give_up_after_seconds = 6.0
confirm.look_seconds = 2.5
"""

# Around the commit points of create and upload, while the document of a lost create is being found again, and around
# the call that gives the document its patient.
KILLED_AT = (
    "kill-presign.ledger.committed-before",
    "kill-presign.commit_log.note_commit-after",
    "kill-presign.call.create-after",
    "kill-presign.commit_log.note_record-after",
    "kill-post.ledger.committed-before",
    "kill-post.commit_log.note_commit-after",
    "kill-post.call.storage-after",
    "kill-confirm.commit_log.note_record-after",
    "kill-ledger.record_found-after",
    "kill-confirm.call.patch-before",
    "kill-confirm.call.patch-after",
)
WIPED_AT = (
    "wipe-presign.commit_log.note_commit-after",
    "wipe-ledger.presigned-after",
    "both-presign.call.create-after",
    "both-presign.commit_log.note_record-after",
    "both-post.call.storage-after",
    "wipe-confirm.call.patch-after",
    "both-confirm.call.patch-before",
)
FOUND_AGAIN = ("kill-confirm", "kill-ledger.record_found")


@pytest.fixture
def ovok(opened: Callable[..., Installation]) -> Iterator[Installation]:
    """A clinic whose account is at Ovok."""
    started = opened(account=ACCOUNT, quick=QUICK)
    yield started
    started.world.world(reset=True)


def run_id() -> str:
    """For names that nobody else has; letters first, and no hyphen."""
    return f"r{uuid4().hex[:10]}"


def content_of(name: str) -> bytes:
    return f"the document {name}".encode() * 20


def drop(clinic: Installation, *names: str, patient: str | None = None) -> None:
    for name in names:
        clinic.drop(patient, name, content_of(name))


def delivered(
    clinic: Installation, names: list[str] | set[str], seconds: float = PATIENCE_SECONDS
) -> dict[str, dict[str, Any]]:
    """The receipts, by file name, when all are there."""
    wanted = set(names)

    def receipts() -> dict[str, dict[str, Any]]:
        found = {receipt["file_name"]: receipt for receipt in clinic.receipts() if receipt["file_name"] in wanted}
        return found if set(found) == wanted else {}

    found: dict[str, dict[str, Any]] = wait_until(receipts, f"{sorted(wanted)} are delivered", seconds)
    return found


def assert_once(clinic: Installation, names: list[str] | set[str], receipts: dict[str, dict[str, Any]]) -> None:
    """One document at Ovok and one in the chart for each, with its bytes, and the receipt tells of that one."""
    made = Counter(each["file_name"] for each in clinic.world.ovok_documents())
    assert {name: made[name] for name in names} == dict.fromkeys(names, 1)
    for name in names:
        (charted,) = clinic.chart(provider="ovok", file_name=name)
        assert charted["sha256"] == hashlib.sha256(content_of(name)).hexdigest()
        assert receipts[name]["sha256"] == charted["sha256"]
        assert receipts[name]["record"]["id"] == charted["record_id"]
        assert receipts[name]["record"]["url"].endswith(f"/document/{charted['record_id']}")
        assert receipts[name]["assurance"] == "confirmed"


# --- both doors, and faults ------------------------------------------------------------------------------------------


def test_documents_of_both_doors_arrive_once_whatever_the_sandbox_does_to_them(ovok: Installation) -> None:
    run = run_id()
    words = ("", "LOST ", "LOSTCREATE ", "CUT ", "EXPIRED ", "BUSY-2 ", "S3-RequestTimeout ", "STALL-1 ", "Übe (1) ")
    dropped = [f"{word}{run}.a.pdf" for word in words]
    called = [f"{word}{run}.b.pdf" for word in words]
    ovok.start("worker", "watch")
    ovok.start_worker()
    drop(ovok, *dropped[:5])
    drop(ovok, *dropped[5:], patient="patient-of-ours")
    results = {name: ovok.upload(ovok.write(name, content_of(name)), None) for name in called}

    receipts = delivered(ovok, dropped)
    receipts |= {name: result.get(timeout=120) for name, result in results.items()}

    assert_once(ovok, [*dropped, *called], receipts)
    assert_nothing_is_left(ovok)
    assert not any(each["is_public"] for each in ovok.world.ovok_documents())
    plain = receipts[f"{run}.a.pdf"]
    stored, confirmed = (datetime.fromisoformat(plain["times"][stage]) for stage in ("stored", "delivered"))
    polls_in_vain = int((confirmed - stored).total_seconds() / 0.4)  # at least so many seconds apart, but for the first
    assert plain["provider_calls"] <= 7 + 2 * polls_in_vain  # login at most; create, upload, read back
    assert receipts[f"{run}.a.pdf"]["stored"]["etag_verified"]
    assert ovok.world.leaks() == []


def test_what_ovok_drops_is_not_delivered(ovok: Installation) -> None:
    name = f"INVALID {run_id()}.pdf"
    ovok.start("worker", "watch")
    ovok.start_worker(**impatient(ACCOUNT))
    drop(ovok, name)
    (error,) = wait_until(ovok.errors, "it is given up")
    assert (error["code"], error["stage"]) == ("not_confirmed", "stored")
    assert "document at the provider that it went into did not hold it" in error["message"]
    assert ovok.chart(file_name=name) == []


def test_a_document_that_was_given_up_is_retried_into_the_document_that_was_made_for_it(ovok: Installation) -> None:
    name = f"BUSY-2 {run_id()}.pdf"
    ovok.start("worker", "watch")
    ovok.start_worker(CHARTPOST_RETRY__FIRST_SECONDS="0.001", CHARTPOST_RETRY__GIVE_UP_AFTER_SECONDS="0.002")
    drop(ovok, name)
    (error,) = wait_until(ovok.errors, "it is given up")
    assert error["code"] == "gave_up"
    assert len(made(ovok, name)) == 1
    assert ovok.command("retry", error["job_id"]).returncode == 0
    assert_once(ovok, [name], delivered(ovok, [name]))


def made(clinic: Installation, name: str) -> list[dict[str, Any]]:
    return [each for each in clinic.world.ovok_documents() if each["file_name"] == name]


def test_documents_of_one_name_do_not_take_each_others_place_when_a_create_is_lost(ovok: Installation) -> None:
    """Ovok's list names no patients: what tells them apart is only which document is whose."""
    names = [f"LOSTCREATE {number} {run_id()}.pdf" for number in range(4)]
    patients = [f"p{number}" for number in range(3)]
    ovok.start_worker()
    results = {
        (name, patient): ovok.upload(
            ovok.write(f"{patient}{name}", f"{patient} {name}".encode()), patient, file_name=name
        )
        for name in names
        for patient in patients
    }
    records = {of: result.get(timeout=120)["record"]["id"] for of, result in results.items()}
    for name in names:
        assert {each["id"] for each in made(ovok, name)} == {records[name, patient] for patient in patients}
        assert len(made(ovok, name)) == len(patients)
    for (name, patient), record in records.items():
        (charted,) = ovok.chart(record_id=record)
        assert charted["sha256"] == hashlib.sha256(f"{patient} {name}".encode()).hexdigest()
        assert charted["patient_id"] == patient


# --- replacing -------------------------------------------------------------------------------------------------------


def test_a_document_is_replaced_in_place_and_several_replacements_follow_one_another(ovok: Installation) -> None:
    run = run_id()
    ovok.start_worker()

    def replaced(name: str, content: bytes, into: str) -> Any:
        return ovok.upload(ovok.write(name, content), None, options={"document_id": into})

    first = ovok.upload(ovok.write(f"{run}.pdf", b"version 1"), None).get(timeout=120)
    into = first["record"]["id"]
    others = [replaced(f"{word}{run}.{n}.pdf", b"version %d" % n, into) for n, word in ((2, ""), (3, "LOST "), (4, ""))]
    receipts = [other.get(timeout=120) for other in others]

    assert [receipt["record"]["id"] for receipt in receipts] == [into] * 3
    assert [receipt["sha256"] for receipt in receipts] == [
        hashlib.sha256(b"version %d" % number).hexdigest() for number in (2, 3, 4)
    ]
    (charted,) = ovok.chart(record_id=into)
    assert charted["sha256"] in {receipt["sha256"] for receipt in receipts}
    assert len([each for each in ovok.world.ovok_documents() if run in each["file_name"]]) == 1
    assert [each["uploads"] for each in ovok.world.ovok_documents() if each["id"] == into] == [4]


def test_what_stood_there_once_and_was_replaced_is_no_duplicate(ovok: Installation) -> None:
    run = run_id()
    ovok.start_worker()
    source = ovok.write(f"{run}.pdf", b"version 1")
    first = ovok.upload(source, None).get(timeout=120)
    into = first["record"]["id"]
    again = ovok.upload(source, None).get(timeout=120)
    assert (again["code"], again["record"]["id"]) == ("duplicate", into)
    ovok.upload(ovok.write("other.pdf", b"version 2"), None, options={"document_id": into}).get(timeout=120)
    back = ovok.upload(source, None, options={"document_id": into}).get(timeout=120)
    assert back.get("code") is None
    (charted,) = ovok.chart(record_id=into)
    assert charted["sha256"] == first["sha256"]


def test_a_replacement_of_what_is_not_there_is_refused_in_a_sentence(ovok: Installation) -> None:
    ovok.start_worker()
    source = ovok.write(f"{run_id()}.pdf", b"replacement")
    for options, code in (
        ({"document_id": "no-such-document"}, "refused_by_provider"),
        ({"document_id": "../login"}, "invalid_request"),
        ({"documentId": "d-1"}, "invalid_request"),
    ):
        result = ovok.upload(source, None, options=options)
        with pytest.raises(Exception, match=code) as failed:
            result.get(timeout=120)
        assert "document_id" in str(failed.value)
        assert "../login" not in str(failed.value)


# --- killed and wiped ------------------------------------------------------------------------------------------------


def armed(ovok: Installation, folder: Path) -> Path:
    marks = folder / "marks"
    marks.mkdir()
    ovok.start("worker", "watch")
    ovok.start("tests.harness.failpoint_worker", str(marks))
    return marks


def struck(marks: Path) -> set[str]:
    return {path.name.rpartition("-")[0] for path in marks.iterdir()}


def assert_one_of_each_in_the_end(ovok: Installation, marks: Path, wanted: set[str]) -> None:
    """Drop a document for each strike until each has happened; each is at Ovok once, in its patient's chart."""
    run, names = run_id(), list[str]()
    patient = f"p-{run}"
    # What one document suffers may take another past its own point: what was missed gets another round.
    for _ in range(5):
        for point in sorted(wanted - struck(marks)):
            word = "LOSTCREATE." if point.startswith(FOUND_AGAIN) else ""
            names.append(f"{point}-{len(names)}.{word}{run}.pdf")
            drop(ovok, names[-1], patient=patient)
        receipts = delivered(ovok, names, seconds=LONG_PATIENCE_SECONDS)
        if struck(marks) == wanted:
            break
    assert struck(marks) == wanted
    assert_once(ovok, names, receipts)
    assert {each["patient_id"] for name in names for each in ovok.chart(provider="ovok", file_name=name)} == {patient}
    assert_nothing_is_left(ovok)


def test_a_worker_killed_around_each_commit_point_makes_one_document_of_each(
    ovok: Installation, tmp_path: Path
) -> None:
    assert_one_of_each_in_the_end(ovok, armed(ovok, tmp_path), set(KILLED_AT))


def test_a_redis_wiped_around_each_commit_point_makes_one_document_of_each(ovok: Installation, tmp_path: Path) -> None:
    assert_one_of_each_in_the_end(ovok, armed(ovok, tmp_path), set(WIPED_AT))


def test_a_redis_that_comes_back_empty_is_filled_again_from_the_folders(tmp_path: Path, world: SandboxProcess) -> None:
    (tmp_path / "valkey").mkdir()
    server, run = FaultyValkey(tmp_path / "valkey"), run_id()
    try:
        with installed(tmp_path / "clinic", world, server.start(), account=ACCOUNT, quick=QUICK) as ovok:
            ovok.start("worker", "watch")
            ovok.start_worker()
            began = time.monotonic()
            drop(ovok, f"calm {run}.pdf")
            delivered(ovok, [f"calm {run}.pdf"])
            calm = time.monotonic() - began
            names = [f"{word} {run}.pdf" for word in ("STALL-3", "LOSTCREATE", "BUSY-3", "plain", "LOST")]
            drop(ovok, *names)
            wait_until(lambda: made(ovok, names[0]) and made(ovok, names[1]), "they are in flight")
            server.wipe()
            wiped = time.monotonic()
            receipts = delivered(ovok, names)
            assert time.monotonic() - wiped < RECOVERY_LEASES * LEASE_SECONDS + len(names) * calm
            assert_once(ovok, names, receipts)
    finally:
        server.stop()


# --- credentials, and what is kept to ourselves ----------------------------------------------------------------------


def test_refused_credentials_park_the_account_until_they_work_again_and_nothing_secret_shows(
    ovok: Installation,
) -> None:
    run = run_id()
    settings = ovok.world.settings["accounts"][ACCOUNT]
    ovok.start("worker", "watch")
    ovok.start_worker()
    drop(ovok, f"before {run}.pdf", patient=f"patient-{run}")
    delivered(ovok, [f"before {run}.pdf"])
    ovok.world.world(revoke=[settings["password"]])
    names = [f"{number} {run}.pdf" for number in range(4)]
    drop(ovok, *names, patient=f"patient-{run}")
    wait_until(lambda: status_of(ovok) == "parked", "the account is parked")
    time.sleep(LEASE_SECONDS)
    assert ovok.errors() == []
    ovok.world.world(restore=[settings["password"]], kill_tokens=["ovok"])
    assert_once(ovok, names, delivered(ovok, names))
    assert status_of(ovok) == "ok"

    said = "\n".join(child.log for child in ovok.children) + everything_in(ovok.redis)
    assert "job_delivered" in said
    for secret in (settings["password"], settings["email"], settings["client_id"], f"patient-{run}", f"{run}.pdf"):
        assert secret not in said
    assert not re.search(r"eyJ[\w-]{8,}\.eyJ|Bearer |public\.", said)
    assert "public" not in json.dumps(ovok.receipts())


def status_of(clinic: Installation) -> str:
    return clinic.process.account_statuses.health(ACCOUNT).status
