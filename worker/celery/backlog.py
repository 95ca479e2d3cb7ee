"""Helps where Celery calls pile up: opens those that have waited longest, many in one go.

A message costs a worker far more than opening its job here, and calls are served first come, first served. Behind
ten thousand calls for one account, another account's call would wait for a minute. `chartpost intake` has little else
to do, so it helps.

A message stays in the queue until its job is in the ledger, and is removed then. After a kill at any moment the workers
or the next helper find it. A call that is opened twice is one job, since its task id is the job's id. A call that
cannot plainly be opened is left to the workers.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
import structlog

from config.redaction import crash_site
from config.vital_threads import start_vital
from tasks.celery_tasks import upload
from tasks.intake.admission import Admission
from tasks.intake.producers import Producers
from tasks.intake.requests import read_request
from tasks.ledger import keys
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.redis import REDIS_ERRORS, is_outage, log_redis_error
from tasks.ledger.script_loader import load_script
from tasks.model.document import Document, Door
from tasks.model.errors import StepError
from worker.celery.queue_messages import LARGEST_ENTRY_BYTES, Unfit, read_message

log = structlog.get_logger()

BATCH = 64
"""How many calls are opened in one go, and must wait before help begins: workers are soon done with fewer."""


_MOST_BYTES = 16 * 1024 * 1024  # of one batch
_LOCK_MS = 5000
_REST_SECONDS = 1.0
_AWAY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Call:
    task_id: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AdmittedCall:
    """A call whose document is admitted, and the message that holds it."""

    message: bytes
    task_id: str
    document: Document


class BacklogHelper:
    """`queues` are those of entry calls.

    `queue_client` must not decode answers: messages come from other programs, and need not be UTF-8.
    """

    def __init__(
        self,
        client: redis.Redis,
        queue_client: redis.Redis,
        queues: Collection[str],
        producers: Producers,
        admission: Admission,
        stop: threading.Event,
    ) -> None:
        self._queues = queues
        self._producers = producers
        self._redis = client
        self._take_lock = load_script(client, "take_lock")
        self._queue = queue_client
        self._read_oldest = load_script(queue_client, "oldest_calls", "worker.celery")
        self._admission = admission
        self._stop = stop

    def start(self) -> None:
        """Help in a thread of its own until `stop` is set."""
        start_vital(self.run, "calls")

    def run(self) -> None:
        rest_seconds = _REST_SECONDS
        while not self._stop.wait(rest_seconds):
            try:
                opened = self.open_batch()
            except REDIS_ERRORS as error:
                if not is_outage(error):
                    log_redis_error(error, part="calls")
                log.info("calls_wait_for_redis", error=type(error).__name__)
                rest_seconds = _AWAY_SECONDS
                continue
            rest_seconds = 0.0 if opened else _REST_SECONDS

    def open_batch(self) -> int:
        """Open the oldest calls of each queue in which many wait, if no other helper is at work. Returns how many."""
        full = [queue for queue in self._queues if int(self._redis.llen(queue)) >= BATCH]
        if not full or not self._take_lock(keys=[keys.CALLS_LOCK], args=["1", _LOCK_MS]):
            return 0
        count = 0
        try:
            for queue in full:
                # In this order: a message is removed only when its job is in the ledger.
                opened = self._open(queue, self._oldest(queue))
                self._remove(queue, opened)
                count += len(opened)
        finally:
            self._redis.delete(keys.CALLS_LOCK)
        if count:
            log.info("calls_opened_together", count=count)
        return count

    def _oldest(self, queue: str) -> list[bytes]:
        messages: list[bytes] = self._read_oldest(args=[queue, BATCH, LARGEST_ENTRY_BYTES, _MOST_BYTES])
        return messages

    def _open(self, queue: str, messages: list[bytes]) -> list[bytes]:
        """Open the calls in these messages. Returns those whose jobs are in the ledger now."""
        calls = [call for message in messages if (call := self._admitted(queue, message))]
        opened = [False] * len(calls)
        with _left_to_workers(""):  # of several calls; the one that is at fault is found out alone
            opened = self._admission.open_together([(call.task_id, call.document) for call in calls])
        return [call.message for call, is_open in zip(calls, opened, strict=True) if is_open or self._open_alone(call)]

    def _admitted(self, queue: str, message: bytes) -> AdmittedCall | None:
        call = None if self._stop.is_set() else read_call(message, queue)
        if call is None:
            return None
        with _left_to_workers(call.task_id):
            producer = self._producers.at_queue(queue)
            document = self._admission.admit(read_request(call.fields), Door.CELERY, producer)
            return AdmittedCall(message, call.task_id, document)
        return None

    def _open_alone(self, call: AdmittedCall) -> bool:
        """Open a call that is not plainly new: its id, its idempotency key or its document's name is in use."""
        with _left_to_workers(call.task_id):
            self._admission.open_admitted(call.task_id, call.document)
            return True
        return False

    def _remove(self, queue: str, messages: list[bytes]) -> None:
        with self._queue.pipeline(transaction=False) as pipe:
            for message in messages:
                # By value, not by place: a worker may have taken it meanwhile, which then finds the job open.
                pipe.lrem(queue, -1, message)  # type: ignore[arg-type]  # bytes do as well as text
            pipe.execute()


@contextmanager
def _left_to_workers(task_id: str) -> Iterator[None]:
    """Goes on after the block if it finds that a worker must decide about the call. Raises Redis's errors."""
    try:
        yield
    except (StepError, LedgerRefused):
        pass  # the reason may lie on this machine, such as a folder that it does not have
    except REDIS_ERRORS:
        raise
    except Exception as error:  # noqa: BLE001, an error of ours in one call must not hold up the others
        log.warning("call_left_to_workers", job=task_id, **crash_site(error))


def read_call(message: bytes, queue: str) -> Call | None:
    """The call in a message; None for another task, and for a call that a worker must handle."""
    try:
        read = read_message(message, queue)
    except Unfit:
        return None  # the worker that takes it says what is wrong
    return Call(read.id, read.kwargs) if read.task == upload.name and not read.args else None
