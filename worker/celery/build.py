"""The only place where this room's services are built from a process's collaborators."""

from __future__ import annotations

import redis

from tasks.runtime import Runtime
from worker.celery.backlog import BacklogHelper
from worker.celery.metrics import DiskCollector, LedgerCollector, MetricsEndpoint


def backlog_helper(runtime: Runtime) -> BacklogHelper:
    # A second client, which does not decode: messages come from other programs, and need not be UTF-8.
    queue_client = redis.Redis.from_url(
        runtime.redis_url, socket_timeout=10, socket_connect_timeout=5, client_name="chartpost"
    )
    return BacklogHelper(runtime.redis, queue_client, runtime.admission, runtime.stopping)


def metrics_endpoint(runtime: Runtime) -> MetricsEndpoint:
    ledger = LedgerCollector(runtime.redis, runtime.account_statuses, runtime.workers)
    return MetricsEndpoint([ledger, DiskCollector(runtime.settings.data_dir)], runtime.redis)
