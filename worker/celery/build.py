"""The only place where this room's services are built from a process's collaborators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.celery import entry_queues
from tasks.ledger.redis import connect
from tasks.model.errors import Code
from tasks.model.job_id import is_uuid
from tasks.runtime import Runtime
from worker.celery.backlog import BacklogHelper
from worker.celery.queue_messages import Unfit, is_stage_queue

if TYPE_CHECKING:  # they are for workers, and the intake imports this module too
    from worker.celery.kombu_guard import KeepDead
    from worker.celery.metrics import MetricsEndpoint


def backlog_helper(runtime: Runtime) -> BacklogHelper:
    # A second client, which does not decode: messages come from other programs, and need not be UTF-8.
    queue_client = connect(runtime.redis_url, decode_responses=False)
    return BacklogHelper(
        runtime.redis,
        queue_client,
        entry_queues(runtime.settings.producers),
        runtime.producers,
        runtime.admission,
        runtime.stopping,
    )


def metrics_endpoint(runtime: Runtime) -> MetricsEndpoint:
    from worker.celery.metrics import DiskCollector, LedgerCollector, MetricsEndpoint  # late: prometheus_client

    ledger = LedgerCollector(runtime.redis, runtime.account_statuses, runtime.workers, list(runtime.producers.names()))
    return MetricsEndpoint([ledger, DiskCollector(runtime.settings.data_dir)], runtime.redis)


def dead_letter_keeper(runtime: Runtime) -> KeepDead:
    def keep(raw: bytes, queue: str, unfit: Unfit) -> None:
        # Before the message is kept: after an outage of Redis in between, both are done again.
        if unfit.task_id and not is_stage_queue(queue):
            told = runtime.call_intake.refuse(unfit.task_id, Code.INVALID_REQUEST, unfit.reason)
            if unfit.code == "redelivered" and not told:
                return  # its job is open: nothing is lost with the message
        shown = unfit.task_id if is_uuid(unfit.task_id) else ""
        runtime.dead_letters.add(raw, queue=queue, code=unfit.code, reason=unfit.reason, task_id=shown)

    return keep
