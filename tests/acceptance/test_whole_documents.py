"""Half of a document is never sent as if it were whole, at any door; what changed is never filed as what was sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery.result import AsyncResult

from tests.harness import formats
from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until

PDF = formats.pdf(filler_bytes=100_000)
CUT = PDF[:60_000]
AS_IT_IS = "It was sent as it is, as its sender asked: a PDF whose end is missing."


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory, world: SandboxProcess) -> Iterator[Installation]:
    """A clinic with a worker and a watcher, which waits twenty seconds for a missing end."""
    with installed(tmp_path_factory.mktemp("whole") / "clinic", world) as started:
        started.start("worker", "watch", CHARTPOST_INBOX__INCOMPLETE_SECONDS="20")
        started.start_worker(**world.aws_environment)
        yield started


@pytest.fixture(autouse=True)
def world_as_before(world: SandboxProcess) -> Iterator[None]:
    yield
    world.world(reset=True)


@pytest.fixture
def patient() -> str:
    return f"w{uuid4()}"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def receipt_of(clinic: Installation, patient: str) -> dict[str, Any]:
    mine = wait_until(lambda: [one for one in clinic.receipts() if one["patient_id"] == patient], "its receipt")
    return dict(mine[-1])


def error_of(clinic: Installation, patient: str) -> dict[str, Any]:
    mine = wait_until(lambda: [one for one in clinic.errors() if one["patient_id"] == patient], "its error file")
    return dict(mine[-1])


def named_by_check(clinic: Installation, path: Path) -> str:
    """What `chartpost check` says of a file; empty if it does not name it."""
    rows = map(json.loads, clinic.command("check", "--json").stdout.splitlines())
    return "".join(row["message"] for row in rows if str(path) in row["message"])


def wait_for_a_later_file(clinic: Installation, patient: str) -> None:
    """By then a file that is taken as soon as it has held still was taken."""
    later = clinic.drop("later-" + patient, f"{uuid4()}.txt", uuid4().bytes)
    wait_until(lambda: not later.exists(), "a later file is claimed")


# --- the inbox ---------------------------------------------------------------------------------------------------


def test_a_scanner_that_keeps_the_file_open_between_its_pages_is_waited_for(
    at_work: Installation, patient: str
) -> None:
    folder = at_work.data / "inbox" / "north_clinic" / patient
    folder.mkdir(parents=True)
    path = folder / "scan.txt"  # text, so that only the open file tells
    with path.open("wb", buffering=0) as scanner:
        for page in range(3):
            scanner.write(b"page %d\n" % page)
            wait_for_a_later_file(at_work, patient)
            assert "still has it open for writing" in named_by_check(at_work, path)
            assert path.exists()
    whole = b"page 0\npage 1\npage 2\n"
    wait_until(lambda: sha256(whole) in {one["sha256"] for one in at_work.receipts()}, "it is delivered whole")
    scans = [one["sha256"] for one in at_work.chart(patient_id=patient) if one["file_name"] == "scan.txt"]
    assert scans == [sha256(whole)]


def test_a_cut_file_waits_then_fails_with_a_reason_and_may_be_sent_as_it_is(
    at_work: Installation, patient: str
) -> None:
    path = at_work.drop(patient, "scan.pdf", CUT)
    wait_for_a_later_file(at_work, patient)
    assert path.exists()
    error = error_of(at_work, patient)
    assert (error["code"], error["message"]) == ("file_incomplete", "The file is a PDF whose end is missing.")
    assert "--as-it-is" in error["hint"]
    filed = at_work.data / "failed" / "north_clinic" / patient / "scan.pdf"
    wait_until(filed.exists, "the file follows its error file")
    assert filed.read_bytes() == CUT
    again = at_work.command("retry", error["job_id"])
    assert again.returncode == 0
    wait_until(lambda: error_of(at_work, patient)["attempts"] > 0 or _failed_again(at_work, error), "it fails again")
    assert at_work.chart(patient_id=patient) == []
    assert at_work.command("retry", error["job_id"], "--as-it-is").returncode == 0
    receipt = receipt_of(at_work, patient)
    assert (receipt["sha256"], receipt["remarks"]) == (sha256(CUT), [AS_IT_IS])
    assert [record["sha256"] for record in at_work.chart(patient_id=patient)] == [sha256(CUT)]


def _failed_again(clinic: Installation, first: dict[str, Any]) -> bool:
    errors = [one for one in clinic.errors() if one["job_id"] == first["job_id"]]
    return bool(errors) and errors[0]["at"] != first["at"]


def test_a_cut_file_that_is_completed_goes_as_a_whole(at_work: Installation, patient: str) -> None:
    path = at_work.drop(patient, "scan.pdf", CUT)
    wait_for_a_later_file(at_work, patient)
    with path.open("ab") as file:
        file.write(PDF[len(CUT) :])
    wait_until(lambda: sha256(PDF) in {one["sha256"] for one in at_work.receipts()}, "it is delivered whole")
    assert {one["sha256"] for one in at_work.chart(patient_id=patient)} >= {sha256(PDF)}
    assert sha256(CUT) not in {one["sha256"] for one in at_work.chart(patient_id=patient)}


def test_a_sidecar_may_ask_that_it_is_sent_as_it_is(at_work: Installation, patient: str) -> None:
    at_work.drop(patient, "scan.pdf.meta.json", b'{"as_it_is": true}')
    at_work.drop(patient, "scan.pdf", CUT)
    assert receipt_of(at_work, patient)["remarks"] == [AS_IT_IS]


def test_a_name_that_contradicts_the_content_is_remarked_on(at_work: Installation, patient: str) -> None:
    at_work.drop(patient, "scan.pdf", formats.png())
    assert receipt_of(at_work, patient)["remarks"] == ["The file's ending says PDF, its content is a PNG."]


# --- the other doors ---------------------------------------------------------------------------------------------


def failure_of(result: AsyncResult[Any]) -> tuple[str, str]:
    with pytest.raises(Exception, match=r"file_") as failed:
        result.get(timeout=120)
    code, message = failed.value.args
    return code, message


def test_a_callers_cut_file_is_refused_unless_the_call_says_otherwise(at_work: Installation, patient: str) -> None:
    source = at_work.write(f"{patient}.pdf", CUT)
    assert failure_of(at_work.upload(source, patient)) == (
        "file_incomplete",
        "The file is a PDF whose end is missing.",
    )
    assert at_work.chart(patient_id=patient) == []
    receipt = at_work.upload(source, patient, as_it_is=True).get(timeout=120)
    assert (receipt["sha256"], receipt["remarks"]) == (sha256(CUT), [AS_IT_IS])


def test_a_callers_cut_object_is_refused_and_a_whole_one_is_sent(at_work: Installation, patient: str) -> None:
    bucket = at_work.world.objects()
    bucket.put_object(Bucket="sources", Key="cut.pdf", Body=CUT)
    bucket.put_object(Bucket="sources", Key="whole.pdf", Body=PDF)
    bucket.put_object(Bucket="sources", Key="small.pdf", Body=formats.pdf())
    assert failure_of(at_work.upload("s3://sources/cut.pdf", patient))[0] == "file_incomplete"
    for key, content in (("whole.pdf", PDF), ("small.pdf", formats.pdf())):
        assert at_work.upload(f"s3://sources/{key}", patient).get(timeout=120)["sha256"] == sha256(content)
    assert len(at_work.chart(patient_id=patient)) == 2


def deferred(clinic: Installation, job_id: str) -> bool:
    """Whether a worker has said that it waits until the file is closed."""
    lines = [line for child in clinic.children for line in child.log.splitlines() if job_id in line]
    return any("job_deferred" in line and "open for writing" in line for line in lines)


def test_a_callers_file_that_is_open_for_writing_is_waited_for_and_then_refused(
    at_work: Installation, patient: str
) -> None:
    source = at_work.write(f"{patient}.txt", b"page 1")
    path = at_work.documents / f"{patient}.txt"
    with path.open("ab"):
        waiting = at_work.upload(source, patient)
        wait_until(lambda: deferred(at_work, waiting.id), "it waits")
    assert waiting.get(timeout=120)["sha256"] == sha256(b"page 1")
    with path.open("ab") as file:
        assert failure_of(at_work.upload(source, patient + "x"))[0] == "file_incomplete"
        assert at_work.upload(source, patient + "y", as_it_is=True).get(timeout=120)["size_bytes"] == 6
        file.write(b"")


def test_a_message_of_the_stream_is_refused_too(at_work: Installation, patient: str) -> None:
    at_work.start("worker", "intake")
    job_id = str(uuid4())
    message = {
        "job_id": job_id,
        "account": "north_clinic",
        "patient_id": patient,
        "source": at_work.write(f"{patient}.pdf", CUT),
    }
    at_work.redis.xadd("chartpost:intake", {"job": json.dumps(message)})
    wait_until(lambda: at_work.stage(job_id) == "failed", "it fails")
    assert json.loads(at_work.command("show", job_id, "--json").stdout)["error"]["code"] == "file_incomplete"


def test_send_refuses_a_cut_file_and_one_that_is_open_for_writing(
    at_work: Installation, patient: str, tmp_path: Path
) -> None:
    def send(path: Path, *options: str) -> tuple[int, dict[str, Any]]:
        to = ("--account", "north_clinic", "--patient", patient)
        run = at_work.command("send", str(path), *to, "--wait", "--json", *options)
        return run.returncode, json.loads(run.stdout)

    cut, written = tmp_path / "cut.pdf", tmp_path / "written.txt"
    cut.write_bytes(CUT)
    written.write_bytes(b"page 1")
    code, refusal = send(cut)
    assert (code, refusal["code"]) == (1, "file_incomplete")
    with written.open("ab"):
        code, refusal = send(written)
        assert (code, refusal["code"]) == (1, "file_incomplete")
        assert "open for writing" in refusal["message"]
    assert at_work.chart(patient_id=patient) == []
    code, receipt = send(cut, "--as-it-is")
    assert (code, receipt["remarks"]) == (0, [AS_IT_IS])
    assert send(written)[0] == 0


# --- changed after it was sent -----------------------------------------------------------------------------------


def test_what_changes_between_the_claim_and_the_closing_is_not_filed_as_what_was_sent(
    at_work: Installation, patient: str
) -> None:
    at_work.world.world(hold_validation="held")
    at_work.drop(patient, "held.txt", b"page 1")
    (document,) = wait_until(lambda: list(at_work.data.glob("processing/*/held.txt")), "it is claimed")
    wait_until(lambda: at_work.stage(document.parent.name) == "stored", "it is stored")
    with document.open("ab") as file:
        file.write(b", page 2")
    at_work.world.world(hold_validation=None)
    receipt, error = receipt_of(at_work, patient), error_of(at_work, patient)
    assert (receipt["size_bytes"], receipt["sha256"]) == (6, sha256(b"page 1"))
    (remark,) = receipt["remarks"]
    assert error["job_id"] in remark
    assert (error["code"], error["state"]) == ("file_changed", "failed")
    assert error["message"] == "The file changed after it was sent: 6 bytes have arrived, and now it has 14."
    delivered, failed = (at_work.data / name / "north_clinic" / patient for name in ("delivered", "failed"))
    assert [path.name for path in delivered.iterdir()] == ["held.txt.receipt.json"]
    wait_until(lambda: (failed / "held.txt").exists(), "the changed file lies in failed/")
    assert (failed / "held.txt").read_bytes() == b"page 1, page 2"
    shown = json.loads(at_work.command("show", receipt["job_id"], "--json").stdout)
    assert shown["receipt"]["remarks"] == [remark]
    # A person who wants the whole document in the chart puts it back.
    (failed / "held.txt").rename(at_work.data / "inbox" / "north_clinic" / patient / "held.txt")
    both = [sha256(b"page 1"), sha256(b"page 1, page 2")]
    wait_until(lambda: len(at_work.chart(patient_id=patient)) == 2, "it is sent as a document of its own")
    assert sorted(record["sha256"] for record in at_work.chart(patient_id=patient)) == sorted(both)
