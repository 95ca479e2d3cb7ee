"""Folders that files may come from, and a real S3 server with a bucket that objects may come from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.sources.files import Files
from tasks.sources.objects import Objects
from tests.harness.sandbox import SandboxProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "sources"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def files(root: Path) -> Files:
    return Files([root])


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """The address of an S3 server; its keys are in the environment, where boto3 looks for them."""
    sandbox = SandboxProcess()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in re.findall(r"^# (AWS_\w+)=(.*)$", sandbox.toml, re.MULTILINE):
            environment.setenv(name, value)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield sandbox.settings["s3"]["endpoint_url"]
    sandbox.stop()


@pytest.fixture
def objects(engine: str) -> Objects:
    return Objects([BUCKET, "not-made"], engine)


@pytest.fixture
def s3(objects: Objects) -> S3Client:
    return objects.client()
