"""Helps where Celery calls pile up: opens those that have waited longest, many in one go.

A message costs a worker five times what opening its job costs, and calls are served first come, first served. Behind
ten thousand calls for one account, another account's call would wait for a minute. `chartpost intake` has little else
to do, so it helps.

A message stays in the queue until its job is in the ledger, and is removed then. After a kill at any moment the workers
or the next helper find it. A call that is opened twice is one job, since its task id is the job's id. A call that
cannot plainly be opened is left to the workers.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import redis
import structlog
from kombu.serialization import loads, prepare_accept_content
from kombu.transport.virtual import Base64
from kombu.utils.json import loads as loads_json

from config.celery import ENTRY_QUEUE
from config.redaction import crash_site
from tasks.celery_tasks import upload
from tasks.intake.admission import Admission
from tasks.intake.calls import is_uuid
from tasks.intake.requests import read_request
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.redis import PREFIX, REDIS_ERRORS, load_script
from tasks.model.document import Door
from tasks.model.errors import StepError

log = structlog.get_logger()

BATCH = 64
"""How many calls are opened in one go, and must wait before help begins: workers are soon done with fewer."""

LOCK = PREFIX + "calls:turn"
"""Held by the helper at work. Two that open the same calls would do no harm, only the same work twice."""

_LOCK_MS = 5000
_REST_SECONDS = 0.5
_AWAY_SECONDS = 2.0
_ACCEPT_JSON = prepare_accept_content(["json"])
_SPECIAL = ("eta", "expires", "retries", "compression")  # headers of calls that a worker handles specially


@dataclass(frozen=True, slots=True)
class Call:
    task_id: str
    fields: dict[str, Any]


class BacklogHelper:
    """`queue_client` must not decode answers: messages come from other programs, and need not be UTF-8."""

    def __init__(
        self, client: redis.Redis, queue_client: redis.Redis, admission: Admission, stop: threading.Event
    ) -> None:
        self._redis = client
        self._take_lock = load_script(client, "take_lock")
        self._queue = queue_client
        self._admission = admission
        self._stop = stop

    def start(self) -> None:
        """Help in a thread of its own until `stop` is set."""
        threading.Thread(target=self.run, name="calls", daemon=True).start()

    def run(self) -> None:
        rest_seconds = _REST_SECONDS
        while not self._stop.wait(rest_seconds):
            try:
                opened = self.open_batch()
            except REDIS_ERRORS as error:
                log.info("calls_wait_for_redis", error=type(error).__name__)
                rest_seconds = _AWAY_SECONDS
                continue
            rest_seconds = 0.0 if opened else _REST_SECONDS

    def open_batch(self) -> int:
        """Open the oldest calls if many wait and no other helper is at work. Returns how many."""
        if int(self._redis.llen(ENTRY_QUEUE)) < BATCH or not self._take_lock(keys=[LOCK], args=["1", _LOCK_MS]):
            return 0
        try:
            # In this order: a message is removed only when its job is in the ledger.
            opened = [message for message in self._oldest() if self._open(message)]
            self._remove(opened)
        finally:
            self._redis.delete(LOCK)
        if opened:
            log.info("calls_opened_together", count=len(opened))
        return len(opened)

    def _oldest(self) -> list[bytes]:
        # kombu's senders push on the left, and its workers pop from the right.
        messages: Any = self._queue.lrange(ENTRY_QUEUE, -BATCH, -1)
        return list(reversed(messages))

    def _open(self, message: bytes) -> bool:
        """True when the call's job is in the ledger."""
        call = None if self._stop.is_set() else read_call(message)
        if call is None:
            return False
        try:
            document = self._admission.admit(read_request(call.fields), Door.CELERY)
            self._admission.open_admitted(call.task_id, document)
        except (StepError, LedgerRefused):
            return False  # a worker decides: the reason may lie on this machine, such as a folder it does not have
        except REDIS_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001, an error of ours in one call must not hold up the others
            log.warning("call_left_to_workers", job=call.task_id, **crash_site(error))
            return False
        return True

    def _remove(self, messages: list[bytes]) -> None:
        with self._queue.pipeline(transaction=False) as pipe:
            for message in messages:
                # By value, not by place: a worker may have taken it meanwhile, which then finds the job open.
                pipe.lrem(ENTRY_QUEUE, -1, message)  # type: ignore[arg-type]  # bytes do as well as text
            pipe.execute()


def read_call(message: bytes) -> Call | None:
    """The call in a message; None for another task, and for a call that a worker must handle.

    The format of messages: https://docs.celeryq.dev/en/stable/internals/protocol.html
    """
    try:
        envelope = loads_json(message.decode())
        headers, body = envelope["headers"], envelope["body"]
        special = any(headers.get(name) for name in _SPECIAL)
        if headers["task"] != upload.name or special or not is_uuid(headers["id"]):
            return None
        if envelope["properties"].get("body_encoding"):
            body = Base64().decode(body)
        args, fields, _ = loads(body, envelope["content-type"], envelope["content-encoding"], accept=_ACCEPT_JSON)
    except Exception:  # noqa: BLE001, the bytes may be anything; the worker that takes them says what is wrong
        return None
    return Call(headers["id"], fields) if not args and isinstance(fields, dict) else None
