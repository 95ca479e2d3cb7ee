"""Redox, with real processes: each document is in the chart exactly once, or a human is asked."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sandbox.settings import setting
from tests.acceptance.test_accounts import status_of
from tests.acceptance.test_celery_door import failure_of
from tests.acceptance.test_kill_matrix import assert_nothing_is_left, points_met
from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.valkey import FaultyValkey, everything_in
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until

HOLDING, RESENDING = "redox_hospital", "resending"
SMALL, LARGE = b"small", b"large" * 60_000
BEFORE_THE_COMMIT = ("call.binary-after", "ledger.stored-after", "ledger.committed-before")
AFTER_THE_COMMIT = (
    "ledger.committed-after",
    "commit_log.note_commit-after",
    "call.create-after",
    "ledger.delivered-before",
)
POINTS = (*BEFORE_THE_COMMIT, *AFTER_THE_COMMIT, "ledger.delivered-after")  # closing is the same for every provider
PATIENT = {"name": [{"family": "Meier", "given": ["Anna"]}], "birthDate": "1980-12-31", "gender": "female"}


def resending(world: SandboxProcess) -> str:
    """The hospital once more, by an account that sends again what nobody saw."""
    keys = world.settings["accounts"][HOLDING] | {"on_unknown_outcome": "resend"}
    return "\n".join(["", f"[accounts.{RESENDING}]", *(line for item in keys.items() for line in setting(*item)), ""])


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory, world: SandboxProcess) -> Iterator[Installation]:
    """One clinic with a worker and a watcher for most of these tests."""
    folder = tmp_path_factory.mktemp("redox") / "clinic"
    with installed(folder, world, account=HOLDING, end=resending(world)) as started:
        started.start("worker", "watch")
        started.start_worker()
        yield started


@pytest.fixture(autouse=True)
def world_as_before(world: SandboxProcess) -> Iterator[None]:
    yield
    world.world(reset=True)


def fresh() -> str:
    """A patient of one's own; a bare number might be one who makes trouble."""
    return f"r{uuid4().hex[:8]}"


def charted(clinic: Installation, run: str) -> Counter[tuple[str, str]]:
    """Name and digest of what the chart has of patients of this run, and how often."""
    records = [record for record in clinic.chart(provider="redox") if run in record["patient_id"]]
    return Counter((record["file_name"], record["sha256"]) for record in records)


def once(documents: dict[str, bytes]) -> Counter[tuple[str, str]]:
    return Counter((name, hashlib.sha256(content).hexdigest()) for name, content in documents.items())


def receipts(clinic: Installation, run: str) -> list[dict[str, Any]]:
    return [receipt for receipt in clinic.receipts() if run in receipt["patient_id"]]


def errors(clinic: Installation, run: str) -> list[dict[str, Any]]:
    return [error for error in clinic.errors() if run in error["patient_id"]]


# --- arriving --------------------------------------------------------------------------------------------------------


def test_documents_of_all_sizes_arrive_once_by_inbox_and_by_call(at_work: Installation) -> None:
    run = fresh()
    dropped = {"Über weisung.pdf": SMALL, "scan.tiff": LARGE, "one byte.txt": b"1"}
    called = {"report.pdf": b"report", "film.mp4": LARGE * 20}
    with_sidecar = at_work.data / "inbox" / HOLDING / run / "scan.tiff.meta.json"
    with_sidecar.parent.mkdir(parents=True)
    with_sidecar.write_text(json.dumps({"options": {"patient": PATIENT}, "description": "of May"}))
    for name, content in dropped.items():
        at_work.drop(run, name, content)
    calls = {name: at_work.upload(at_work.write(name, content), run) for name, content in called.items()}
    results = {name: call.get(timeout=120) for name, call in calls.items()}
    wait_until(lambda: len(receipts(at_work, run)) == len(dropped), "each has its receipt")

    assert charted(at_work, run) == once(dropped | called)
    ids = {record["file_name"]: record["record_id"] for record in at_work.chart(patient_id=run)}
    for receipt in receipts(at_work, run):
        name = receipt["file_name"]
        assert (receipt["assurance"], receipt["record"]["id"]) == ("accepted", ids[name])
        assert receipt["sha256"] == hashlib.sha256(dropped[name]).hexdigest()
        assert (receipt["stored"]["key"] or "").startswith("http" if name == "scan.tiff" else "urn:uuid:")
        assert (receipt["times"]["stored"] is not None) == (name == "scan.tiff")
    assert {name: result["record"]["id"] for name, result in results.items()} == {name: ids[name] for name in called}
    assert {result["assurance"] for result in results.values()} == {"accepted"}


def test_the_same_document_again_is_skipped(at_work: Installation) -> None:
    run = fresh()
    for _ in range(2):
        receipt = at_work.upload(at_work.write("twice.pdf", SMALL), run).get(timeout=120)
    assert receipt["code"] == "duplicate"
    assert charted(at_work, run) == once({"twice.pdf": SMALL})


# --- what may go wrong with one document -----------------------------------------------------------------------------


def test_each_fault_of_a_document_ends_as_it_must_and_never_in_a_second_copy(at_work: Installation) -> None:
    run = fresh()
    ends = {  # by name, or by patient: what it ends in, and how often it is in the chart
        "INVALID.pdf": ("refused_by_provider", 0),
        "ERR200.pdf": ("refused_by_provider", 0),
        "ERR200-ENTRY.pdf": ("refused_by_provider", 0),
        "LOST.pdf": ("outcome_unknown", 1),
        "LOSTCREATE.pdf": ("outcome_unknown", 1),
        "TIMEOUT504.pdf": ("outcome_unknown", 1),
        "BUSY-1.pdf": ("outcome_unknown", 0),
        "STALL-1.pdf": ("delivered", 1),
        "404": ("refused_by_provider", 0),
        "429": ("delivered", 1),
        "500": ("outcome_unknown", 0),
    }
    for number, name in enumerate(ends):
        patient = f"{name}-{run}" if name.isdigit() else f"{run}-{number}"
        at_work.drop(patient, f"{name}.pdf" if name.isdigit() else name, SMALL if number % 2 else LARGE)
    wait_until(lambda: len(receipts(at_work, run)) + len(errors(at_work, run)) == len(ends), "all have ended")

    found = {error["file_name"]: error["code"] for error in errors(at_work, run)}
    found |= {receipt["file_name"]: "delivered" for receipt in receipts(at_work, run)}
    copies = Counter(name for name, _ in charted(at_work, run).elements())
    wanted = {f"{name}.pdf" if name.isdigit() else name: end for name, end in ends.items()}
    assert {name: (found[name], copies[name]) for name in wanted} == wanted
    for error in errors(at_work, run):
        assert error["final"]
        assert error["hint"]
        assert ("The provider's words" in error["message"]) == (error["code"] == "refused_by_provider")


def test_a_cut_connection_stores_nothing_and_the_document_goes_again(at_work: Installation) -> None:
    run = fresh()
    at_work.world.world(redox_dedupe=True)
    result = at_work.upload(at_work.write("CUT.pdf", SMALL), run, account=RESENDING)
    assert result.get(timeout=120)["size_bytes"] == len(SMALL)
    assert charted(at_work, run) == once({"CUT.pdf": SMALL})


def test_an_account_that_resends_delivers_what_nobody_saw_without_a_second_copy(at_work: Installation) -> None:
    run = fresh()
    at_work.world.world(redox_dedupe=True)
    documents = {f"{word}.pdf": LARGE if word == "LOST" else SMALL for word in ("LOST", "TIMEOUT504", "BUSY-2")}
    for name, content in documents.items():
        at_work.drop(run, name, content, RESENDING)
    at_work.drop(f"500-{run}", "unwell.pdf", SMALL, RESENDING)
    wait_until(lambda: len(receipts(at_work, run)) == len(documents) + 1, "all are delivered")
    assert charted(at_work, run) == once(documents | {"unwell.pdf": SMALL})
    assert errors(at_work, run) == []


def test_an_account_that_resends_asks_a_human_when_the_repetition_is_refused(at_work: Installation) -> None:
    run = fresh()
    at_work.drop(run, "LOST INVALID.pdf", SMALL, RESENDING)
    refused = wait_until(lambda: errors(at_work, run), "it is refused at once")[0]
    assert refused["code"] == "refused_by_provider"
    at_work.drop(f"500-{run}", "INVALID.pdf", SMALL, RESENDING)
    held = wait_until(lambda: [error for error in errors(at_work, run) if "500" in error["patient_id"]], "held")[0]
    assert (held["code"], held["final"]) == ("outcome_unknown", True)
    assert "The provider's words" in held["message"]


def test_a_held_document_is_not_sent_again_before_a_human_says_so(at_work: Installation) -> None:
    run = fresh()
    at_work.drop(run, "LOST.pdf", SMALL)
    held = wait_until(lambda: errors(at_work, run), "it is held")[0]
    at_work.drop(run, "LOST.pdf", SMALL)
    wait_until(lambda: times_held(at_work, held["job_id"]) == 2, "it is taken, and held again")
    wait_until(lambda: list((at_work.data / "failed" / HOLDING / run).glob("*.pdf")), "it is in failed/ again")
    assert [error["job_id"] for error in errors(at_work, run)] == [held["job_id"]]
    assert charted(at_work, run) == once({"LOST.pdf": SMALL})

    resolved = at_work.command("resolve", held["job_id"], "--delivered")
    assert resolved.returncode == 0, resolved.stderr
    receipt = wait_until(lambda: receipts(at_work, run), "a human's word is taken")[0]
    assert receipt["resolved_by"] == "human"
    assert charted(at_work, run) == once({"LOST.pdf": SMALL})


def test_another_document_of_a_held_ones_name_and_size_is_not_taken_for_it(at_work: Installation) -> None:
    run = fresh()
    at_work.drop(run, "LOST.pdf", SMALL)
    held = wait_until(lambda: errors(at_work, run), "it is held")[0]
    other = at_work.upload(at_work.write("LOST.pdf", SMALL[::-1]), run)
    time.sleep(1)
    assert not other.ready(), "it waits until a human has said what became of the first"
    assert at_work.command("resolve", held["job_id"], "--delivered").returncode == 0
    assert other.get(timeout=120)["job_id"] == other.id
    assert charted(at_work, run) == once({"LOST.pdf": SMALL}) + once({"LOST.pdf": SMALL[::-1]})


def times_held(clinic: Installation, job_id: str) -> int:
    lines = [line for child in clinic.children for line in child.log.splitlines() if job_id in line]
    return sum('"event": "job_held"' in line for line in lines)


def test_a_held_document_that_did_not_arrive_is_sent_when_a_human_says_so(at_work: Installation) -> None:
    run = fresh()
    at_work.drop(run, "BUSY-1.pdf", SMALL)
    held = wait_until(lambda: errors(at_work, run), "it is held")[0]
    plain = at_work.command("retry", held["job_id"])
    assert plain.returncode == 0, plain.stderr
    wait_until(lambda: at_work.stage(held["job_id"]) == "failed", "it is held again")
    assert charted(at_work, run) == Counter()
    again = at_work.command("retry", held["job_id"], "--send-again")
    assert again.returncode == 0, again.stderr
    wait_until(lambda: receipts(at_work, run), "it is delivered")
    assert charted(at_work, run) == once({"BUSY-1.pdf": SMALL})


def test_a_document_that_could_never_arrive_is_refused_at_the_door(at_work: Installation) -> None:
    at_work.world.forget_requests()
    source = at_work.write("a.pdf", SMALL)
    calls = {
        "patient": at_work.upload(source, options={"patient": {"gender": "female"}}),
        "metadata.type": at_work.upload(source, options={"metadata": {"type": ""}}),
        "options": at_work.upload(source, options={"surprise": 1}),
    }
    for named, call in calls.items():
        code, message = failure_of(call)
        assert code == "invalid_request"
        assert named in message
    assert at_work.world.requests()["counts"] == {}


# --- what may go wrong with an account -------------------------------------------------------------------------------


def test_a_revoked_key_parks_the_account_and_its_documents_go_on_when_it_works_again(at_work: Installation) -> None:
    run, key = fresh(), at_work.world.settings["accounts"][HOLDING]["client_id"]
    at_work.world.world(revoke=[key])
    documents = {f"{number}.pdf": LARGE if number % 2 else SMALL for number in range(10)}
    for name, content in documents.items():
        at_work.drop(run, name, content)
    wait_until(lambda: status_of(at_work, HOLDING) == "parked", "the account is parked")
    assert charted(at_work, run) == Counter()
    at_work.world.world(restore=[key])
    wait_until(lambda: len(receipts(at_work, run)) == len(documents), "all are delivered")
    assert charted(at_work, run) == once(documents)
    assert status_of(at_work, HOLDING) == "ok"


@pytest.mark.parametrize("fault", ["503", "hang"])
def test_a_provider_that_is_down_turns_few_documents_into_held_ones(at_work: Installation, fault: str) -> None:
    """Its token is known, so that messages do leave before anybody notices."""
    run = fresh()
    at_work.upload(at_work.write("before.pdf", SMALL), run).get(timeout=120)
    slots = 8
    at_work.world.world(down={"redox": fault})
    source = at_work.write("many.pdf", SMALL)
    for number in range(40):
        at_work.send(source, run, file_name=f"{number}.pdf")
    if fault == "503":
        wait_until(lambda: status_of(at_work, HOLDING) == "down", "the account is down")
    time.sleep(2)
    at_work.world.world(down={"redox": None})
    wait_until(lambda: ended(at_work, run) == 41, "all have ended")
    copies = charted(at_work, run)
    assert set(copies.values()) == {1}
    held = 41 - len(copies)
    assert held <= 5 + slots, "those that had left when it was noticed"
    assert held or fault == "503", "a 503 may come before the message was whole"


def ended(clinic: Installation, run: str) -> int:
    said = clinic.command("jobs", "--json", "--account", HOLDING).stdout
    rows: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
    return sum(row["patient_id"] == run and row["state"] in ("delivered", "failed") for row in rows)


# --- killed, and forgotten -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", [RESENDING, HOLDING])
def test_a_worker_killed_at_every_boundary_sends_nothing_twice_and_loses_nothing(
    opened: Callable[..., Installation], world: SandboxProcess, tmp_path: Path, account: str
) -> None:
    """An account that resends delivers all of it; one that holds asks a human where the commit was passed."""
    world.world(redox_dedupe=account == RESENDING)
    run = fresh()
    started = opened(account=account, end=resending(world))
    points = POINTS if account == RESENDING else ("ledger.committed-before", *AFTER_THE_COMMIT)
    documents = killed_everywhere(started, tmp_path / "marks", run, points)
    copies = charted(started, run)
    delivered = {receipt["file_name"]: documents[receipt["file_name"]] for receipt in receipts(started, run)}
    held = {error["file_name"] for error in errors(started, run)}
    assert set(copies.values()) == {1}
    assert once(delivered) <= copies
    assert delivered.keys() | held == documents.keys()
    if account == RESENDING:
        assert (held, copies) == (set(), once(documents))
    else:
        assert held >= {name for name in documents if name.startswith(tuple(f"kill-{p}-" for p in AFTER_THE_COMMIT))}
    assert {error["code"] for error in errors(started, run)} <= {"outcome_unknown"}
    assert_nothing_is_left(started)


def killed_everywhere(clinic: Installation, marks: Path, run: str, points: Sequence[str]) -> dict[str, bytes]:
    """Documents for each of which a worker was killed at the point that its name says."""
    marks.mkdir()
    clinic.start("worker", "watch")
    clinic.start("tests.harness.failpoint_worker", str(marks), CHARTPOST_WORKER__CONCURRENCY="1")
    documents: dict[str, bytes] = {}
    for _ in range(4):
        for point in sorted(set(points) - points_met(marks)):
            name = f"kill-{point}-{len(documents)}.pdf"
            content = LARGE if "stored" in point or "binary" in point else SMALL
            documents[name] = content + name.encode()
            clinic.drop(f"{run}-{len(documents)}", name, documents[name])
        wait_until(
            lambda: len(receipts(clinic, run) + errors(clinic, run)) == len(documents),
            "all have ended",
            LONG_PATIENCE_SECONDS,
        )
    assert points_met(marks) == set(points)
    return documents


def test_a_redis_that_is_wiped_with_its_files_makes_no_second_copy(tmp_path: Path, world: SandboxProcess) -> None:
    world.world(redox_dedupe=True)
    (tmp_path / "valkey").mkdir()
    server = FaultyValkey(tmp_path / "valkey")
    try:
        with installed(tmp_path / "clinic", world, server.start(), end=resending(world)) as started:
            started.start("worker", "watch")
            started.start_worker()
            sent = {account: drop_ten(started, account) for account in (HOLDING, RESENDING)}
            runs = [run for run, _ in sent.values()]
            wait_until(lambda: all(charted(started, run) for run in runs), "some of each have been sent")
            server.wipe()
            wait_until(lambda: len(started.receipts() + started.errors()) == 20, "all have ended")
            for account, (run, documents) in sent.items():
                assert charted(started, run) == once(documents)
                codes = {error["code"] for error in errors(started, run)}
                assert codes == ({"outcome_unknown"} if account == HOLDING else set())
    finally:
        server.stop()


def drop_ten(clinic: Installation, account: str) -> tuple[str, dict[str, bytes]]:
    """Four whose answers take their time, so that they are in flight when it happens; and six more."""
    run = fresh()
    names = [f"STALL-2 {number}.pdf" for number in range(4)] + [f"{number}.pdf" for number in range(6)]
    documents = {name: LARGE if number % 2 else SMALL for number, name in enumerate(names)}
    for name, content in documents.items():
        clinic.drop(run, name, content, account)
    return run, documents


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_neither_logs_nor_redis_hold_patient_file_key_or_token(at_work: Installation) -> None:
    options = {"patient": PATIENT}
    at_work.upload(at_work.write("Meier Befund.pdf", SMALL), "Patient-Meier-77", options=options).get(timeout=120)
    failure_of(at_work.upload(at_work.write("Meier INVALID.pdf", LARGE), "Patient-Meier-77", options=options))
    failure_of(at_work.upload(at_work.write("Meier LOST.pdf", LARGE), "Patient-Meier-77", options=options))
    logs, seen = "".join(child.log for child in at_work.children), everything_in(at_work.redis)
    lines = at_work.world.settings["accounts"][HOLDING]["private_key"].splitlines()[1:-1]
    assert "job_delivered" in logs
    assert "celery-task-meta" in seen
    provider: Any = at_work.process.accounts[HOLDING].provider
    token = provider._api._tokens.current()  # the one that the worker has used: it is remembered for all
    for secret in ("Meier", "1980-12-31", "Bearer", "eyJhbGciOi", "/redox/blob/", token, *lines):
        assert secret not in logs
        assert secret not in seen
    assert at_work.world.leaks() == []
