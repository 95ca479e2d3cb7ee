"""On a disk that does not tell capitals from small letters, names that differ in nothing else overwrite nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.folders.claims import Claims
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tests.folding_fs import NoFoldingDisk, folding_disk
from tests.tasks.folders.documents import ACCOUNT, PATIENT, claim, drop, error, files_in, job_file, receipt, said


@pytest.fixture(params=["the whole data folder", "delivered and failed"])
def folding(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folders]:
    data = tmp_path / "data"
    folded = [data] if request.param == "the whole data folder" else [data / "delivered", data / "failed"]
    with ExitStack() as mounted:
        for folder in folded:
            folder.mkdir(parents=True)
            try:
                mounted.enter_context(folding_disk(folder))
            except NoFoldingDisk as why:
                pytest.skip(f"a disk that folds case needs /dev/fuse and the right to mount: {why}")
        folders = Folders(data)
        folders.create()
        yield folders


def test_the_disk_of_these_tests_folds_case(folding: Folders) -> None:
    (folding.delivered / "Scan.pdf").write_bytes(b"one")
    assert (folding.delivered / "SCAN.PDF").read_bytes() == b"one"
    assert [path.name for path in folding.delivered.iterdir()] == ["Scan.pdf"]


def test_delivered_documents_whose_names_differ_in_case_lie_side_by_side_each_with_its_receipt(
    folding: Folders,
) -> None:
    jobs = {name: str(uuid4()) for name in ("Scan.pdf", "scan.PDF", "SCAN.pdf")}
    for name, job in jobs.items():
        claim(folding, drop(folding, name, name.encode()), job)
        place = Outcomes(folding).deliver(job, ACCOUNT, PATIENT, receipt(job, name))
        assert Outcomes(folding).deliver(job, ACCOUNT, PATIENT, receipt(job, name)) == place, "again changes nothing"
    assert_each_beside_its_own(folding.delivered, jobs, ".receipt.json")


def test_failed_documents_whose_names_differ_in_case_keep_their_error_files_and_sidecars(folding: Folders) -> None:
    jobs = {name: str(uuid4()) for name in ("Scan.pdf", "scan.PDF", "SCAN.pdf")}
    for name, job in jobs.items():
        path, sidecar = drop(folding, name, name.encode()), drop(folding, name + ".meta.json", job.encode())
        Claims(folding).claim(path, job, job_file(path, job), sidecar=sidecar)
        Outcomes(folding).fail(job, ACCOUNT, PATIENT, error(job, name))
    assert_each_beside_its_own(folding.failed, jobs, ".error.json")
    sidecars = [path.read_text() for path in (folding.failed / ACCOUNT / PATIENT).glob("*.meta.json")]
    assert sorted(sidecars) == sorted(jobs.values())


def test_a_failed_document_is_reopened_under_its_own_name_beside_one_that_differs_in_case(folding: Folders) -> None:
    jobs = {name: str(uuid4()) for name in ("Scan.pdf", "scan.PDF")}
    for name, job in jobs.items():
        claim(folding, drop(folding, name, name.encode()), job)
        Outcomes(folding).fail(job, ACCOUNT, PATIENT, error(job, name))
    held = Claims(folding).reopen_failed(jobs["scan.PDF"], ACCOUNT, PATIENT)
    assert (held.document.name, held.document.read_bytes()) == ("scan.PDF", b"scan.PDF")
    assert_each_beside_its_own(folding.failed, {"Scan.pdf": jobs["Scan.pdf"]}, ".error.json")


@pytest.mark.parametrize("name", ["JOB.JSON", "Job.json", "job.json"])
def test_a_document_that_is_called_like_our_own_file_does_not_overwrite_it(folding: Folders, name: str) -> None:
    job = str(uuid4())
    held = claim(folding, drop(folding, name, b"a document"), job)
    assert held.read_bytes() == b"a document"
    assert folding.read_job_file(job).disk_name == name
    assert folding.document(job) == held
    Outcomes(folding).deliver(job, ACCOUNT, PATIENT, receipt(job, name))
    assert files_in(folding.delivered / ACCOUNT / PATIENT)[name] == b"a document"


def assert_each_beside_its_own(root: Path, jobs: dict[str, str], ending: str) -> None:
    """Every document lies beside a companion of its own job, with its own bytes."""
    folder = root / ACCOUNT / PATIENT
    companions = {said(path)["job_id"]: path for path in folder.iterdir() if path.name.endswith(ending)}
    documents = {companions[job].name.removesuffix(ending): name for name, job in jobs.items()}
    assert {name: (folder / name).read_text() for name in documents} == documents
    assert len({name.casefold() for name in documents}) == len(jobs)
