"""The field lists and names in the contract are those that the code writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kombu import Queue

from config.celery import celery_settings
from config.producers import Producer
from config.settings import Settings
from sandbox.faults.state import ACTIONS, PLAIN
from tasks.accounts.status import AccountStatus
from tasks.app import app
from tasks.closing.receipts import error_file, event_of, fields_of, public_receipt, receipt
from tasks.intake.requests import RelabelRequest, Request, RequestedLabel
from tasks.ledger.keys import PREFIX
from tasks.model.document import Document, Label, Relabeling
from tasks.model.errors import Code
from tasks.model.job import Facts, Failure, Job, Record, Statement, Stored
from tasks.model.route import Stage, Step
from tasks.providers.base import ChartRecord
from tests.docs.pages import first_column, page
from worker.cli.commands.check.name import check_name
from worker.inbox.sidecar import Sidecar

CONTRACT = page("docs/contract.md")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_job(**changes: Any) -> Job:
    """A job with everything that a receipt or an error file may tell."""
    job = Job(
        id="7d2f3c5e-0000-4000-8000-000000000000",
        provider="pracsuite",
        stage=Stage.DELIVERED,
        step=Step.NONE,
        document=Document("north_clinic", "4711", "file:///a.pdf", "a.pdf", 1),
        facts=Facts(
            stored=Stored("key", "etag", True, "", ""),
            record=Record("1"),
            remarks=("A remark.",),
            resolution=Statement("Anna", NOW, "seen"),
        ),
        created_at=NOW,
        updated_at=NOW,
        duplicate_of="x",
        resolved_by_human=True,
    )
    return replace(job, **changes)


def paths(values: Mapping[str, Any], above: str = "") -> set[str]:
    """Every field, those of inner objects as `outer.inner`."""
    found = set()
    for name, value in values.items():
        found |= paths(value, f"{above}{name}.") if isinstance(value, Mapping) else {above + name}
    return found


A_RELABELING = Document("hospital", None, "", "", 0, relabeling=Relabeling("d", (Label("system", "code", "display"),)))
A_FAILURE = Failure(Code.REFUSED_BY_PROVIDER, "It is refused.", "Correct it.", "words")
AN_ERROR = paths(error_file(a_job(stage=Stage.FAILED, failure=A_FAILURE, dismissal=Statement("Anna", NOW, "faxed"))))
A_RECEIPT = paths(receipt(a_job(document=A_RELABELING)))


def test_receipts_have_the_fields_of_the_contract() -> None:
    assert first_column(CONTRACT.section("Receipt")) == A_RECEIPT | {"signature"}


def test_error_files_have_the_fields_of_the_contract() -> None:
    assert first_column(CONTRACT.section("Error file")) == AN_ERROR | {"job_file", "signature"}


def test_what_celery_callers_get_lacks_what_the_contract_says() -> None:
    got = paths(public_receipt(a_job()))
    missing = paths(receipt(a_job())) - got
    assert first_column(CONTRACT.section("What a result leaves out")) == missing


def test_a_job_as_json_has_the_fields_of_the_contract() -> None:
    assert first_column(CONTRACT.section("A job as JSON")) == set(fields_of(a_job()))


def test_an_account_as_json_has_the_fields_of_the_contract() -> None:
    state = AccountStatus("north_clinic", "pracsuite", "ok", None, 0, 0, None, None)
    assert first_column(CONTRACT.section("An account as JSON")) == set(state.fields())


def test_a_check_as_json_has_the_fields_of_the_contract(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHARTPOST_")}
    command = [sys.executable, "-m", "worker", "check", "--json"]
    run = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert run.returncode == 1, "a folder without settings is not well"
    for line in run.stdout.splitlines():
        assert set(json.loads(line)) == first_column(CONTRACT.section("A check as JSON"))


def test_a_reading_as_json_has_the_fields_of_the_contract() -> None:
    (row,) = check_name("4711_letter.pdf", {"north_clinic": ["{patient_id}_{name}"]})
    assert first_column(CONTRACT.section("A reading as JSON")) == set(row)


def test_a_record_as_json_has_the_fields_of_the_contract() -> None:
    assert first_column(CONTRACT.section("A record as JSON")) == set(ChartRecord(id="1").fields())


def test_events_have_the_fields_of_the_contract() -> None:
    assert first_column(CONTRACT.section("Events")) == set(event_of(a_job()))


@pytest.mark.parametrize(
    ("heading", "model"),
    [("Sidecar", Sidecar), ("`chartpost.upload`", Request)],
    ids=["sidecar", "upload"],
)
def test_what_callers_may_say_is_what_the_contract_lists(heading: str, model: type[Sidecar] | type[Request]) -> None:
    assert first_column(CONTRACT.section(heading)) == set(model.model_fields)


def test_what_a_relabeling_may_say_is_what_the_contract_lists() -> None:
    labels = {f"labels.{name}" for name in RequestedLabel.model_fields}
    assert first_column(CONTRACT.section("`chartpost.relabel`")) == set(RelabelRequest.model_fields) | labels


def test_the_states_of_a_job_are_those_of_the_contract() -> None:
    assert first_column(CONTRACT.section("States")) == {str(stage) for stage in Stage}


def test_the_tasks_and_queues_are_those_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARTPOST_SECRET_KEY", "a secret key")  # else one would be made in ./data
    app.loader.import_default_modules()
    queues = celery_settings("redis://localhost", Settings(producers={"lab": Producer()}))["task_queues"]
    assert isinstance(queues, list)
    names = {queue.name.replace(".lab", ".<producer>") for queue in queues if isinstance(queue, Queue)}
    tasks = {name for name in app.tasks if name.startswith("chartpost.")}
    assert first_column(CONTRACT.section("Tasks and queues")) == tasks | names


def test_the_prefix_of_the_keys_is_that_of_the_contract() -> None:
    assert f"`{PREFIX}`" in CONTRACT.section("Redis keys")


def test_the_sandbox_page_has_every_switch_of_the_world() -> None:
    assert first_column(page("sandbox/README.md").section("Its own pages")) >= {*ACTIONS, *PLAIN}
