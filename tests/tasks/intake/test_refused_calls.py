"""A refusal is told under the call's id, and never under the id of a job: on a real Valkey."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery

from config.load import load
from tasks.model.document import Document, Door
from tasks.model.errors import Code
from tasks.runtime import Runtime

SETTINGS = """
data_dir = "{folder}/data"
secret_key = "a secret for tests"
[redis]
url = "{url}"
[accounts.north_clinic]
provider = "pracsuite"
base_url = "http://127.0.0.1:1/v1"
insecure = true
vendor_api_key = "v"
api_key = "a"
"""


@pytest.fixture
def runtime(tmp_path: Path, valkey_url: str, valkey: redis.Redis) -> Runtime:
    config = tmp_path / "chartpost.toml"
    config.write_text(SETTINGS.format(folder=tmp_path, url=valkey_url))
    settings = load(config, {})
    celery = Celery(broker=valkey_url, backend=valkey_url, set_as_current=False)
    return Runtime(settings, celery=celery)


DOCUMENT = Document("north_clinic", "4711", "file:///scan.pdf", "scan.pdf", 3, Door.CELERY)


def shown(runtime: Runtime, task_id: str) -> tuple[str, Any]:
    result = runtime.celery.AsyncResult(task_id)
    return str(result.state), result.result


def test_a_refused_call_is_told_so_and_its_result_ends_with_the_others(runtime: Runtime) -> None:
    task_id = str(uuid4())
    assert runtime.call_intake.refuse(task_id, Code.INVALID_REQUEST, "It is wrong.")
    state, error = shown(runtime, task_id)
    assert (state, type(error).__name__) == ("FAILURE", "DocumentFailed")
    assert error.args == ("invalid_request", "It is wrong.")
    assert runtime.redis.ttl(f"celery-task-meta-{task_id}") > 0


def test_nothing_is_told_under_the_id_of_a_job_or_of_one_that_stands_for_it(runtime: Runtime) -> None:
    job_id, alias = str(uuid4()), str(uuid4())
    runtime.admission.open_document(job_id, DOCUMENT)
    runtime.ledger.adopt_alias(alias, job_id)
    for task_id in (job_id, alias):
        assert not runtime.call_intake.refuse(task_id, Code.INVALID_REQUEST, "It is wrong.")
        assert shown(runtime, task_id)[0] == "PENDING"


def test_a_call_under_the_id_of_a_job_and_a_known_key_does_not_take_that_id(runtime: Runtime) -> None:
    victim, other = str(uuid4()), str(uuid4())
    keyed = replace(DOCUMENT, idempotency_key="k", patient_id="8")
    runtime.admission.open_document(victim, DOCUMENT)
    runtime.admission.open_document(other, keyed)
    assert runtime.admission.open_document(victim, keyed).job_id == victim
    assert runtime.ledger.aliases(other) == []


def test_a_finished_result_stays(runtime: Runtime) -> None:
    task_id = str(uuid4())
    runtime.celery.backend.store_result(task_id, {"a": 1}, "SUCCESS")
    assert not runtime.call_intake.refuse(task_id, Code.INVALID_REQUEST, "It is wrong.")
    assert shown(runtime, task_id) == ("SUCCESS", {"a": 1})


@pytest.mark.parametrize("task", ["upload", "relabel"])
def test_a_call_for_an_account_that_nobody_knows_opens_no_job_under_that_name(runtime: Runtime, task: str) -> None:
    fields: dict[str, Any] = {"account": "ola_nordmann", "source": "file:///scan.pdf"}
    if task == "relabel":
        fields = {"account": "ola_nordmann", "document_id": "7", "labels": [{"system": "s", "code": "c"}]}
    admission = runtime.admission if task == "upload" else runtime.relabel_admission
    task_id = str(uuid4())
    runtime.call_intake.take(
        task_id, (), fields, lambda job_id, given: admission.open_call(job_id, given, runtime.producers.everybody)
    )
    assert shown(runtime, task_id)[1].args[0] == "unknown_account"
    assert not runtime.ledger.known(task_id)
    assert not runtime.redis.exists("chartpost:accounts")
