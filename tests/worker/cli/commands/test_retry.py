"""`retry` sends failed documents again; one that may have arrived is searched for first."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks.folders.job_json import SCHEMA
from tasks.ledger import moves
from tasks.model.document import Label, Relabeling
from tasks.model.errors import Code
from tasks.model.job import Job
from tasks.model.route import Stage, Step
from tests.harness.rights import modes_count
from tests.tasks.folders.documents import files_in, opened
from tests.worker.cli.conftest import CommandLine, lines
from tests.worker.cli.jobs import Jobs
from worker.cli.commands.retry.command import retries_of
from worker.cli.commands.retry.failed_documents import NotRetried
from worker.cli.commands.retry.targets import Target


def test_a_failed_document_begins_again_under_its_id(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.received())
    (row,) = chartpost.rows("retry", job.id)
    assert (row["id"], row["code"], row["outcome"]) == (job.id, "refused_by_provider", "is sent again")
    again = jobs.get(job.id)
    assert (again.stage, again.step, again.failure) == (Stage.RECEIVED, Step.PRESIGN, None)


def test_a_senders_file_is_taken_as_it_is_now(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.received())
    (jobs.runtime.settings.file_roots[0].path / "scan.pdf").write_bytes(b"corrected since")
    chartpost.rows("retry", job.id)
    document = jobs.get(job.id).document
    assert document.size_bytes == 15
    with jobs.runtime.documents.open(job.id, document) as source:
        assert source.read(100) == b"corrected since"


def test_a_senders_file_that_has_gone_is_not_sent(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.received())
    (jobs.runtime.settings.file_roots[0].path / "scan.pdf").unlink()
    result = chartpost("retry", job.id)
    assert result.exit_code == 1
    assert "The file is not there." in result.stdout
    assert jobs.get(job.id).stage is Stage.FAILED


def test_labels_that_nobody_may_set_are_not_sent_by_a_retry(chartpost: CommandLine, jobs: Jobs) -> None:
    """A call without `allow_unblock` is refused, and listed as failed: `retry --all` must not send it all the same."""
    label = Label("urn:oid:2.999", "N")
    refused, allowed = (
        jobs.failed(jobs.received(source="", relabeling=Relabeling("7", (label,), allow_unblock=may)))
        for may in (False, True)
    )
    result = chartpost("retry", "--all", "--even-hopeless", "--json")
    assert result.exit_code == 1
    rows = {row["id"]: row["outcome"] for row in lines(result)}
    assert "leave out NORS" in rows[refused.id]
    assert rows[allowed.id] == "is sent again"
    assert jobs.get(refused.id).stage is Stage.FAILED


def test_an_inbox_document_comes_back_from_failed(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.in_care())
    chartpost.rows("retry", job.id)
    document = jobs.get(job.id).document
    document_path = jobs.runtime.folders.document(job.id)
    assert document_path is not None
    assert document_path.as_uri() == document.source
    jobs.runtime.documents.open(job.id, document).__exit__()
    assert not list(jobs.runtime.folders.failed.glob("**/*.pdf*"))


def test_a_document_that_was_taken_out_of_failed_is_not_sent(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.in_care())
    next(jobs.runtime.folders.failed.glob("**/*.pdf")).unlink()
    for options in ([], ["--dry-run"]):
        result = chartpost("retry", job.id, *options)
        assert result.exit_code == 1
        assert "put it into the inbox" in result.stdout
    assert jobs.get(job.id).stage is Stage.FAILED


def test_a_document_of_a_newer_version_stays_in_failed_and_the_others_are_sent(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    newer, other = jobs.failed(jobs.in_care()), jobs.failed(jobs.received())
    companions = jobs.runtime.folders.error_files
    (path,) = jobs.runtime.folders.failed.rglob("*.error.json")
    content = opened(path, jobs.runtime.seal)
    content["job_file"] |= {"version": SCHEMA + 1, "written_by": "7.1.0"}
    path.write_text(json.dumps(companions.sign(content, newer.account, newer.document.patient_id)))
    before = files_in(jobs.runtime.folders.failed)
    for options in (["--dry-run"], []):
        result = chartpost("retry", "--all", "--even-hopeless", *options)
        assert result.exit_code == 1
        said = dict(line.split("\t", 1) for line in result.stdout.splitlines())
        assert "Start chartpost 7.1.0 or a later one here." in said[newer.id]
        assert "sent again" in said[other.id]
    assert files_in(jobs.runtime.folders.failed) == before
    assert jobs.get(newer.id).stage is Stage.FAILED


@pytest.mark.parametrize("in_care", [True, False])
def test_a_document_that_may_have_arrived_is_searched_for_first(
    chartpost: CommandLine, jobs: Jobs, in_care: bool
) -> None:
    job = jobs.not_confirmed(jobs.in_care() if in_care else jobs.received())
    (row,) = chartpost.rows("retry", job.id)
    assert row["outcome"] == "is searched for first"
    again = jobs.get(job.id)
    assert (again.stage, again.step, again.uncertainty.committed) == (Stage.PRESIGNED, Step.CONFIRM, True)
    assert again.facts.snapshot == ("1",)


@pytest.mark.parametrize("in_care", [True, False])
def test_a_document_that_may_have_arrived_is_sent_at_once_with_send_again(
    chartpost: CommandLine, jobs: Jobs, in_care: bool
) -> None:
    job = jobs.not_confirmed(jobs.in_care() if in_care else jobs.received())
    chartpost.rows("retry", job.id, "--send-again")
    again = jobs.get(job.id)
    assert (again.stage, again.step, again.uncertainty.committed) == (Stage.RECEIVED, Step.PRESIGN, False)
    assert not jobs.runtime.commit_log.committed_on_disk(again)


def test_a_job_that_has_left_redis_begins_again_from_its_error_file(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.in_care())
    jobs.leave_redis(job)
    (row,) = chartpost.rows("retry", job.id)
    assert (row["account"], row["outcome"]) == ("north_clinic", "is sent again")
    again = jobs.get(job.id)
    assert (again.stage, again.document.patient_id, again.document.file_name) == (Stage.RECEIVED, "4711", "scan.pdf")
    assert jobs.runtime.folders.document(job.id)


def test_a_job_that_has_left_redis_and_may_have_arrived_is_searched_for_first(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    job = jobs.not_confirmed(jobs.in_care())
    jobs.leave_redis(job)
    (row,) = chartpost.rows("retry", job.id)
    again = jobs.get(job.id)
    assert row["outcome"] == "is searched for first"
    assert (again.uncertainty.committed, again.facts.snapshot) == (True, ("1",))


def test_a_job_that_has_left_redis_and_may_have_arrived_is_sent_at_once_with_send_again(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    job = jobs.not_confirmed(jobs.in_care())
    jobs.leave_redis(job)
    chartpost.rows("retry", job.id, "--send-again")
    again = jobs.get(job.id)
    assert (again.stage, again.uncertainty.committed) == (Stage.RECEIVED, False)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"refused.pdf", "empty.pdf", "theirs.pdf", "left.pdf"}),
        (["--code", "file_empty"], {"empty.pdf"}),
        (["--account", "south_clinic"], {"theirs.pdf"}),
        (["--code", "cancelled"], {"cancelled.pdf"}),
        (["--code", "gave_up"], set()),
    ],
)
def test_all_of_a_kind_are_retried(chartpost: CommandLine, jobs: Jobs, options: list[str], expected: set[str]) -> None:
    jobs.leave_redis(jobs.failed(jobs.in_care("left.pdf")))
    names = failed_ones(jobs) | {only_error_file(jobs): "left.pdf"}
    options = ["--even-hopeless", *options]
    dry = chartpost.rows("retry", "--all", "--dry-run", *options)
    assert {names[row["id"]] for row in dry} == expected
    assert all(jobs.ledger.get(job_id) is None or jobs.get(job_id).stage.final for job_id in names)
    done = chartpost.rows("retry", "--all", *options)
    assert {names[row["id"]] for row in done} == expected
    assert all(not jobs.get(row["id"]).stage.final for row in done)


def failed_ones(jobs: Jobs) -> dict[str, str]:
    """One document for each way to fail; their names by job id."""
    jobs.received("on-its-way.pdf")
    cancelled = jobs.received("cancelled.pdf")
    jobs.ledger.take_over(cancelled, moves.cancel(cancelled))
    made = [
        jobs.failed(jobs.received("refused.pdf")),
        jobs.failed(jobs.received("empty.pdf"), Code.FILE_EMPTY),
        jobs.failed(jobs.received("theirs.pdf", account="south_clinic")),
        cancelled,
    ]
    return {job.id: job.document.file_name for job in made}


def only_error_file(jobs: Jobs) -> str:
    (error_file,) = jobs.runtime.outcomes.error_files()
    return str(error_file.content["job_id"])


def test_a_job_that_redis_knows_and_that_has_an_error_file_is_retried_once(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.in_care())
    assert [row["id"] for row in chartpost.rows("retry", "--all", "--even-hopeless")] == [job.id]


def test_all_leaves_out_what_must_fail_again_and_says_why(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.leave_redis(jobs.failed(jobs.in_care("left.pdf"), Code.FILE_EMPTY))
    hopeless = [
        jobs.failed(jobs.received("empty.pdf"), Code.FILE_EMPTY),
        jobs.failed(jobs.in_care("refused.pdf")),
        jobs.failed(jobs.received("refused too.pdf")),
        jobs.failed(jobs.in_care("invalid.pdf"), Code.INVALID_REQUEST),
    ]
    good = jobs.failed(jobs.received("good.pdf"), Code.GAVE_UP)
    dismissed = jobs.failed(jobs.received("dismissed.pdf"), Code.GAVE_UP)
    assert chartpost("dismiss", dismissed.id).exit_code == 0
    for options in (["--dry-run"], []):
        result = chartpost("retry", "--all", *options)
        assert result.exit_code == 0
        assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [good.id]
        assert "2 file_empty, 1 invalid_request, 2 refused_by_provider" in result.stderr
        assert "--even-hopeless" in result.stderr
        assert "dismissed them: 1." in result.stderr
    assert all(jobs.get(job.id).stage is Stage.FAILED for job in (*hopeless, dismissed))
    assert len(chartpost.rows("retry", "--all", "--even-hopeless")) == 6


@pytest.mark.parametrize("corrected", ["size", "content", "sidecar"])
def test_all_sends_what_a_person_has_corrected_in_failed(chartpost: CommandLine, jobs: Jobs, corrected: str) -> None:
    job = jobs.failed(jobs.in_care(), Code.INVALID_REQUEST)
    (document,) = jobs.runtime.folders.failed.rglob("scan.pdf")
    later = time.time() + 5
    if corrected == "sidecar":
        sidecar = document.with_name("scan.pdf.meta.json")
        sidecar.write_text('{"description": "right now"}')
        os.utime(sidecar, (later, later))
    elif corrected == "content":
        document.write_bytes(b"A SCAN")
        os.utime(document, (later, later))
    else:
        document.write_bytes(b"scanned again, and longer")
    (row,) = chartpost.rows("retry", "--all")
    assert (row["id"], row["outcome"]) == (job.id, "is sent again")


def test_all_sends_what_its_sender_has_corrected(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.received(), Code.FILE_EMPTY)
    (jobs.runtime.settings.file_roots[0].path / "scan.pdf").write_bytes(b"no longer empty")
    assert [row["id"] for row in chartpost.rows("retry", "--all")] == [job.id]


def test_all_sends_a_large_file_once_the_account_takes_more(chartpost: CommandLine, jobs: Jobs) -> None:
    small = jobs.failed(jobs.received("small.pdf"), Code.FILE_TOO_LARGE)
    large = jobs.failed(jobs.received("large.pdf", size_bytes=1001), Code.FILE_TOO_LARGE)
    (jobs.runtime.settings.file_roots[0].path / "large.pdf").write_bytes(b"x" * 1001)
    assert large.document.size_bytes > jobs.runtime.settings.accounts["north_clinic"].max_bytes
    assert [row["id"] for row in chartpost.rows("retry", "--all")] == [small.id]


def test_an_incomplete_file_is_not_hopeless_if_it_is_to_go_as_it_is(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.in_care(), Code.FILE_INCOMPLETE)
    assert chartpost.rows("retry", "--all") == []
    assert [row["id"] for row in chartpost.rows("retry", "--all", "--as-it-is")] == [job.id]


@pytest.mark.parametrize("state", ["received", "stored", "delivered", "unknown"])
def test_what_has_not_failed_is_not_sent(chartpost: CommandLine, jobs: Jobs, state: str) -> None:
    moves = {"received": lambda job: job, "stored": jobs.stored, "delivered": jobs.delivered}
    job_id = moves[state](jobs.received()).id if state in moves else str(uuid4())
    good = jobs.failed(jobs.received("good.pdf"))
    result = chartpost("retry", job_id, good.id, "--json")
    assert result.exit_code == 1
    first, second = lines(result)
    assert first["outcome"].startswith("not sent again: ")
    assert second["outcome"] == "is sent again"


def test_a_job_that_is_still_being_closed_is_not_retried_beside_its_closing(jobs: Jobs) -> None:
    job: Job = jobs.in_care()
    jobs.ledger.take_over(job, moves.cancel(job))
    retries = retries_of(jobs.runtime, closing_seconds=0.1)
    plan = retries.plan(Target(job.id, jobs.get(job.id)), send_again=False)
    with pytest.raises(NotRetried, match="try again in a moment"):
        retries.carry_out(plan)
    assert jobs.get(job.id).stage is Stage.CANCELLED


@pytest.mark.parametrize(
    "wrong", [[], ["x", "--all"], ["x", "--code", "gave_up"], ["x", "--account", "a"], ["x", "--even-hopeless"]]
)
def test_wrong_usage_is_exit_code_2(chartpost: CommandLine, wrong: list[str]) -> None:
    assert chartpost("retry", *wrong).exit_code == 2


def test_nothing_to_retry_is_exit_code_0(chartpost: CommandLine) -> None:
    result = chartpost("retry", "--all")
    assert (result.exit_code, result.stdout) == (0, "")


# --- edited and forged files ---------------------------------------------------------------------------------------


def edit(jobs: Jobs, *, public: dict[str, object] | None = None, **job_file: object) -> Path:
    """Edits the only error file; returns it."""
    (error_file,) = jobs.runtime.folders.failed.rglob("*.error.json")
    content = opened(error_file, jobs.runtime.seal)
    content["job_file"] |= job_file
    error_file.write_text(json.dumps({**content, **(public or {})}))
    return error_file


@pytest.mark.parametrize("name", ["../../../planted.sh", "../../x", "/tmp/x"])
def test_an_edited_error_file_whose_job_has_left_redis_writes_nowhere(
    chartpost: CommandLine, jobs: Jobs, tmp_path: Path, name: str
) -> None:
    jobs.leave_redis(job := jobs.failed(jobs.in_care()))
    edit(jobs, disk_name=name)
    before = files_in(tmp_path)
    result = chartpost("retry", job.id)
    assert result.exit_code == 1
    assert "does not bear this installation's signature" in result.stdout
    assert "move the file back to the inbox" in result.stdout
    assert files_in(tmp_path) == before
    assert jobs.ledger.get(job.id) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"patient_id": "5555"},
        {"account": "south_clinic"},
        {"callback_url": "https://elsewhere.example/"},
        {"public": {"patient_id": "5555"}},
        {"public": {"account": "south_clinic"}},
        {"public": {"code": "file_empty"}},
        {"public": {"record": {"id": "77"}}},
        {"public": {"job_file": "x", "patient_id": 7}},
    ],
)
def test_an_edited_error_file_sends_its_document_to_no_one_else(
    chartpost: CommandLine, jobs: Jobs, changes: dict[str, Any]
) -> None:
    jobs.leave_redis(job := jobs.not_confirmed(jobs.in_care()))
    edit(jobs, **changes)
    for options in ([job.id], [job.id, "--dry-run"], ["--all", "--even-hopeless"], [job.id, "--send-again"]):
        result = chartpost("retry", *options)
        assert "is sent again" not in result.stdout
        assert "searched for first" not in result.stdout
        assert jobs.ledger.get(job.id) is None
    assert [path.name for path in jobs.runtime.folders.failed.rglob("*.pdf")] == ["scan.pdf"]


def test_a_document_that_was_moved_to_another_patients_folder_is_not_sent(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.leave_redis(job := jobs.failed(jobs.in_care()))
    patient = jobs.runtime.folders.failed / "north_clinic" / "4711"
    patient.rename(patient.with_name("5555"))
    result = chartpost("retry", job.id)
    assert result.exit_code == 1
    assert "put it into the inbox instead" in result.stdout
    assert jobs.ledger.get(job.id) is None


@pytest.mark.parametrize("committed", [False, True])
def test_a_job_that_redis_knows_begins_again_by_what_redis_says(
    chartpost: CommandLine, jobs: Jobs, *, committed: bool
) -> None:
    """As with the error files of a version that did not sign them."""
    job = jobs.not_confirmed(jobs.in_care()) if committed else jobs.failed(jobs.in_care())
    edit(jobs, public={"signature": None}, patient_id="5555", account="south_clinic", disk_name="../x", committed=False)
    (row,) = chartpost.rows("retry", job.id)
    assert row["outcome"] == ("is searched for first" if committed else "is sent again")
    again = jobs.get(job.id)
    assert (again.account, again.document.patient_id, again.document.file_name) == ("north_clinic", "4711", "scan.pdf")
    job_file = jobs.runtime.folders.read_job_file(job.id)
    assert (job_file.document.patient_id, job_file.disk_name, job_file.committed) == ("4711", "scan.pdf", committed)
    assert (job_file.commit.snapshot, job_file.document.round) == (("1",) if committed else None, 1)
    assert not list(jobs.runtime.folders.failed.rglob("*.json"))


def test_a_forged_receipt_says_nothing_of_a_job(chartpost: CommandLine, jobs: Jobs) -> None:
    job_id = str(uuid4())
    folder = jobs.runtime.folders.delivered / "north_clinic" / "4711"
    folder.mkdir(parents=True)
    forged = {"job_id": job_id, "account": "north_clinic", "patient_id": "4711", "record": {"id": "77"}, "times": 7}
    (folder / "scan.pdf.receipt.json").write_text(json.dumps(forged))
    result = chartpost("retry", job_id)
    assert result.exit_code == 1
    assert "proves nothing" in result.stdout
    (shown,) = chartpost.rows("show", job_id)
    assert (shown["state"], shown["receipt"]["record"]) == (None, {"id": "77"})
    assert "proves nothing" in shown["next"]


def test_a_genuine_file_is_shown_without_its_signature(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.leave_redis(job := jobs.delivered(jobs.in_care()))
    (shown,) = chartpost.rows("show", job.id)
    assert shown["state"] == "delivered"
    assert "signature" not in shown["receipt"]


def test_a_folder_in_failed_that_may_not_be_read_holds_up_no_other(chartpost: CommandLine, jobs: Jobs) -> None:
    """Its owner may be anybody who may write to failed/."""
    closed, other = jobs.failed(jobs.in_care(account="south_clinic")), jobs.failed(jobs.in_care())
    (jobs.runtime.folders.failed / "south_clinic" / "4711").chmod(0)
    with modes_count():
        result = chartpost("retry", "--all", "--even-hopeless")
    assert result.exit_code == 1
    said = dict(line.split("\t", 1) for line in result.stdout.splitlines())
    assert "cannot be read or written by this user" in said[closed.id]
    assert "is sent again" in said[other.id]
