"""`send` takes in a copy of one file, or says why not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.model.document import Door
from tasks.model.route import Stage
from tasks.runtime import Runtime
from tests.worker.cli.conftest import CommandLine, lines
from tests.worker.cli.jobs import Jobs
from worker.cli.commands.send import send as command

# PracSuite takes neither options nor descriptions.
OVOK = """
[accounts.practice]
provider = "ovok"
base_url = "http://127.0.0.1:1"
insecure = true
email = "chartpost@practice.example"
password = "p"
client_id = "5e505642-9024-474d-9434-e5a44f505cc5"
"""


@pytest.fixture
def config(config: Path) -> Path:
    with config.open("a") as settings:
        settings.write(OVOK)
    return config


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "Meier scan.pdf"
    path.write_bytes(b"a scan")
    return path


def send(chartpost: CommandLine, file: Path, *more: str, account: str = "north_clinic") -> str:
    """The id of the job that was opened."""
    result = chartpost("send", str(file), "--account", account, "--patient", "4711", *more)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_a_file_is_copied_into_our_care_and_its_job_opened(chartpost: CommandLine, jobs: Jobs, scan: Path) -> None:
    job = jobs.get(send(chartpost, scan))
    copy = jobs.runtime.folders.document(job.id)
    assert (job.stage, job.document.door, job.document.file_name) == (Stage.RECEIVED, Door.SEND, "Meier scan.pdf")
    assert copy is not None
    assert copy.as_uri() == job.document.source
    assert copy.read_bytes() == b"a scan"
    assert scan.exists()


def test_patient_and_description_may_come_from_files(
    chartpost: CommandLine, jobs: Jobs, scan: Path, tmp_path: Path
) -> None:
    (tmp_path / "patient").write_text("4712\n")
    result = chartpost(
        *("send", str(scan), "--account", "practice", "--patient", f"@{tmp_path / 'patient'}"),
        *("--description", "@-"),
        stdin="Überweisung\n",
    )
    document = jobs.get(result.stdout.strip()).document
    assert (document.patient_id, document.description) == ("4712", "Überweisung")


def test_options_are_text_or_json(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "patient.json").write_text('{"name": [{"family": "Meier"}]}')
    given = ("--option", "document_id=7", "--option", f"patient=@{tmp_path / 'patient.json'}", "--option", "x=a=b")
    read = command.make_context("send", [str(scan), "--account", "north_clinic", *given]).params["options"]
    assert dict(read) == {"document_id": "7", "patient": {"name": [{"family": "Meier"}]}, "x": "a=b"}


@pytest.mark.parametrize(
    "wrong",
    [
        ["--option", "document_id"],
        ["--option", "patient={"],
        ["--option", "a=1", "--option", "a=2"],
        ["--description", "@/no/such/file"],
        ["--account", "nobody"],
    ],
)
def test_wrong_usage_takes_nothing(chartpost: CommandLine, jobs: Jobs, scan: Path, wrong: list[str]) -> None:
    result = chartpost("send", str(scan), "--account", "north_clinic", "--patient", "4711", *wrong)
    assert result.exit_code == 2, result.output
    assert not jobs.runtime.folders.processing.exists()


@pytest.mark.parametrize(
    ("content", "name", "patient", "code"),
    [
        (b"", "empty.pdf", "4711", "file_empty"),
        (b"x" * 1001, "large.pdf", "4711", "file_too_large"),
        (b"x", "${filename}.pdf", "4711", "invalid_request"),
        (b"x", "scan.pdf", "../4711", "invalid_request"),
    ],
)
def test_what_cannot_be_sent_is_not_even_copied(
    chartpost: CommandLine, jobs: Jobs, tmp_path: Path, content: bytes, name: str, patient: str, code: str
) -> None:
    (tmp_path / name).write_bytes(content)
    command = ("send", str(tmp_path / name), "--account", "north_clinic", "--patient", patient)
    as_text, as_json = chartpost(*command), chartpost(*command, "--json")
    assert (as_text.exit_code, as_json.exit_code) == (1, 1)
    assert code in as_text.stderr
    assert [line["code"] for line in lines(as_json)] == [code]
    assert not jobs.runtime.folders.processing.exists()


def test_no_patient_where_one_is_needed_is_refused(chartpost: CommandLine, scan: Path) -> None:
    result = chartpost("send", str(scan), "--account", "north_clinic")
    assert result.exit_code == 1
    assert "patient_required" in result.stderr


def test_a_pipe_is_refused_without_waiting_for_a_writer(chartpost: CommandLine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pdf")
    result = chartpost("send", str(tmp_path / "pipe.pdf"), "--account", "north_clinic", "--patient", "4711")
    assert result.exit_code == 1
    assert "not_a_regular_file" in result.stderr


def test_a_file_that_is_not_there_is_wrong_usage(chartpost: CommandLine, tmp_path: Path) -> None:
    assert chartpost("send", str(tmp_path / "none.pdf"), "--account", "north_clinic").exit_code == 2


def test_a_file_name_that_is_not_utf_8_comes_into_no_chart(
    chartpost: CommandLine, runtime: Runtime, tmp_path: Path
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/scan\xff.pdf"))
    path.write_bytes(b"a scan")
    result = chartpost("send", str(path), "--account", "north_clinic")
    assert result.exit_code == 1
    assert "not in UTF-8" in result.output
    assert not runtime.folders.job_ids()


def test_the_document_of_an_open_outcome_continues_its_job(chartpost: CommandLine, jobs: Jobs, scan: Path) -> None:
    earlier = jobs.get(send(chartpost, scan))
    jobs.not_confirmed(earlier)
    assert send(chartpost, scan) == earlier.id
    again = jobs.get(earlier.id)
    assert (again.stage, again.uncertainty.committed) == (Stage.PRESIGNED, True)
    assert [path.name for path in jobs.runtime.folders.processing.iterdir()] == [earlier.id]
    assert not list(jobs.runtime.folders.failed.glob("**/*.pdf*"))


def test_a_replacement_of_open_outcome_is_continued_only_by_the_same_replacement(
    chartpost: CommandLine, jobs: Jobs, scan: Path
) -> None:
    into = ("--option", "document_id=d-1")

    def sent(file: Path, *more: str) -> str:
        return send(chartpost, file, *more, account="practice")

    earlier = jobs.get(sent(scan, *into))
    jobs.not_confirmed(earlier)
    assert sent(scan) != earlier.id, "it is to become a document of its own"
    assert sent(scan, "--option", "document_id=d-2") != earlier.id
    renamed = scan.with_name("renamed.pdf")
    renamed.write_bytes(scan.read_bytes())
    assert sent(renamed, *into) != earlier.id
    assert sent(scan, *into) == earlier.id


def test_a_source_that_continues_an_earlier_job_is_removed_only_if_its_own_sender_asks_for_it(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    earlier = jobs.not_confirmed(jobs.received(delete_source=True))
    located = jobs.runtime.producers.everybody.sources.locate(earlier.document.source)
    again = replace(earlier.document, delete_source=False, identity=located.identity)
    assert jobs.runtime.admission.open_document(str(uuid4()), again).job_id == earlier.id
    assert not jobs.get(earlier.id).document.delete_source
