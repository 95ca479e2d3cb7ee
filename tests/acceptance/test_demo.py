"""The demo is a witness: it ends with 0 only for what it has seen, names what was otherwise, leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.model.document import Door
from tasks.model.errors import Code
from tests.harness.sandbox import ROOT
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until
from worker.demo.expectations import Evidence, companion_path, final_path, shortcomings
from worker.demo.scenario import DemoDocument, Fault, documents
from worker.demo.tracker import Progress
from worker.demo.workspace import KEPT_RUNS, Workspace, new_workspace

NOT_AS_EXPECTED = """
import sys
from tasks.model.errors import Code
from worker.demo.runner import run
from worker.demo.scenario import DemoDocument
sys.exit(run([DemoDocument("demo-anna-1001", "letter.pdf", fails_with=Code.REFUSED_BY_PROVIDER)]))
"""


def demo(folder: Path, *command: str) -> subprocess.Popen[str]:
    """A demo whose temporary folder is this one, by which its processes can be told from others."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder), "CHARTPOST_REDIS__URL": "redis://192.0.2.1/0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def processes_of(folder: Path) -> Iterator[str]:
    for process in Path("/proc").iterdir():
        try:
            if f"TMPDIR={folder}\0".encode() in (process / "environ").read_bytes():
                yield (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # no process, or none any more
            continue


def test_the_demo_ends_with_0_and_leaves_receipts_and_no_process(tmp_path: Path) -> None:
    process = demo(tmp_path, "-m", "worker", "demo", "--documents", "6")
    said, _ = process.communicate(timeout=LONG_PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert "4 of 6 documents were delivered, each exactly once" in said
    assert "2 failed, as expected" in said
    assert "dropped by validation: in failed/" in said
    assert "found, not sent twice" in said
    assert "All processes have ended." in said
    assert list(processes_of(tmp_path)) == []
    [data] = tmp_path.glob("chartpost-demo-*/data")
    receipts = [json.loads(path.read_text()) for path in data.glob("delivered/**/*.receipt.json")]
    assert sorted(receipt["file_name"] for receipt in receipts) == [
        "bloods BUSY-2.pdf",
        "referral.pdf",
        "x-ray LOST.pdf",
    ]
    errors = [json.loads(path.read_text()) for path in data.glob("failed/**/*.error.json")]
    assert sorted(error["code"] for error in errors) == ["file_too_large", "not_confirmed"]


def test_an_unexpected_end_is_named_with_exit_1_and_no_log_names_the_patient(tmp_path: Path) -> None:
    process = demo(tmp_path, "-c", NOT_AS_EXPECTED)
    said, _ = process.communicate(timeout=LONG_PATIENCE_SECONDS)
    assert process.returncode == 1, said
    assert "demo-anna-1001 letter.pdf: expected to be failed, refused_by_provider, but it is delivered" in said
    [logs] = tmp_path.glob("chartpost-demo-*/logs")
    assert f"The logs are in {logs}" in said
    written = "".join(path.read_text() for path in logs.iterdir())
    assert "job_delivered" in written
    assert "demo-anna" not in written


def test_asked_to_stop_in_the_middle_it_ends_in_order_and_says_so(tmp_path: Path) -> None:
    process = demo(tmp_path, "-m", "worker", "demo")
    assert process.stdout
    wait_until(lambda: "referral.pdf" in str(process.stdout and process.stdout.readline()), "documents are sent")
    assert len(list(processes_of(tmp_path))) > 4
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=LONG_PATIENCE_SECONDS)
    assert process.returncode == 1
    assert said.endswith("Stopped before the end. All processes have ended.\n")
    assert list(processes_of(tmp_path)) == []


# --- expectations ------------------------------------------------------------------------------------------------

ARRIVES = DemoDocument("demo-a", "letter.txt")
FAILS = DemoDocument("demo-b", "scan.txt", fails_with=Code.NOT_CONFIRMED)


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    """All as it should be."""
    for document in (ARRIVES, FAILS):
        path = final_path(document, tmp_path)
        path.parent.mkdir(parents=True)
        path.write_bytes(document.content)
        companion_path(document, tmp_path).write_text('{"job_id": "…"}')
    delivered = Progress(ARRIVES, "delivered", job_id="a", record_id="1")
    failed = Progress(FAILS, "failed", job_id="b", code=Code.NOT_CONFIRMED)
    return Evidence(tmp_path, {ARRIVES.key: delivered, FAILS.key: failed}, [record_of(ARRIVES)])


def record_of(document: DemoDocument, **changes: Any) -> dict[str, Any]:
    record = {"tenant": document.account, "patient_id": document.patient_id, "file_name": document.file_name}
    return {**record, "sha256": document.sha256, "record_id": "1", **changes}


def words(evidence: Evidence, *expected: DemoDocument) -> str:
    return "; ".join(shortcomings(expected or (ARRIVES, FAILS), evidence))


def test_nothing_is_said_against_documents_that_met_their_ends(evidence: Evidence) -> None:
    assert words(evidence) == ""


@pytest.mark.parametrize(
    ("charts", "complaint"),
    [
        ([], "demo-a letter.txt: expected in the chart once, but it is there not at all"),
        ([record_of(ARRIVES), record_of(ARRIVES)], "expected in the chart once, but it is there twice"),
        ([record_of(ARRIVES, sha256="0")], "the chart holds other bytes than were sent"),
        ([record_of(ARRIVES, record_id="2")], "our receipt names another record than the chart"),
        ([record_of(ARRIVES), record_of(FAILS)], "demo-b scan.txt: expected in the chart not at all, but it is"),
        ([record_of(ARRIVES), record_of(ARRIVES, patient_id="x")], "hold a document that nobody sent: north_clinic x"),
        ([record_of(ARRIVES, tenant="south_clinic")], "hold a document that nobody sent: south_clinic demo-a"),
    ],
)
def test_the_charts_decide_and_not_our_own_word(
    evidence: Evidence, charts: list[dict[str, Any]], complaint: str
) -> None:
    assert complaint in words(replace(evidence, charts=charts))


def test_another_end_than_expected_is_named(evidence: Evidence) -> None:
    stored = Progress(ARRIVES, "stored", job_id="a")
    gave_up = Progress(FAILS, "failed", job_id="b", code=Code.GAVE_UP, message="Tried for too long.")
    said = words(replace(evidence, jobs={ARRIVES.key: stored, FAILS.key: gave_up}))
    assert "demo-a letter.txt: expected to be delivered, but it is stored" in said
    assert "expected to be failed, not_confirmed, but it is failed, gave_up: Tried for too long." in said
    assert "demo-a letter.txt: no job was opened for it" in words(replace(evidence, jobs={}))


def test_files_that_are_not_where_they_belong_are_named(evidence: Evidence) -> None:
    final_path(ARRIVES, evidence.data).write_bytes(b"something else")
    companion_path(FAILS, evidence.data).unlink()
    left = evidence.data / "processing" / "x" / "letter.txt"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"left")
    said = words(evidence)
    assert "delivered/north_clinic/demo-a/letter.txt is missing, or is not what was put into the inbox" in said
    assert "failed/north_clinic/demo-b/scan.txt.error.json is missing" in said
    assert "processing/: is not empty in the end (1 left)" in said


def test_trouble_that_did_not_come_is_named(evidence: Evidence) -> None:
    lost, busy = replace(ARRIVES, fault=Fault.LOST), replace(ARRIVES, fault=Fault.BUSY)
    assert "was to make trouble, and did not: the upload's answer was lost" in words(evidence, lost)
    assert "was to make trouble, and did not: storage answered 503" in words(evidence, busy)
    met = replace(evidence, requests={"POST /s3/{bucket} 503": 2})
    assert words(met, busy) == ""


def test_a_caller_without_a_receipt_and_keys_at_the_storage_are_named(evidence: Evidence) -> None:
    [called] = [document for document in documents(12) if document.door is Door.CELERY]
    seen = replace(evidence, leaks=[{"header": "x-api-key"}], results={called.key: None})
    said = words(seen, called)
    assert "no job was opened for it" in said
    assert "the storage: got keys that are not meant for it (1 times)" in said
    delivered = Progress(called, "delivered", job_id="a", record_id="1")
    ended = replace(seen, jobs={called.key: delivered}, charts=[record_of(called)])
    assert "its caller did not get the receipt" in words(ended, called)
    assert "its caller" not in words(replace(ended, results={called.key: {"sha256": called.sha256}}), called)


def test_the_last_runs_are_kept_and_a_running_one_is_never_swept_away(tmp_path: Path) -> None:
    someone_elses = tmp_path / "chartpost-demo-x"
    someone_elses.mkdir()
    with new_workspace(tmp_path) as running:
        dated(running, 0)
        for age in range(1, KEPT_RUNS + 3):
            with new_workspace(tmp_path) as latest:
                dated(latest, age)
        assert running.root.exists()
    with new_workspace(tmp_path) as now:
        left = {lock.parent for lock in tmp_path.glob("*/demo.lock")}
    assert len(left) == KEPT_RUNS
    assert {latest.root, now.root} < left
    assert running.root not in left
    assert someone_elses.exists()


def dated(workspace: Workspace, age: int) -> None:
    os.utime(workspace.root / "demo.lock", (age, age))
