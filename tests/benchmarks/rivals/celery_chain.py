"""An ordinary Celery chain: presign, post, then poll by retry until the record is there.

It promises nothing: a worker that is killed loses its tasks, and a lost answer sends a document twice.

    CHAIN_REDIS=redis://… CHAIN_ACCOUNT='{"base_url": …}' celery -A tests.benchmarks.rivals.celery_chain worker
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import redis
from celery import Celery, chain, signals

DELIVERED = "chain:delivered"
_POLL_SECONDS = 1.0

app = Celery("celery_chain", broker=os.environ.get("CHAIN_REDIS", "redis://"), set_as_current=False)
app.conf.update(
    task_default_queue="chain",
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
)


class Process:
    """What a worker process keeps: its connections to the API, to storage and to Redis."""

    def __init__(self) -> None:
        account = json.loads(os.environ["CHAIN_ACCOUNT"])
        keys = {"x-api-key": account["vendor_api_key"], "a-api-key": account["api_key"]}
        self.api = httpx.Client(base_url=account["base_url"], headers=keys, trust_env=False, timeout=30)
        self.storage = httpx.Client(trust_env=False, timeout=120)
        self.redis = redis.Redis.from_url(os.environ["CHAIN_REDIS"])


process: Process


@signals.worker_process_init.connect
def connect(**_: Any) -> None:
    global process
    process = Process()


@app.task(autoretry_for=(httpx.HTTPError,), retry_backoff=True, max_retries=5)
def presign(patient_id: str, path: str, file_name: str) -> dict[str, Any]:
    answer = process.api.post(f"/patient/{patient_id}/patient_attachment", json={"file_name": file_name})
    answer.raise_for_status()
    return {"patient_id": patient_id, "path": path, "file_name": file_name, "form": answer.json()}


@app.task(autoretry_for=(httpx.HTTPError,), retry_backoff=True, max_retries=5)
def post(sent: dict[str, Any]) -> dict[str, Any]:
    form, path = sent["form"], Path(sent["path"])
    with path.open("rb") as file:
        answer = process.storage.post(form["url"], data=form["fields"], files={"file": (sent["file_name"], file)})
    answer.raise_for_status()
    return {"patient_id": sent["patient_id"], "size_bytes": path.stat().st_size}


@app.task(bind=True, max_retries=None)
def poll(self: Any, stored: dict[str, Any]) -> None:
    answer = process.api.get(f"/patient/{stored['patient_id']}/patient_attachment")
    answer.raise_for_status()
    if not any(record["file_size"] == stored["size_bytes"] for record in answer.json()["attachment_clients"]):
        raise self.retry(countdown=_POLL_SECONDS)
    process.redis.incr(DELIVERED)


def send(patient_id: str, path: str, file_name: str) -> None:
    chain(presign.s(patient_id, path, file_name), post.s(), poll.s()).apply_async()
