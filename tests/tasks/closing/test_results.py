"""A success that a caller was told stays, whatever a slower worker still has to say."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import uuid4

import pytest
import redis
from celery import Celery

from tasks.closing.results import DocumentFailed, Results
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.errors import Code
from tasks.model.job import Failure, Record
from tasks.model.route import Stage
from tests.tasks.ledger.test_moves import JOB


def test_an_outcome_reads_as_celerys_own_and_a_success_stays(valkey: redis.Redis, valkey_url: str) -> None:
    app = Celery(broker=valkey_url, backend=valkey_url, set_as_current=False)
    results, task_id = Results(app, Ledger(valkey, Seal("s"), lease_seconds=30, jobs_days=30)), str(uuid4())
    failed = replace(JOB, stage=Stage.FAILED, failure=Failure(Code.GAVE_UP, "Too long."))
    delivered = replace(JOB, stage=Stage.DELIVERED, facts=replace(JOB.facts, record=Record("9")))
    results.outcome(task_id, failed)
    with pytest.raises(DocumentFailed, match="gave_up"):
        app.AsyncResult(task_id).get(timeout=10)
    results.outcome(task_id, delivered)
    assert app.AsyncResult(task_id).get(timeout=10)["record"]["id"] == "9"
    results.outcome(task_id, failed)
    assert app.AsyncResult(task_id).state == "SUCCESS"
    ours, theirs = valkey.get(f"celery-task-meta-{task_id}"), str(uuid4())
    app.backend.store_result(theirs, {}, "SUCCESS")
    stored = valkey.get(f"celery-task-meta-{theirs}")
    assert isinstance(ours, str)
    assert isinstance(stored, str)
    assert json.loads(ours).keys() == json.loads(stored).keys()
