"""A storage of sources that does not answer is named where an operator looks, although no job is open yet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from celery import Celery

from config.load import load
from tasks.runtime import Runtime
from tasks.sources.base import StorageAway

SETTINGS = """\
data_dir = "{folder}/data"
secret_key = "a secret key of some length"
s3_buckets = ["scans"]
s3.endpoint_url = "http://127.0.0.1:{port}"

[redis]
url = "{url}"

[accounts.north_clinic]
provider = "pracsuite"
api_key = "k"
vendor_api_key = "v"
base_url = "https://api.example.org"
"""


@pytest.fixture
def runtime(tmp_path: Path, valkey_url: str, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "k")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        config = tmp_path / "chartpost.toml"
        config.write_text(SETTINGS.format(folder=tmp_path, url=valkey_url, port=closed.getsockname()[1]))
        celery = Celery(broker=valkey_url, backend=valkey_url, set_as_current=False)
        yield Runtime(load(config, {}), celery=celery)


def test_a_bucket_that_does_not_answer_is_said_of_the_account_whose_calls_wait(runtime: Runtime) -> None:
    fields = {"account": "north_clinic", "patient_id": "4711", "source": "s3://scans/a.pdf"}
    assert runtime.account_statuses.health("north_clinic").reason == ""
    with pytest.raises(StorageAway):
        runtime.admission.open_call(str(uuid4()), fields, runtime.producers.at_queue("chartpost"))
    health = runtime.account_statuses.health("north_clinic")
    assert health.status == "ok", "its other documents go on"
    assert "wait for their sources" in health.reason
    assert "storage" in health.reason
