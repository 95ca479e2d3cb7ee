"""How often a provider that validates for seconds is called for a document, and how soon its record is noticed."""

from __future__ import annotations

import random
import time
from pathlib import Path
from statistics import median

import redis

from tasks.ledger.keys import PREFIX
from tests.benchmarks import rig
from tests.benchmarks.documents import Document, small_documents
from tests.benchmarks.options import Options
from tests.benchmarks.progress import say
from tests.benchmarks.rig import Product
from tests.benchmarks.table import Row, percentile
from tests.harness.sandbox import SandboxProcess

_VALIDATION = (2.0, 6.0)
_DOCUMENTS = 200
_LEARNING = 40  # documents from which chartpost learns how long this provider takes
_PAUSE_SECONDS = 0.1  # between two documents: a busy hour, not a flood


def measure(options: Options, folder: Path) -> list[Row]:
    chance = random.Random(options.seed)
    count = (options.documents or (_DOCUMENTS,))[0]
    with SandboxProcess("--providers", "pracsuite") as world, rig.product(folder, world) as product:
        documents = rig.documents_of(folder)
        with small_documents(documents, min(_LEARNING, count), _VALIDATION, chance) as learning:
            say(f"calls: {len(learning)} documents to learn from")
            product.wait_for(send(product, learning))
        world.forget_requests()
        with small_documents(documents, count, _VALIDATION, chance) as sent:
            say(f"calls: {len(sent)} documents")
            jobs = send(product, sent)
            product.wait_for(jobs)
        calls = provider_calls(world.requests()["counts"])
        delays = seconds_until_noticed(product.redis, world, sent, jobs)
    return [
        Row("provider calls a document, validation 2-6 s", calls / count, "calls", at_most=2.4),
        Row("from the record to delivered, median", median(delays), "s", at_most=0.7),
        Row("from the record to delivered, 95 %", percentile(delays, 0.95), "s", at_most=2.5),
    ]


def send(product: Product, documents: list[Document]) -> list[str]:
    jobs = []
    for document in documents:
        jobs.append(product.send(document))
        time.sleep(_PAUSE_SECONDS)
    return jobs


def provider_calls(counts: dict[str, int]) -> int:
    """Of the sandbox's counts by "METHOD route status", those of the provider's API; storage is none."""
    return sum(count for call, count in counts.items() if call.split(" ")[1].startswith("/pracsuite/"))


def seconds_until_noticed(
    client: redis.Redis, world: SandboxProcess, documents: list[Document], jobs: list[str]
) -> list[float]:
    """Both times are this machine's: the sandbox's, and that of the move `delivered` in the ledger."""
    appeared = {record["patient_id"]: record["appeared_at"] for record in world.charts()}
    delivered = [int(client.hget(f"{PREFIX}job:{job}", "at_delivered") or 0) / 1000 for job in jobs]
    return [at - appeared[document.patient_id] for at, document in zip(delivered, documents, strict=True)]
