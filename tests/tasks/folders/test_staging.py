"""Staged copies, on a real S3 server: what is put there, and what is removed when no job needs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.folders.job_json import SCHEMA, JobFileTooNew
from tasks.folders.staging import Staging
from tasks.sources.objects import Objects, StorageFault
from tests.harness.sandbox import SandboxProcess
from tests.tasks.folders.documents import job_file

HERE, ELSEWHERE = "this machine", "another machine"
ANY_AGE = timedelta(seconds=-60)


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    with SandboxProcess() as sandbox, pytest.MonkeyPatch.context() as environment:
        for name, value in sandbox.aws_environment.items():
            environment.setenv(name, value)
        yield sandbox.settings["s3"]["endpoint_url"]


@pytest.fixture
def objects(engine: str) -> Objects:
    return Objects(["sources", "not-made"], engine)


@pytest.fixture
def staging(objects: Objects) -> Staging:
    return Staging(objects, f"s3://sources/{uuid4()}")


def put(staging: Staging, folder: Path, home: str) -> str:
    job_id = str(uuid4())
    path = folder / "scan.pdf"
    path.write_bytes(b"a scan")
    staging.put(job_file(path, job_id), path, home)
    return job_id


def names(staging: Staging, objects: Objects) -> set[str]:
    return {address.rsplit("/", 2)[1] for address, _ in objects.list(staging._prefix + "/")}


def test_only_what_this_machine_staged_and_no_job_needs_is_removed(
    staging: Staging, objects: Objects, tmp_path: Path
) -> None:
    needed, foreign = put(staging, tmp_path, HERE), put(staging, tmp_path, ELSEWHERE)
    gone = {put(staging, tmp_path, HERE) for _ in range(3)}
    assert staging.sweep(HERE, lambda job_id: job_id == needed, older_than=ANY_AGE) == len(gone)
    assert names(staging, objects) == {needed, foreign}


def test_what_a_newer_version_has_staged_stays(staging: Staging, objects: Objects, tmp_path: Path) -> None:
    job_id = put(staging, tmp_path, HERE)
    address = staging._address(job_id, "job.json")
    newer = json.loads(objects.read(address)) | {"version": SCHEMA + 1, "written_by": "7.1.0"}
    objects.write(address, json.dumps(newer).encode())
    with pytest.raises(JobFileTooNew, match=r"chartpost 7\.1\.0"):
        staging.change_job_file(job_id, lambda job_file: job_file.with_commit(stands=True))
    assert staging.sweep(HERE, lambda _: False, older_than=ANY_AGE) == 0
    assert json.loads(objects.read(address)) == newer


def test_what_was_staged_a_moment_ago_stays(staging: Staging, objects: Objects, tmp_path: Path) -> None:
    young = put(staging, tmp_path, HERE)
    assert staging.sweep(HERE, lambda _: False, older_than=timedelta(hours=1)) == 0
    assert names(staging, objects) == {young}


def test_what_names_no_machine_stays(staging: Staging, objects: Objects) -> None:
    objects.write(f"{staging._prefix}/notes/readme", b"a person's")
    assert staging.sweep(HERE, lambda _: False, older_than=ANY_AGE) == 0
    assert names(staging, objects) == {"notes"}


def test_a_probe_leaves_nothing_behind(staging: Staging, objects: Objects) -> None:
    staging.probe()
    assert list(objects.list(staging._prefix)) == []


def test_a_bucket_that_is_not_there_is_a_fault_of_the_storage(objects: Objects, tmp_path: Path) -> None:
    staging = Staging(objects, "s3://not-made/staged")
    with pytest.raises(StorageFault, match="the bucket is not there"):
        put(staging, tmp_path, HERE)
    with pytest.raises(StorageFault, match="no object can be written there, since the bucket is not there"):
        staging.probe()


def test_a_storage_that_does_not_answer_is_named_so(engine: str, tmp_path: Path) -> None:
    staging = Staging(Objects(["sources"], "http://127.0.0.1:9"), "s3://sources/staged")
    with pytest.raises(StorageFault, match="it does not answer"):
        put(staging, tmp_path, HERE)
