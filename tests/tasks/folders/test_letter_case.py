"""On a disk that does not tell capitals from small letters, a document cannot overwrite our own files beside it.

Such a disk keeps `JOB.JSON` and `job.json` as one file. So no two names in a job's folder may be equal once folded.
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from tasks.folders.job_folder import JOB_FILE, OURS, JobFolder
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tests.harness.keys import SEAL
from tests.tasks.folders.documents import ACCOUNT, PATIENT, claim, drop, files_in, receipt


def document_path(folder: Path, name: str) -> Path:
    return JobFolder(folder, Folders(folder).open_folder).document_path(name)


NAMED_AS_OURS = ["job.json", "JOB.JSON", "Job.json", f"{OURS}lock", f"{OURS}draft".upper(), f"{OURS}Sidecar"]


@pytest.mark.parametrize("name", NAMED_AS_OURS)
def test_a_document_that_is_called_as_our_own_file_gets_another_name_in_our_care(tmp_path: Path, name: str) -> None:
    path = document_path(tmp_path, name)
    assert path.parent == tmp_path
    assert path.name.casefold() != JOB_FILE
    assert not path.name.casefold().startswith(OURS)


@pytest.mark.parametrize("name", ["Referral.PDF", "job.json.pdf", "my job.json", "chartpost-lock"])
def test_any_other_document_keeps_its_name(tmp_path: Path, name: str) -> None:
    assert document_path(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", ["job.json", "JOB.JSON", "Job.json"])
def test_both_files_are_kept_from_the_claim_to_the_delivery(tmp_path: Path, name: str) -> None:
    folders, job = Folders(tmp_path, SEAL), str(uuid4())
    folders.create()
    held = claim(folders, drop(folders, name, b"a document"), job)
    assert held.read_bytes() == b"a document"
    assert folders.read_job_file(job).disk_name == name
    assert folders.document(job) == held
    folded = [path.name.casefold() for path in held.parent.iterdir()]
    assert len(set(folded)) == len(folded)
    Outcomes(folders).deliver(job, ACCOUNT, PATIENT, receipt(job, name))
    assert files_in(folders.delivered / ACCOUNT / PATIENT)[name] == b"a document"
