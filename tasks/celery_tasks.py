"""The Celery tasks. Five run one step of one job each; `chartpost.upload` and `.relabel` open a job for a caller.

Our own messages carry a job's id and nothing else. Any of them may be lost, late or doubled: the ledger decides. So
they are acknowledged early, as soon as their task begins. After a kill the job's lease runs out, and a feeder sends the
step again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import structlog
from celery import signals, states
from celery.exceptions import Ignore, Reject

from config.redaction import crash_site
from tasks.app import app, task_name
from tasks.closing.results import DocumentFailed
from tasks.intake.calls import OpenJob
from tasks.intake.producers import Producer
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.lease import Lease
from tasks.ledger.redis import REDIS_ERRORS, is_outage, log_redis_error
from tasks.model.errors import RetryLater
from tasks.model.route import Step
from tasks.pipeline.step import StepResult
from tasks.private_args import PrivateArgsTask
from tasks.runtime import current

log = structlog.get_logger()

WAITS = "not now: the job waits for its next time, or another worker has it"
"""What Flower shows of a step that has not moved its job on."""


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.presign", throws=(DocumentFailed,))
def presign(self: PrivateArgsTask, job_id: str) -> None:
    _run_step(self, Step.PRESIGN, job_id)


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.post", throws=(DocumentFailed,))
def post(self: PrivateArgsTask, job_id: str) -> None:
    _run_step(self, Step.POST, job_id)


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.register", throws=(DocumentFailed,))
def register(self: PrivateArgsTask, job_id: str) -> None:
    _run_step(self, Step.REGISTER, job_id)


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.confirm", throws=(DocumentFailed,))
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
        log_redis_error(error, job=job_id, step=Step.NOTIFY)
    except Exception as error:  # noqa: BLE001, outermost; the words of an error may name the patient
        log.error("closing_crashed", job=job_id, **crash_site(error))


# Acknowledged late, unlike the steps: until the ledger has the job, this message is all there is of it.
@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.upload", acks_late=True)
def upload(self: PrivateArgsTask, /, *args: Any, **fields: Any) -> None:
    """Deliver a document for another service. The public contract names the keyword arguments.

    The task's id becomes the job's id. The task's result is stored when the job ends.
    """
    _open_job(self, args, fields, lambda job_id, fields: current().admission.open_call(job_id, fields, _sender(self)))


@app.task(base=PrivateArgsTask, bind=True, shared=False, name="chartpost.relabel", acks_late=True)
def relabel(self: PrivateArgsTask, /, *args: Any, **fields: Any) -> None:
    """Replace the security labels of a document for another service, otherwise as `upload`."""
    admission = current().relabel_admission
    _open_job(self, args, fields, lambda job_id, fields: admission.open_call(job_id, fields, _sender(self)))


def _sender(task: PrivateArgsTask) -> Producer:
    """The producer of a call, by the queue that it was taken from. Raises DocumentRefused."""
    return current().producers.at_queue((task.request.delivery_info or {}).get("routing_key"))


def _run_step(task: PrivateArgsTask, step: Step, job_id: str) -> None:
    """Run a step, the job's steps that follow it at once, and the closing of what they have ended.

    In this order: the step of the message, which Celery itself runs as this task; each following step, `as_a_task` of
    its own; messages for the closings that may take long; the other closings, each `as_a_task`.

    What the last step has led to is this task's own outcome only if it was the first. Then raises DocumentFailed where
    the job has failed, and Ignore where it has not moved on.
    """
    runtime, another_followed = current(), False

    @contextmanager
    def as_following_task(lease: Lease) -> Iterator[Callable[[StepResult], None]]:
        nonlocal another_followed
        another_followed = True
        with as_a_task(lease) as note_result:
            yield note_result

    try:
        result = runtime.step_runner.run(step, job_id, as_following_task)
        for ended_id in result.to_close_by_message:
            runtime.send_closing(ended_id)
        for lease in result.to_close_here:
            with as_a_task(lease):
                runtime.closing.close(lease)
        failed = failure_of(result, job_id)
    except LedgerRefused:
        raise Ignore from None  # the feeder says why, and ends this worker
    except REDIS_ERRORS as error:
        # The lease runs out and a feeder sends the step again: only time is lost.
        log_redis_error(error, job=job_id, step=step)
        raise Ignore from None
    if another_followed:
        return  # this step has moved the job on; how the last one ended was shown as that one's outcome
    if failed:
        raise failed
    if waits(result):
        # Celery says nothing of a task that was ignored, and Flower would show it as running for ever.
        runtime.send_task_event("task-retried", uuid=task.request.id, exception=WAITS, traceback="")
        raise Ignore


@contextmanager
def as_a_task(lease: Lease) -> Iterator[Callable[[StepResult], None]]:
    """Run a step in the block as Celery runs a task of that name: its signals are sent, and its events if they are on.

    Each step is a task, of which a message wakes only the first: the others follow in the same process. The block is
    given a function that it may tell what the step has led to. If it tells nothing and raises nothing, all went well.
    """
    job, send = lease.job, current().send_task_event
    task, task_id, began_at = app.tasks[task_name(job.step)], str(uuid4()), time.monotonic()
    shown = {"sender": task, "task_id": task_id, "task": task, "args": (job.id,), "kwargs": {}}
    context = structlog.contextvars.get_contextvars()
    signals.task_prerun.send(**shown)
    kwargs = f"{{'account': '{job.account}'}}"
    send("task-received", uuid=task_id, name=task.name, args=job.id, kwargs=kwargs, retries=0, eta=None, expires=None)
    send("task-started", uuid=task_id)
    state: str = states.FAILURE
    error: DocumentFailed | None = None

    def note_result(result: StepResult) -> None:
        nonlocal error, state
        error = failure_of(result, job.id)
        state = states.FAILURE if error else states.IGNORED if waits(result) else states.SUCCESS

    try:
        yield note_result
        if state == states.FAILURE and not error:  # it was not told, so the step ended as it should
            state = states.SUCCESS
    finally:
        signals.task_postrun.send(**shown, retval=error, state=state)
        structlog.contextvars.bind_contextvars(**context)  # of the task that a message woke
        if state == states.SUCCESS:
            send("task-succeeded", uuid=task_id, result="", runtime=time.monotonic() - began_at)
        elif state == states.IGNORED:
            send("task-retried", uuid=task_id, exception=WAITS, traceback="")
        else:
            send("task-failed", uuid=task_id, exception=repr(error), traceback="")


def waits(result: StepResult) -> bool:
    """True if the job waits for its next due entry, or another worker has it."""
    return not (result.forward or result.to_close_here or result.to_close_by_message)


def failure_of(result: StepResult, job_id: str) -> DocumentFailed | None:
    """How the job has failed, if the step has ended it so. Raises Redis's errors."""
    job = current().ledger.get(job_id) if job_id in result.to_close_by_message else None
    return DocumentFailed(str(job.failure.code), job.failure.message) if job and job.failure else None


def _open_job(task: PrivateArgsTask, args: tuple[Any, ...], fields: dict[str, Any], open_job: OpenJob) -> None:
    runtime, task_id = current(), str(task.request.id)
    try:
        runtime.call_intake.take(task_id, args, fields, open_job)
    except (*REDIS_ERRORS, RetryLater, LedgerRefused) as error:
        if isinstance(error, REDIS_ERRORS) and not is_outage(error):
            log_redis_error(error, job=task_id)
        reason = str(error) if isinstance(error, RetryLater) else type(error).__name__
        log.warning("call_put_back", job=task_id, reason=reason)
        # A pause, so that a call that cannot be opened now does not go round and round.
        runtime.stopping.wait(1.0)
        raise Reject(requeue=True) from None
