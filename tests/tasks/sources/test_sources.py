from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from config.roots import BucketRoot, FileRoot
from config.settings import Settings
from tasks.model.errors import Code, DocumentRefused
from tasks.sources.sources import Sources
from tests.tasks.sources.addresses import file_address


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    roots = [FileRoot(path=tmp_path / "scans"), FileRoot(path=tmp_path / "spool", delete=True)]
    return Sources.of(Settings(data_dir=tmp_path / "data"), roots, [BucketRoot(name="bucket")])


def written(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize("name", ["secret_key", "processing/4711/a.pdf", "delivered/north/4711/a.pdf"])
def test_nothing_is_taken_from_our_own_folder(tmp_path: Path, sources: Sources, name: str) -> None:
    address = file_address(written(tmp_path / "data" / name))
    for act in (sources.locate, sources.check_removable, lambda address: sources.remove(address, "1:1:1")):
        with pytest.raises(DocumentRefused) as refused:
            act(address)
        assert refused.value.code is Code.SOURCE_NOT_ALLOWED


def test_files_are_taken_from_each_root_and_removed_where_the_root_allows_it(tmp_path: Path, sources: Sources) -> None:
    address = file_address(written(tmp_path / "scans" / "a.pdf"))
    identity = sources.locate(address).identity
    for act in (sources.check_removable, lambda address: sources.remove(address, identity)):
        with pytest.raises(DocumentRefused, match="not removed after delivery") as refused:
            act(address)
        assert refused.value.code is Code.SOURCE_NOT_ALLOWED
    path = written(tmp_path / "spool" / "a.pdf")
    sources.check_removable(file_address(path))
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
