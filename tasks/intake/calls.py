"""A call of another service, as Celery hands it over: it becomes an open job, or its caller learns why not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import structlog

from config.redaction import crash_site
from tasks.closing.results import Results
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.redis import REDIS_ERRORS, REDIS_OUTAGES
from tasks.model.errors import Code, DocumentRefused, RetryLater, invalid_request

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
            except REDIS_OUTAGES as error:
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
            self._results.refused(task_id, refusal.code, refusal.message)
            log.warning("call_refused", job=task_id, code=refusal.code, reason=refusal.message)
        except (*REDIS_ERRORS, RetryLater, LedgerRefused):
            raise
        except Exception as error:  # noqa: BLE001, outermost: the caller must hear of it, without the error's words
            log.error("call_crashed", job=task_id, **crash_site(error))
            message = "The call could not be opened; the log names the place."
            self._results.refused(task_id, Code.INVALID_REQUEST, message)


def is_uuid(text: str) -> bool:
    """True if a task's id can be a job's id."""
    try:
        # UUID() also accepts braces and "urn:uuid:"; as job ids these would name one job in several ways.
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
