"""While nobody watches, nothing is read for the events of tasks."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import uuid4

import pytest
import redis
from celery import Celery

from tasks.ledger import keys
from worker.celery.task_events import AccountNamingDispatcher


@pytest.mark.parametrize(("groups", "reads"), [(["worker"], 0), (["worker", "task"], 1), ([], 1)])
def test_the_account_is_read_only_for_events_that_are_sent(
    valkey_url: str, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch, groups: list[str], reads: int
) -> None:
    job_id = str(uuid4())
    valkey.hset(keys.job(job_id), "account", "north_clinic")
    monkeypatch.setattr("worker.celery.task_events.current", lambda: SimpleNamespace(redis=valkey))
    app = Celery(broker=valkey_url, set_as_current=False)
    with app.connection_for_write() as connection:
        dispatcher = AccountNamingDispatcher(connection, app=app, groups=groups)
        valkey.config_resetstat()
        dispatcher.send("task-received", uuid=str(uuid4()), name="chartpost.presign", args=job_id, kwargs="{…}")
    assert valkey.info("commandstats").get("cmdstat_hget", {}).get("calls", 0) == reads
