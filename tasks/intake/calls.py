"""A call of another service, as Celery hands it over: it becomes an open job, or its caller learns why not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from config.redaction import crash_site
from tasks.closing.results import Results
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.redis import REDIS_ERRORS, is_outage
from tasks.model.errors import Code, DocumentRefused, RetryLater, invalid_request
from tasks.model.job_id import is_uuid

log = structlog.get_logger()

OpenJob = Callable[[str, Mapping[str, Any]], object]
"""Opens the job of a call under this id, from the call's fields. May be repeated."""

_REDIS_PAUSE_SECONDS = 1.0


class CallIntake:
    """`stopping` is set when the process must end."""

    def __init__(self, results: Results, stopping: threading.Event) -> None:
        self._results = results
        self._stopping = stopping

    def take(self, task_id: str, args: tuple[Any, ...], fields: Mapping[str, Any], open_job: OpenJob) -> None:
        """Open the call's job, or store as its result why not. May be repeated.

        Raises REDIS_ERRORS, RetryLater and LedgerRefused, after which the message must go back to the queue.
        """
        logged = False
        while True:
            try:
                self._open(task_id, args, fields, open_job)
                return
            except REDIS_ERRORS as error:
                if not is_outage(error):
                    raise
                # Wait here: a Redis that is away cannot take the message back, and kombu would keep it for minutes.
                if not logged:
                    log.warning("call_waits_for_redis", job=task_id, error=type(error).__name__)
                logged = True
                if self._stopping.wait(_REDIS_PAUSE_SECONDS):
                    raise

    def _open(self, task_id: str, args: tuple[Any, ...], fields: Mapping[str, Any], open_job: OpenJob) -> None:
        try:
            if args:
                raise invalid_request("The fields must be keyword arguments.")
            if not is_uuid(task_id):
                raise invalid_request("The task id must be a UUID: it becomes the job's id.")
            open_job(task_id, fields)
        except DocumentRefused as refusal:
            self.refuse(task_id, refusal.code, refusal.message)
        except (*REDIS_ERRORS, RetryLater, LedgerRefused):
            raise
        except Exception as error:  # noqa: BLE001, outermost: the caller must hear of it, without the error's words
            log.error("call_crashed", job=task_id, **crash_site(error))
            self.refuse(task_id, Code.INVALID_REQUEST, "The call could not be opened; the log names the place.")

    def refuse(self, task_id: str, code: Code, reason: str) -> bool:
        """Tell the caller why its call was refused. False if this id is a job's: then nothing is said under it.

        Raises Redis's errors.
        """
        told = self._results.refuse_call(task_id, code, reason)
        # An id that is no UUID may be anything, a patient's name too.
        shown = task_id if is_uuid(task_id) else ""
        log.warning("call_refused", job=shown, code=code, reason=reason, **({} if told else {"job_exists": True}))
        return told
