"""What a Celery caller's AsyncResult shows: the stage while the job runs, the receipt or DocumentFailed at the end.

Celery keeps results in the clear, so nothing here names patient, file or storage key.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery import Celery, states
from redis.exceptions import RedisError

from tasks.closing.receipts import public_receipt
from tasks.ledger.ledger import Ledger
from tasks.model.document import Door
from tasks.model.errors import Code
from tasks.model.job import Job
from tasks.model.route import Stage

log = structlog.get_logger()


class DocumentFailed(Exception):
    """Raised at a Celery caller whose document failed; `args` are `(code, message)`."""


class Results:
    def __init__(self, app: Celery, ledger: Ledger) -> None:
        self._app = app
        self._ledger = ledger

    def progress(self, job: Job, stage: Stage) -> None:
        """Show a stage while the job runs."""
        if job.document.door is not Door.CELERY:
            return
        try:
            self._store(job.id, {"stage": str(stage)}, stage.upper())
        except (RedisError, OSError) as error:
            # Not worth a retry: the next stage, or the outcome, replaces it anyway.
            log.info("progress_not_shown", job=job.id, error=type(error).__name__)

    def final(self, job: Job) -> None:
        """Show the outcome to the caller, and to every later call that asked for the same. May be repeated."""
        called = [job.id] if job.document.door is Door.CELERY else []
        for task_id in called + self._ledger.aliases(job.id):
            self.outcome(task_id, job)

    def outcome(self, task_id: str, job: Job) -> None:
        if job.stage is Stage.DELIVERED:
            self._store(task_id, public_receipt(job), states.SUCCESS)
        elif job.failure:
            # Its message alone: the provider's words, in `detail`, may name the patient.
            self.refused(task_id, job.failure.code, job.failure.message)

    def refused(self, task_id: str, code: Code, message: str) -> None:
        self._store(task_id, DocumentFailed(str(code), message), states.FAILURE)

    def _store(self, task_id: str, result: Any, state: str) -> None:
        self._app.backend.store_result(task_id, result, state)
