"""The Celery tasks, thin: each runs one step of one job; `chartpost.upload` and `.relabel` open one for
another service.

Messages of ours carry a job's id and nothing else, and any of them may be lost, late or doubled: the ledger decides.
A step that made no forward move raises `Ignore`, so that its chain neither runs on nor forks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn
from uuid import UUID

import structlog
from celery.exceptions import Ignore, Reject

from config.redaction import crash_site
from tasks.app import app
from tasks.ledger.redis import REDIS_ERRORS, REDIS_OUTAGES
from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.model.route import Step
from tasks.private_args import PrivateArgsTask
from tasks.runtime import Runtime, current

log = structlog.get_logger()

Opens = Callable[[Runtime], Callable[[str, dict[str, Any]], object]]
"""Gives what opens the job of a call, under the task's id."""


def _run(task: PrivateArgsTask, step: Step, job_id: str) -> None:
    try:
        result = current().step_runner.run(step, job_id)
        for finished in result.finished:
            current().send_closing(finished)
    except REDIS_ERRORS as error:
        # The lease runs out and a feeder sends the step again: nothing is lost but time.
        log.warning("redis_unreachable", job=job_id, step=step, error=type(error).__name__)
        _end(task)
    if not result.forward:
        _end(task)


def _end(task: PrivateArgsTask) -> NoReturn:
    """End without running the chain on; shown as a success, since a deferral or a duplicate is no fault."""
    with suppress(*REDIS_ERRORS):  # nobody may be there to be told
        task.send_event("task-succeeded", retry=False, result="", runtime=0)
    raise Ignore


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.presign")
def presign(self: PrivateArgsTask, job_id: str) -> None:
    _run(self, Step.PRESIGN, job_id)


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.post")
def post(self: PrivateArgsTask, job_id: str) -> None:
    _run(self, Step.POST, job_id)


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.register")
def register(self: PrivateArgsTask, job_id: str) -> None:
    _run(self, Step.REGISTER, job_id)


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.confirm")
def confirm(self: PrivateArgsTask, job_id: str) -> None:
    _run(self, Step.CONFIRM, job_id)


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.notify")
def notify(self: PrivateArgsTask, job_id: str) -> None:
    """Close a job: receipt or error file, file move, result, event, callback."""
    try:
        current().closing.run(job_id)
    except REDIS_ERRORS as error:
        log.warning("redis_unreachable", job=job_id, step=Step.NOTIFY, error=type(error).__name__)
    except Exception as error:  # noqa: BLE001, outermost; the words of an error may name the patient
        log.error("closing_crashed", job=job_id, **crash_site(error))


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.upload", acks_late=True)
def upload(self: PrivateArgsTask, *args: Any, **fields: Any) -> None:
    """Deliver a document for another service; INTERFACE names the keyword arguments.

    The task's id is the job's. Its result is stored when the job ends, and nothing that was linked to it runs.
    """
    _enter(self, lambda runtime: runtime.admission.open_call, args, fields)


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.relabel", acks_late=True)
def relabel(self: PrivateArgsTask, *args: Any, **fields: Any) -> None:
    """Replace the security labels of a document for another service; INTERFACE names the keyword arguments."""
    _enter(self, lambda runtime: runtime.relabel_admission.open_call, args, fields)


def _enter(task: PrivateArgsTask, opens: Opens, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
    """Open a call's job, and end; or put the message back."""
    runtime, task_id = current(), str(task.request.id)
    try:
        _wait_for_redis(runtime, task_id, lambda: _take_call(runtime, task_id, opens, args, fields))
    except (*REDIS_ERRORS, RetryLater) as error:
        # The message is all there is of the job so far: it goes back to the queue, a little later.
        log.warning("call_put_back", job=task_id, error=type(error).__name__)
        runtime.stopping.wait(1.0)
        raise Reject(requeue=True) from None
    # Nothing that the caller has linked runs now. Ignore would do that too, with a traceback that nobody reads: a
    # quarter of what opening a call cost.
    task.request.update(chain=None, callbacks=None, chord=None)


def _take_call(runtime: Runtime, task_id: str, opens: Opens, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
    """Open the call's job, or let its caller know why not. May be repeated. Raises REDIS_ERRORS and RetryLater."""
    try:
        if args:
            raise DocumentRefused(Code.INVALID_REQUEST, "The fields must be keyword arguments.")
        if not is_uuid(task_id):
            raise DocumentRefused(Code.INVALID_REQUEST, "The task id must be a UUID: it becomes the job's id.")
        opens(runtime)(task_id, fields)
    except DocumentRefused as refused:
        runtime.results.refused(task_id, refused.code, refused.message)
        log.warning("call_refused", job=task_id, code=refused.code, reason=refused.message)
    except (*REDIS_ERRORS, RetryLater):
        raise
    except Exception as error:  # noqa: BLE001, outermost: the caller must hear of it, without the error's words
        log.error("call_crashed", job=task_id, **crash_site(error))
        runtime.results.refused(task_id, Code.INVALID_REQUEST, "The call could not be opened; the log names the place.")


def _wait_for_redis(runtime: Runtime, task_id: str, act: Callable[[], None]) -> None:
    """Repeat `act` until Redis is there: it cannot take the message back now, and would keep it for minutes."""
    waits = False
    while True:
        try:
            act()
            return
        except REDIS_OUTAGES as error:
            if not waits:
                log.warning("call_waits_for_redis", job=task_id, error=type(error).__name__)
            waits = True
            if runtime.stopping.wait(1.0):
                raise


def is_uuid(text: str) -> bool:
    """Whether a task's id can be a job's."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
