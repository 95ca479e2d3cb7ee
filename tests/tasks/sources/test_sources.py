from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import Settings
from tasks.model.errors import Code, DocumentRefused
from tasks.sources.sources import Sources
from tests.tasks.sources.addresses import file_address


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources.of(Settings(data_dir=tmp_path / "data", file_roots=(tmp_path / "scans",), s3_buckets=("bucket",)))


@pytest.mark.parametrize("folder", ["data", "scans"])
def test_files_are_taken_from_our_own_folder_and_from_the_roots(tmp_path: Path, sources: Sources, folder: str) -> None:
    path = tmp_path / folder / "a.pdf"
    path.parent.mkdir()
    path.write_bytes(b"x")
    located = sources.locate(file_address(path))
    with sources.open(file_address(path), located.identity) as source:
        assert source.read(10) == b"x"
    assert sources.remove(file_address(path), located.identity)


@pytest.mark.parametrize("source", ["", "file", "/etc/passwd", "http://a/b", "ftp://a", "://", "s3:bucket/key"])
def test_other_addresses_are_invalid_requests(sources: Sources, source: str) -> None:
    with pytest.raises(DocumentRefused) as refused:
        sources.locate(source)
    assert refused.value.code is Code.INVALID_REQUEST


@pytest.mark.parametrize(
    ("source", "code"), [("S3://other/key", Code.SOURCE_NOT_ALLOWED), ("FILE:///etc/passwd", Code.SOURCE_NOT_ALLOWED)]
)
def test_schemes_may_be_written_in_capitals(sources: Sources, source: str, code: Code) -> None:
    with pytest.raises(DocumentRefused) as refused:
        sources.locate(source)
    assert refused.value.code is code


def test_boto3_is_loaded_only_when_an_object_is_read() -> None:
    code = "import sys, tasks.sources.sources; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
