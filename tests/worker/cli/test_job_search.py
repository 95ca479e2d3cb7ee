"""Jobs are found by the beginning of an id, by a file of ours, and by a file's name; in doubt nothing is done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.folders.layout import Folders
from tasks.model.document import Document
from tasks.model.job import Job
from tasks.model.route import Stage
from tests.worker.cli.conftest import CommandLine
from tests.worker.cli.jobs import CONTENT, Jobs

ALIKE = ("abcdef12-0000-4000-8000-000000000001", "abcdef12-0000-4000-8000-000000000002")


def two_alike(jobs: Jobs) -> list[Job]:
    """Two jobs whose ids begin alike, as happens to one in millions."""
    document = jobs.received("scan.pdf").document
    for number, job_id in enumerate(ALIKE):
        jobs.ledger.open(job_id, replace(document, file_name=f"{number}.pdf"), "pracsuite")
    return [jobs.get(job_id) for job_id in ALIKE]


def shown(chartpost: CommandLine, name: str) -> str:
    (row,) = chartpost.rows("show", name)
    return str(row["id"])


@pytest.mark.parametrize("length", [6, 8, 13, 35])
def test_the_beginning_of_an_id_finds_its_job(chartpost: CommandLine, jobs: Jobs, length: int) -> None:
    job = jobs.received()
    assert shown(chartpost, job.id[:length].upper()) == job.id


def test_less_than_six_characters_are_no_id(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.received()
    assert chartpost("show", job.id[:5]).exit_code == 1


def test_a_short_id_of_several_jobs_lists_them_and_nothing_is_done(chartpost: CommandLine, jobs: Jobs) -> None:
    two_alike(jobs)
    for command in (["show"], ["cancel"], ["retry"], ["resolve", "--delivered"]):
        refused = chartpost(command[0], "abcdef", *command[1:])
        assert refused.exit_code == 2
        assert all(job_id in refused.stderr for job_id in ALIKE)
    assert {jobs.get(job_id).stage for job_id in ALIKE} == {Stage.RECEIVED}


def test_if_one_of_several_names_is_ambiguous_no_job_is_cancelled(chartpost: CommandLine, jobs: Jobs) -> None:
    two_alike(jobs)
    other = jobs.received("other.pdf")
    assert chartpost("cancel", other.id, "abcdef").exit_code == 2
    assert jobs.get(other.id).stage is Stage.RECEIVED
    assert chartpost("cancel", other.id[:8], ALIKE[0]).exit_code == 0
    assert jobs.get(other.id).stage is Stage.CANCELLED


def test_a_short_id_that_an_error_file_of_a_job_that_has_left_has_too_changes_nothing(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    gone = jobs.failed(jobs.in_care())
    jobs.leave_redis(gone)
    alike = f"{gone.id[:8]}{str(uuid4())[8:]}"
    jobs.ledger.open(alike, jobs.received("other.pdf").document, "pracsuite")
    assert shown(chartpost, gone.id[:8]) == alike  # of both, the one that is still there
    for command in (["cancel"], ["retry"], ["resolve", "--delivered"]):
        refused = chartpost(command[0], gone.id[:8], *command[1:])
        assert refused.exit_code == 2
        assert gone.id in refused.stderr
    assert jobs.get(alike).stage is Stage.RECEIVED


@pytest.mark.parametrize("ending", ["failed", "delivered"])
def test_a_job_that_has_left_redis_is_found_by_the_beginning_of_its_id(
    chartpost: CommandLine, jobs: Jobs, ending: str
) -> None:
    job = jobs.in_care()
    jobs.leave_redis(jobs.failed(job) if ending == "failed" else jobs.delivered(job))
    (row,) = chartpost.rows("show", job.id[:6])
    assert (row["id"], row["state"]) == (job.id, ending)


@pytest.mark.parametrize("left", [False, True], ids=["in redis", "left redis"])
@pytest.mark.parametrize("file", ["scan.pdf", "scan.pdf.error.json"])
def test_a_document_and_its_error_file_find_their_job(
    chartpost: CommandLine, jobs: Jobs, file: str, left: bool
) -> None:
    job = jobs.failed(jobs.in_care())
    if left:
        jobs.leave_redis(job)
    path = jobs.runtime.settings.data_dir / "failed" / "north_clinic" / "4711" / file
    assert path.exists()
    assert shown(chartpost, str(path)) == job.id
    retried = chartpost.rows("retry", "--dry-run", str(path))
    assert [(row["id"], row["outcome"]) for row in retried] == [(job.id, "would be sent again")]


def test_a_receipt_is_found_by_its_name_in_the_current_folder_and_by_way_of_a_linked_folder(
    chartpost: CommandLine, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = jobs.delivered(jobs.in_care())
    folder = jobs.runtime.settings.data_dir / "delivered" / "north_clinic" / "4711"
    monkeypatch.chdir(folder)
    assert shown(chartpost, "scan.pdf.receipt.json") == job.id
    (tmp_path / "share").symlink_to(jobs.runtime.settings.data_dir / "delivered")
    assert shown(chartpost, str(tmp_path / "share" / "north_clinic" / "4711" / "scan.pdf")) == job.id


def test_a_document_in_our_care_finds_its_job_and_so_does_its_place_in_the_inbox(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    job = jobs.in_care("letter.pdf")
    jobs.in_care("other.pdf")
    folders = Folders(jobs.runtime.settings.data_dir)
    assert shown(chartpost, str(folders.document(job.id))) == job.id
    assert shown(chartpost, str(folders.inbox / "north_clinic" / "4711" / "letter.pdf")) == job.id
    assert chartpost("show", str(folders.inbox / "north_clinic" / "4712" / "letters.pdf")).exit_code == 1


def test_a_file_that_is_still_in_the_inbox_has_no_job(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.in_care("letter.pdf")
    path = jobs.runtime.settings.data_dir / "inbox" / "north_clinic" / "4711" / "letter.pdf"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    refused = chartpost("show", str(path))
    assert refused.exit_code == 1
    assert "chartpost check" in refused.stderr


def test_a_file_elsewhere_is_not_guessed_at(chartpost: CommandLine, jobs: Jobs, tmp_path: Path) -> None:
    jobs.received("scan.pdf")
    refused = chartpost("show", str(tmp_path / "documents" / "scan.pdf"))
    assert refused.exit_code == 1
    assert "Its name alone" in refused.stderr


def test_a_files_name_finds_the_newest_of_its_jobs_and_names_the_others(chartpost: CommandLine, jobs: Jobs) -> None:
    gone = jobs.failed(jobs.in_care())
    jobs.leave_redis(gone)
    older, other = jobs.received(patient_id="1"), jobs.received("other.pdf")
    newer = jobs.received(patient_id="2")
    found = chartpost("show", "scan.pdf", "--json")
    assert json.loads(found.stdout)["id"] == newer.id
    assert [line.split()[0] for line in found.stderr.splitlines()[1:]] == [older.id, gone.id]
    assert other.id not in found.output
    for command in (["cancel"], ["retry"], ["resolve", "--delivered"]):
        assert chartpost(command[0], "scan.pdf", *command[1:]).exit_code == 2
    assert {jobs.get(job.id).stage for job in (older, newer)} == {Stage.RECEIVED}
    assert chartpost("cancel", "other.pdf").exit_code == 0
    assert jobs.get(other.id).stage is Stage.CANCELLED


def test_an_error_file_that_was_edited_may_name_any_job_and_changes_none(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.failed(jobs.in_care())
    other = jobs.received("other.pdf")
    path = jobs.runtime.settings.data_dir / "failed" / "north_clinic" / "4711" / "scan.pdf.error.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"job_id": other.id}))
    refused = chartpost("cancel", str(path))
    assert refused.exit_code == 1
    assert other.id in refused.stderr
    assert jobs.get(other.id).stage is Stage.RECEIVED


def test_resolve_and_show_take_the_name_of_an_error_file(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.not_confirmed(jobs.in_care())
    path = jobs.runtime.settings.data_dir / "failed" / "north_clinic" / "4711" / "scan.pdf.error.json"
    assert chartpost("resolve", str(path), "--delivered").exit_code == 0
    assert jobs.get(job.id).stage is Stage.DELIVERED


def test_a_document_without_a_patient_is_found_by_its_place_in_the_inbox(chartpost: CommandLine, jobs: Jobs) -> None:
    document = Document("south_clinic", None, "file:///elsewhere/letter.pdf", "letter.pdf", 6)
    job_id = str(uuid4())
    jobs.ledger.open(job_id, document, "pracsuite")
    assert shown(chartpost, str(jobs.runtime.settings.data_dir / "inbox" / "south_clinic" / "letter.pdf")) == job_id
