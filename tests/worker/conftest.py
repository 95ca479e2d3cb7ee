"""A stream on a real Valkey, and a reader that is not running: each test turns it itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from celery import Celery

from config.load import load
from tasks.runtime import Runtime
from tests.worker.stream.stream import Stream
from worker.stream.build import stream_reader
from worker.stream.reader import StreamReader

LEASE_SECONDS = 1.0

SETTINGS = """
data_dir = "{folder}/data"
secret_key = "a secret for tests"
file_roots = ["{folder}/documents"]
s3_buckets = ["scans"]
[redis]
url = "{url}"
[worker]
lease_seconds = {lease}
[accounts.north_clinic]
provider = "pracsuite"
base_url = "http://127.0.0.1:1/v1"
insecure = true
vendor_api_key = "v"
api_key = "a"
max_bytes = 1000
"""


@pytest.fixture
def config(tmp_path: Path, valkey_url: str) -> Path:
    return write_settings(tmp_path, valkey_url)


@pytest.fixture
def runtime(config: Path, valkey: redis.Redis) -> Runtime:
    settings = load(config, {})
    # An application of its own: ours is one for the whole test run, and stays with the server that it saw first.
    return Runtime(settings, celery=Celery(broker=settings.redis.url, set_as_current=False))


@pytest.fixture
def stream(runtime: Runtime) -> Stream:
    return Stream(runtime)


@pytest.fixture
def reader(runtime: Runtime) -> StreamReader:
    return stream_reader(runtime, block_ms=10)


def write_settings(folder: Path, url: str) -> Path:
    (folder / "documents").mkdir()
    (folder / "documents" / "scan.pdf").write_bytes(b"a scan")
    config = folder / "chartpost.toml"
    config.write_text(SETTINGS.format(folder=folder, url=url, lease=LEASE_SECONDS))
    return config
