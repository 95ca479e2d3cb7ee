"""job.json as earlier versions have written it is read; and they can read what this one writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.folders.claims import ClaimedDocument, Claims
from tasks.folders.job_json import JobFile, from_bytes, to_bytes
from tasks.folders.layout import Folders
from tasks.ledger.seal import Seal
from tasks.model.document import Door
from tasks.model.route import Step
from tests.harness.earlier import SECRET, VERSIONS, Sample, sample


@pytest.fixture(params=VERSIONS)
def earlier(request: pytest.FixtureRequest) -> Sample:
    return sample(request.param)


@pytest.fixture
def folders(tmp_path: Path, earlier: Sample) -> Folders:
    made = Folders(tmp_path / "data", Seal(SECRET))
    made.create()
    earlier.restore_files(tmp_path / "data")
    return made


def test_each_orphan_is_opened_again_with_what_its_job_file_says(folders: Folders, earlier: Sample) -> None:
    found = {orphan.job_id: orphan for orphan in Claims(folders).orphans(lambda _: False)}
    in_care = ("received", "committed", "unknown", "sent_again", "stored", "blocked")
    assert set(found) == {earlier.jobs[name] for name in in_care}
    for name in in_care:
        orphan = found[earlier.jobs[name]]
        assert isinstance(orphan, ClaimedDocument)
        assert (orphan.path.name, orphan.job_file.document.door) == (f"{name}.pdf", Door.INBOX)
        assert orphan.job_file.committed is (name not in ("received", "blocked"))
    committed = found[earlier.jobs["committed"]]
    assert isinstance(committed, ClaimedDocument)
    job_file = committed.job_file
    assert (job_file.commit.step, job_file.commit.snapshot, job_file.commit.key) == (
        Step.POST,
        ("1", "2"),
        "temp/4711/committed.pdf",
    )


def test_an_error_file_tells_what_was_sent_before(folders: Folders, earlier: Sample) -> None:
    """That of a version that did not sign is looked at by people, and believed by nobody."""
    failed = folders.error_files.find(earlier.jobs["held"], "north_clinic", "4711")
    assert failed is not None
    assert failed.believed is ("signature" in failed.content)
    assert JobFile.from_json(failed.content["job_file"]).committed


def test_an_earlier_version_finds_every_field_that_it_wrote_itself(earlier: Sample) -> None:
    before = earlier.job_file("committed")
    job_file = JobFile.from_json(before)
    after = json.loads(to_bytes(job_file.to_json()))
    gone = {"sent_at"}  # told nothing any more, and had a default
    assert before.keys() - after.keys() <= gone
    known = {name: value for name, value in after.items() if name in before}
    moment = {"received_at", "unknown_since"}  # which pydantic writes in another way
    assert {name for name in known if known[name] != before[name]} <= moment
    assert JobFile.from_json(from_bytes(to_bytes(known))) == job_file
