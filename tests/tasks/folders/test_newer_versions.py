"""What a newer version has written is refused with a sentence, and left as it is for that version to go on with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from config.version import own_version
from tasks.folders.claims import Claims, Damaged
from tasks.folders.commit_log import CommitLog
from tasks.folders.job_json import SCHEMA, JobFile, JobFileDamaged, JobFileTooNew
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.model.document import Door
from tasks.model.errors import RetryLater
from tasks.model.job import Facts, Job, Record
from tests.tasks.folders.documents import ACCOUNT, JOB, PATIENT, claim, drop, error, job_file, receipt
from tests.tasks.providers.doubles import job as made_job

SENTENCE = (
    f"job.json was written by chartpost 7.1.0 (schema {SCHEMA + 1}); this is chartpost {own_version()}, which knows "
    f"schemas up to {SCHEMA}. Start chartpost 7.1.0 or a later one here. This one has changed nothing."
)


def of_a_newer_version(folders: Folders) -> bytes:
    """The job.json in our care becomes one of a newer version. Returns what it says."""
    path = folders.processing / JOB / "job.json"
    written = json.loads(path.read_bytes()) | {"version": SCHEMA + 1, "written_by": "7.1.0", "new": "means something"}
    path.write_text(json.dumps(written))
    return path.read_bytes()


def everything(folders: Folders) -> dict[Path, bytes]:
    """Every file but our locks."""
    data = folders.processing.parent.parent
    return {path: path.read_bytes() for path in data.rglob("*") if path.is_file() and not path.name.endswith("lock")}


def its_job(path: Path) -> Job:
    made = made_job()
    return replace(made, id=JOB, document=replace(made.document, door=Door.INBOX, source=path.as_uri()))


def test_a_file_says_which_version_wrote_it(folders: Folders) -> None:
    claimed = claim(folders, drop(folders))
    assert json.loads((claimed.parent / "job.json").read_bytes())["written_by"] == own_version()


@pytest.mark.parametrize(
    ("writer", "name", "start"),
    [
        ("7.1.0", "chartpost 7.1.0", "chartpost 7.1.0"),
        (None, "a newer chartpost", "that one"),
        ("a sentence\nof a stranger", "a newer chartpost", "that one"),
        (own_version(), "a newer chartpost", "that one"),  # a checkout between two releases
    ],
)
def test_the_sentence_names_the_version_to_start(tmp_path: Path, writer: object, name: str, start: str) -> None:
    (tmp_path / "a.pdf").write_bytes(b"")
    written = {**job_file(tmp_path / "a.pdf").to_json(), "version": SCHEMA + 1, "written_by": writer}
    with pytest.raises(JobFileTooNew) as refused:
        JobFile.from_json(written)
    assert f"written by {name} (" in str(refused.value)
    assert f"Start {start} or a later one" in str(refused.value)


@pytest.mark.parametrize("number", ["2", 0, True, None, 1.5])
def test_a_number_that_no_version_writes_is_damage(tmp_path: Path, number: object) -> None:
    (tmp_path / "a.pdf").write_bytes(b"")
    written = {**job_file(tmp_path / "a.pdf").to_json(), "version": number}
    if number is True:  # as Python compares
        JobFile.from_json(written)
        return
    with pytest.raises(JobFileDamaged, match="version"):
        JobFile.from_json(written)


def test_an_orphan_is_reported_with_the_sentence_and_stays(folders: Folders) -> None:
    claim(folders, drop(folders))
    of_a_newer_version(folders)
    before = everything(folders)
    claims = Claims(folders)
    assert list(claims.orphans(lambda _: False)) == [Damaged(JOB, SENTENCE, is_too_new=True)]
    assert claims.finish_claims() == []
    assert everything(folders) == before


def test_a_job_in_its_care_waits_without_an_end_and_nothing_of_it_is_sent(folders: Folders) -> None:
    job = its_job(claim(folders, drop(folders)))
    of_a_newer_version(folders)
    before, commit_log = everything(folders), CommitLog(folders, None)
    for act in (
        lambda: commit_log.committed_on_disk(job),
        lambda: commit_log.record_on_disk(job),
        lambda: commit_log.note_commit(job, Facts()),
        lambda: commit_log.note_record(job, Record("9")),
    ):
        with pytest.raises(RetryLater) as later:
            act()
        assert str(later.value) == SENTENCE
        assert later.value.after_seconds, "such a wait costs nothing of its budget"
    assert everything(folders) == before


def test_no_outcome_is_filed_without_what_it_says(folders: Folders) -> None:
    claim(folders, drop(folders))
    of_a_newer_version(folders)
    before, outcomes = everything(folders), Outcomes(folders)
    with pytest.raises(JobFileTooNew, match=r"chartpost 7\.1\.0"):
        outcomes.deliver(JOB, ACCOUNT, PATIENT, receipt())
    with pytest.raises(JobFileTooNew, match=r"chartpost 7\.1\.0"):
        outcomes.fail(JOB, ACCOUNT, PATIENT, error())
    assert everything(folders) == before


def test_a_failed_document_whose_error_file_is_of_a_newer_version_stays_in_failed(folders: Folders) -> None:
    claim(folders, drop(folders))
    content = {**error(), "job_file": json.loads(of_a_newer_version(folders))}
    (folders.processing / JOB / "job.json").write_bytes(b"{}")
    Outcomes(folders).fail(JOB, ACCOUNT, PATIENT, content)  # signed, as that version signs it
    before, claims = everything(folders), Claims(folders)
    with pytest.raises(JobFileTooNew, match=r"chartpost 7\.1\.0"):
        claims.reopen_failed(JOB, ACCOUNT, PATIENT)
    assert everything(folders) == before
    again = drop(folders)
    with pytest.raises(JobFileTooNew, match=r"chartpost 7\.1\.0"):
        claims.claim(again, JOB, job_file(again), continues=True)
    again.unlink()
    assert everything(folders) == before
