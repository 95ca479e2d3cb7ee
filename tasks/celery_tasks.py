"""The Celery tasks. Five run one step of one job each; `chartpost.upload` and `.relabel` open a job for a caller.

Our own messages carry a job's id and nothing else. Any of them may be lost, late or doubled: the ledger decides.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NoReturn

import structlog
from celery.exceptions import Ignore, Reject

from config.redaction import crash_site
from tasks.app import app
from tasks.intake.calls import OpenJob
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.redis import REDIS_ERRORS
from tasks.model.errors import RetryLater
from tasks.model.route import Step
from tasks.private_args import PrivateArgsTask
from tasks.runtime import current

log = structlog.get_logger()


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.presign")
def presign(self: PrivateArgsTask, job_id: str) -> None:
    _run_step(self, Step.PRESIGN, job_id)


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.post")
def post(self: PrivateArgsTask, job_id: str) -> None:
    _run_step(self, Step.POST, job_id)


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.register")
def register(self: PrivateArgsTask, job_id: str) -> None:
    _run_step(self, Step.REGISTER, job_id)


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.confirm")
def confirm(self: PrivateArgsTask, job_id: str) -> None:
    _run_step(self, Step.CONFIRM, job_id)


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.notify")
def notify(self: PrivateArgsTask, job_id: str) -> None:
    """Close a job: receipt or error file, file move, result, event, callback."""
    try:
        current().closing.run(job_id)
    except LedgerRefused:
        return  # the feeder says why, and ends this worker
    except REDIS_ERRORS as error:
        log.warning("redis_unreachable", job=job_id, step=Step.NOTIFY, error=type(error).__name__)
    except Exception as error:  # noqa: BLE001, outermost; the words of an error may name the patient
        log.error("closing_crashed", job=job_id, **crash_site(error))


# Acknowledged late, unlike the steps: until the ledger has the job, this message is all there is of it.
@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.upload", acks_late=True)
def upload(self: PrivateArgsTask, *args: Any, **fields: Any) -> None:
    """Deliver a document for another service. The public contract names the keyword arguments.

    The task's id becomes the job's id. The task's result is stored when the job ends.
    """
    _open_job(self, args, fields, lambda job_id, fields: current().admission.open_call(job_id, fields))


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.relabel", acks_late=True)
def relabel(self: PrivateArgsTask, *args: Any, **fields: Any) -> None:
    """Replace the security labels of a document for another service, otherwise as `upload`."""
    _open_job(self, args, fields, lambda job_id, fields: current().relabel_admission.open_call(job_id, fields))


def _run_step(task: PrivateArgsTask, step: Step, job_id: str) -> None:
    try:
        result = current().step_runner.run(step, job_id)
        for finished in result.finished:
            current().send_closing(finished)
    except LedgerRefused:
        _end_chain(task)  # the feeder says why, and ends this worker
    except REDIS_ERRORS as error:
        # The lease runs out and a feeder sends the step again: only time is lost.
        log.warning("redis_unreachable", job=job_id, step=step, error=type(error).__name__)
        _end_chain(task)
    if not result.forward:
        _end_chain(task)


def _end_chain(task: PrivateArgsTask) -> NoReturn:
    """End without the next task of the chain, because the step has not moved the job forward."""
    # Flower shows the task as a success: a deferral or a duplicate is not a failure. Celery sends no event for Ignore.
    with suppress(*REDIS_ERRORS):
        task.send_event("task-succeeded", retry=False, result="", runtime=0)
    raise Ignore


def _open_job(task: PrivateArgsTask, args: tuple[Any, ...], fields: dict[str, Any], open_job: OpenJob) -> None:
    runtime, task_id = current(), str(task.request.id)
    try:
        runtime.call_intake.take(task_id, args, fields, open_job)
    except (*REDIS_ERRORS, RetryLater, LedgerRefused) as error:
        log.warning("call_put_back", job=task_id, error=type(error).__name__)
        # A pause, so that a call that cannot be opened now does not go round and round.
        runtime.stopping.wait(1.0)
        raise Reject(requeue=True) from None
    # Nothing that the caller has linked to the call may run now: its job has only begun. Ignore would prevent it too,
    # and costs a traceback that is never read, a quarter of the time that opening a call takes.
    task.request.update(chain=None, callbacks=None, chord=None)
