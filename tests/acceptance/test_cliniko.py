"""Documents to Cliniko by real processes: each once in the chart, whatever dies, is lost or is refused on the way."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.acceptance.test_accounts import assert_only_probes
from tests.acceptance.test_kill_matrix import assert_nothing_is_left, points_met
from tests.harness.failpoint_worker import REGISTERING
from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.valkey import FaultyValkey, everything_in
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until

ACCOUNT = "cliniko_clinic"
LEASE_SECONDS = 2.0
QUICK = """confirm.first_seconds = 0.1
confirm.cap_seconds = 0.3
confirm.give_up_after_seconds = 8.0
confirm.look_seconds = 2.0
"""
NAMES = {
    "referral.pdf": "referral.pdf",
    "with spaces in it.pdf": "with_spaces_in_it.pdf",
    "Überweisung Größe.pdf": "Uberweisung_Grosse.pdf",
    "日本語.pdf": "document.pdf",
    "x" * 200 + ".tar.gz": "x" * 97 + ".gz",
}
FAULTS = (
    "LOST",
    "BUSY-2",
    "CUT",
    "EXPIRED",
    "SLOW-2",
    "LOSTCOMMIT",
    "DOWNCOMMIT",
    "LOST LOSTCOMMIT",
    "S3-RequestTimeout",
    "S3-ExpiredToken",
)


@pytest.fixture(autouse=True)
def unlimited(world: SandboxProcess) -> Iterator[None]:
    """More calls a minute than Cliniko allows, since the tests poll so often."""
    world.world(throttle={"cliniko": {"per_minute": 100_000}})
    yield
    world.world(reset=True)


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory, world: SandboxProcess) -> Iterator[Installation]:
    """A clinic with a worker and a watcher, for the tests that harm neither."""
    with installed(tmp_path_factory.mktemp("cliniko") / "clinic", world, account=ACCOUNT, quick=QUICK) as started:
        started.start("worker", "watch")
        started.start_worker()
        yield started


def charted(clinic: Installation, run: str) -> list[dict[str, Any]]:
    return [record for record in clinic.chart(provider="cliniko") if str(record["patient_id"]).startswith(run)]


def receipts(clinic: Installation, run: str, count: int) -> list[dict[str, Any]]:
    """The receipts of these patients' inbox documents, once there are so many."""
    mine = [receipt for receipt in clinic.receipts() if str(receipt["patient_id"]).startswith(run)]
    return mine if len(mine) == count else []


def in_chart(clinic: Installation, record_id: str) -> dict[str, Any]:
    """The record as Cliniko shows it."""
    account = clinic.world.settings["accounts"][ACCOUNT]
    answer = httpx.get(
        f"{account['base_url']}/patient_attachments/{record_id}",
        auth=(account["api_key"], ""),
        headers={"User-Agent": account["contact"]},
        trust_env=False,
        timeout=60,
    )
    assert answer.status_code == 200
    return dict(answer.json())


# --- both doors ------------------------------------------------------------------------------------------------------


def test_documents_of_both_doors_are_each_once_in_the_chart_with_true_receipts(at_work: Installation) -> None:
    run, rng = f"d{uuid4()}", random.Random(7)
    sent: list[tuple[str, str, str]] = []
    for number, name in enumerate([*NAMES, *NAMES]):
        content = rng.randbytes(1 if number == 0 else 3_000_000 if number == 1 else rng.randint(2, 200_000))
        sent.append((f"{run}-{number % 5}-{number // 5}", name, hashlib.sha256(content).hexdigest()))
        at_work.drop(*sent[-1][:2], content)
    source = at_work.write(f"{run}.pdf", b"called")
    calls = [
        at_work.upload(source, f"{run}-call", file_name=f"call {n}.pdf", description="A referral") for n in range(5)
    ]
    results = [call.get(timeout=120) for call in calls]
    mine = wait_until(lambda: receipts(at_work, run, len(sent)), "every document has its receipt")

    charts = {record["record_id"]: record for record in charted(at_work, run)}
    assert len(charts) == len(sent) + len(calls)
    wanted = [(patient, NAMES[name], digest) for patient, name, digest in sent]
    wanted += [(f"{run}-call", f"call_{n}.pdf", hashlib.sha256(b"called").hexdigest()) for n in range(5)]
    assert sorted((r["patient_id"], r["file_name"], r["sha256"]) for r in charts.values()) == sorted(wanted)
    for receipt in mine:
        record = charts[receipt["record"]["id"]]
        assert (receipt["patient_id"], receipt["sha256"]) == (record["patient_id"], record["sha256"])
        assert (receipt["assurance"], receipt["provider"], "remarks" in receipt) == ("confirmed", "cliniko", False)
        times = [receipt["times"][stage] for stage in ("received", "presigned", "stored", "registered", "delivered")]
        assert times == sorted(times)
        assert receipt["file_name"] in [name for _, name, _ in sent], "our own words keep the name as it came"
    for result in results:
        assert charts[result["record"]["id"]]["patient_id"] == f"{run}-call"
        assert in_chart(at_work, result["record"]["id"])["description"].startswith("A referral · call ")
    wait_until(lambda: not list((at_work.data / "processing").iterdir()), "all are where they belong")


def test_names_that_become_the_same_are_told_apart(at_work: Installation) -> None:
    run = f"t{uuid4()}"
    names = ["a b.pdf", "a  b.pdf", "a_b.pdf", "a:b.pdf"]
    for name in names:
        at_work.drop(run, name, name.encode())
    mine = wait_until(lambda: receipts(at_work, run, len(names)), "every document has its receipt")
    charts = {record["record_id"]: record for record in charted(at_work, run)}
    assert {record["file_name"] for record in charts.values()} == {"a_b.pdf"}
    for receipt in mine:
        assert charts[receipt["record"]["id"]]["sha256"] == hashlib.sha256(receipt["file_name"].encode()).hexdigest()


# --- faults of Cliniko and its storage -------------------------------------------------------------------------------


def test_lost_answers_and_faults_are_ridden_out_with_one_copy(at_work: Installation) -> None:
    run = f"f{uuid4()}"
    calls = {}
    for number, fault in enumerate(FAULTS):
        name = f"{fault} {number}.pdf"
        at_work.drop(f"{run}-inbox-{number}", name, name.encode())
        calls[name] = at_work.upload(at_work.write(name, name.encode()), f"{run}-call-{number}")
    for name, call in calls.items():
        assert call.get(timeout=120)["size_bytes"] == len(name)
    wait_until(lambda: receipts(at_work, run, len(FAULTS)), "every document has its receipt")
    assert Counter(record["patient_id"] for record in charted(at_work, run)) == Counter(
        [f"{run}-{door}-{number}" for door in ("inbox", "call") for number in range(len(FAULTS))]
    )


def test_calls_that_are_throttled_or_unwell_at_first_lead_to_one_copy(at_work: Installation) -> None:
    patients = [f"429-{uuid4()}", f"500-{uuid4()}"]
    calls = [at_work.upload(at_work.write(f"{patient}.pdf", b"in the end"), patient) for patient in patients]
    assert all(call.get(timeout=120)["size_bytes"] == 10 for call in calls)
    assert [len(at_work.chart(patient_id=patient)) for patient in patients] == [1, 1]


def test_only_a_lost_registering_is_of_unknown_outcome_a_lost_upload_is_repeated_at_once(at_work: Installation) -> None:
    calls = {
        word: at_work.upload(at_work.write(f"{word}.pdf", b"lost"), f"o{uuid4()}") for word in ("LOST", "LOSTCOMMIT")
    }
    for call in calls.values():
        call.get(timeout=120)
    log = at_work.children[-1].log.splitlines()
    unknown = {
        word for word, call in calls.items() if any(call.id in line and "outcome_unknown" in line for line in log)
    }
    assert unknown == {"LOSTCOMMIT"}


def test_a_type_that_cliniko_cannot_tell_is_a_remark_in_the_receipt(at_work: Installation) -> None:
    call = at_work.upload(at_work.write("BADTYPE.pdf", b"of no type"), f"b{uuid4()}")
    assert ["invalid/invalid" in remark for remark in call.get(timeout=120)["remarks"]] == [True]


def test_what_is_processed_too_late_is_not_confirmed_and_delivered_after_all_and_what_never_is_fails(
    at_work: Installation,
) -> None:
    run = f"l{uuid4()}"
    at_work.world.world(hold_validation="late.pdf")
    at_work.drop(f"{run}-late", "late.pdf", b"later than its patience")
    never = at_work.upload(at_work.write("INVALID.pdf", b"never processed"), f"{run}-never")
    nobody = at_work.upload(at_work.write("nobody.pdf", b"for nobody"), f"404{run}")
    for call, code in ((nobody, "refused_by_provider"), (never, "not_confirmed")):
        with pytest.raises(Exception, match=code):
            call.get(timeout=120)
    late = wait_until(lambda: [e for e in at_work.errors() if e["patient_id"] == f"{run}-late"], "it is too late")
    assert [(error["code"], error["final"], error["stage"]) for error in late] == [
        ("not_confirmed", False, "registered")
    ]
    assert "has a record of it" in late[0]["message"]
    at_work.world.world(hold_validation=None)
    wait_until(lambda: receipts(at_work, run, 1), "it is delivered after all")
    assert [record["patient_id"] for record in charted(at_work, run)] == [f"{run}-late"]


# --- kills and wipes -------------------------------------------------------------------------------------------------


def test_a_worker_killed_around_the_registering_delivers_each_document_once(
    opened: Callable[..., Installation], tmp_path: Path
) -> None:
    patient = QUICK.replace("give_up_after_seconds = 8.0", "give_up_after_seconds = 60.0")
    north, run = opened(account=ACCOUNT, quick=patient), f"k{uuid4()}"
    (marks := tmp_path / "marks").mkdir()
    north.world.world(validation_seconds=2 * LEASE_SECONDS)  # a second registering before that is a second document
    north.start("worker", "watch")
    north.start("tests.harness.failpoint_worker", str(marks))
    names: list[str] = []
    # A kill for one document may take another past its own point: what was missed gets another round.
    for _ in range(4):
        for point in sorted(set(REGISTERING) - points_met(marks)):
            names.append(f"kill-{point}-{len(names)}.pdf")
            north.drop(f"{run}-{len(names)}", names[-1], names[-1].encode())
        wait_until(
            lambda: len(north.receipts()) == len(names), "every document has its receipt", seconds=LONG_PATIENCE_SECONDS
        )

    assert points_met(marks) == set(REGISTERING)
    assert sorted(record["file_name"] for record in charted(north, run)) == sorted(names), "each exactly once"
    assert_nothing_is_left(north)


def test_a_redis_wiped_with_its_files_loses_and_doubles_no_inbox_document(
    tmp_path: Path, world: SandboxProcess
) -> None:
    server = FaultyValkey(tmp_path / "valkey")
    (tmp_path / "valkey").mkdir()
    url = server.start()
    try:
        with installed(tmp_path / "clinic", world, url, account=ACCOUNT, quick=QUICK) as wiped:
            assert_each_once_after_a_wipe(wiped, server)
    finally:
        server.stop()


def assert_each_once_after_a_wipe(wiped: Installation, server: FaultyValkey) -> None:
    run = f"w{uuid4()}"
    wiped.start("worker", "watch")
    worker = wiped.start_worker()
    words = ("LOSTCOMMIT", "SLOW-3", "plain", "DOWNCOMMIT", "BUSY-3", "LOST")
    names = [f"{words[number % len(words)]} {number}.pdf" for number in range(12)]
    for number, name in enumerate(names):
        wiped.drop(f"{run}-{number % 4}", name, name.encode())
    wait_until(lambda: "job_registered" in worker.log and "outcome_unknown" in worker.log, "some are under way")
    server.wipe()
    wait_until(lambda: receipts(wiped, run, len(names)), "all are delivered")
    assert Counter(record["file_name"] for record in charted(wiped, run)) == Counter(
        name.replace(" ", "_") for name in names
    )
    assert worker.process.poll() is None


# --- the account -----------------------------------------------------------------------------------------------------


def test_a_revoked_key_parks_the_account_which_resumes_by_itself(at_work: Installation) -> None:
    key = at_work.world.settings["accounts"][ACCOUNT]["api_key"]
    at_work.world.world(revoke=[key])
    source = at_work.write("parked.pdf", b"parked")
    calls = [at_work.upload(source, f"p{uuid4()}", file_name=f"{number}.pdf") for number in range(10)]
    wait_until(lambda: at_work.process.account_statuses.health(ACCOUNT).status == "parked", "the account is parked")
    assert_only_probes(at_work, ACCOUNT)
    assert not any(call.ready() for call in calls)
    at_work.world.world(restore=[key])
    assert all(call.get(timeout=120)["size_bytes"] == 6 for call in calls)
    assert at_work.process.account_statuses.health(ACCOUNT).status == "ok"


def test_nothing_secret_and_no_patient_is_in_a_log_or_in_the_clear_in_redis(at_work: Installation) -> None:
    run, name = f"s{uuid4()}", f"Meier-{uuid4()}"
    at_work.drop(run, f"{name}.pdf", b"kept secret")
    at_work.drop(run, f"LOSTCOMMIT {name}.pdf", b"kept secret as well")
    at_work.drop(f"404{run}", f"404 {name}.pdf", b"for nobody")
    wait_until(lambda: receipts(at_work, run, 2), "they are delivered")
    key = at_work.world.settings["accounts"][ACCOUNT]["api_key"]
    logs = "".join(child.log for child in at_work.children)
    assert "job_delivered" in logs
    for text in (logs, everything_in(at_work.redis)):
        for secret in (run, name, key, httpx.BasicAuth(key, "")._auth_header, "X-Amz-Signature", "upload_url"):
            assert secret not in text
    assert at_work.world.leaks() == []
