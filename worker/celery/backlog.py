"""Opens calls at the head of a long queue, many in one go, where workers would take them one by one.

A message costs a worker five times what opening its job costs, beside its other work, and calls are served first come,
first served: behind ten thousand of one account, another account's would wait for a minute. So where calls pile up,
`chartpost intake`, a process with little else to do, helps. It leaves a message where it is until its job is in the
ledger, and removes it then: a kill at any moment leaves the message to the workers, or to the next who helps, and a
call that is opened twice is one job, since its task id is the job's id. Whatever cannot plainly be opened is left to
the workers.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
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
from tasks.intake.calls import is_uuid
from tasks.intake.requests import read_request
from tasks.ledger.redis import PREFIX, REDIS_ERRORS
from tasks.model.document import Door
from tasks.model.errors import StageError
from tasks.runtime import Runtime

log = structlog.get_logger()

MANY = 64
"""Calls that wait before anybody helps: workers are done with so few in a moment. As many are opened in one go."""

TURN = PREFIX + "calls:turn"
"""Held by who helps now, so that others do not open the same calls in vain. Nothing worse would happen."""

_TURN_MS = 5000
_REST_SECONDS = 0.5
_AWAY_SECONDS = 2.0
_JSON = prepare_accept_content(["json"])


@dataclass(frozen=True, slots=True)
class Call:
    """A call as its message has it."""

    task_id: str
    fields: dict[str, Any]


def read_call(message: bytes) -> Call | None:
    """The call in a message; None for one that a worker is to look at: another task, a faulty or no plain call."""
    try:
        envelope = loads_json(message.decode())
        headers, body = envelope["headers"], envelope["body"]
        if headers["task"] != upload.name or not _is_plain(headers) or not is_uuid(headers["id"]):
            return None
        if envelope["properties"].get("body_encoding"):
            body = Base64().decode(body)
        args, fields, _ = loads(body, envelope["content-type"], envelope["content-encoding"], accept=_JSON)
    except Exception:  # noqa: BLE001, anybody's bytes; the worker that takes them says what is wrong
        return None
    return Call(headers["id"], fields) if not args and isinstance(fields, dict) else None


def _is_plain(headers: Mapping[str, Any]) -> bool:
    return not any(headers.get(name) for name in ("eta", "expires", "retries", "compression"))


class Calls:
    """The queue's head, where the calls are that have waited longest."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._redis = runtime.redis
        # As bytes: what others wrote need not be UTF-8.
        self._queue = redis.Redis.from_url(
            runtime.redis_url, socket_timeout=10, socket_connect_timeout=5, client_name="chartpost"
        )

    def help_out(self) -> None:
        """Until `process.stopping` is set: open calls whenever many wait. For a thread of its own."""
        rest = _REST_SECONDS
        while not self._runtime.stopping.wait(rest):
            try:
                opened = self.open_some()
            except REDIS_ERRORS as error:
                log.info("calls_wait_for_redis", error=type(error).__name__)
                rest = _AWAY_SECONDS
                continue
            rest = 0.0 if opened else _REST_SECONDS

    def open_some(self) -> int:
        """Open the calls that have waited longest, if many wait and it is nobody else's turn; returns how many.

        Raises Redis's errors.
        """
        if int(self._redis.llen(ENTRY_QUEUE)) < MANY or not self._redis.set(TURN, "1", nx=True, px=_TURN_MS):
            return 0
        try:
            opened = [message for message in self._oldest() if self._open(message)]
            self._remove(opened)
        finally:
            self._redis.delete(TURN)
        if opened:
            log.info("calls_opened_together", count=len(opened))
        return len(opened)

    def _oldest(self) -> list[bytes]:
        """Senders add on the left, and workers take from the right."""
        found: Any = self._queue.lrange(ENTRY_QUEUE, -MANY, -1)
        return list(reversed(found))

    def _open(self, message: bytes) -> bool:
        """Whether the call's job is in the ledger now. What is refused may be a matter of this machine: it stays."""
        call = None if self._runtime.stopping.is_set() else read_call(message)
        if call is None:
            return False
        try:
            document = self._runtime.admission.admit(read_request(call.fields), Door.CELERY)
            self._runtime.admission.open_admitted(call.task_id, document)
        except StageError:
            return False
        except REDIS_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001, a fault of ours in one call must not hold up the others
            log.warning("call_left_to_workers", job=call.task_id, **crash_site(error))
            return False
        return True

    def _remove(self, messages: list[bytes]) -> None:
        """Remove them, unless a worker has taken them meanwhile: it then finds their jobs open."""
        with self._queue.pipeline(transaction=False) as pipe:
            for message in messages:
                pipe.lrem(ENTRY_QUEUE, -1, message)  # type: ignore[arg-type]  # bytes do as well as text
            pipe.execute()


def help_workers(runtime: Runtime) -> None:
    """Help in the background, as long as this process runs."""
    threading.Thread(target=Calls(runtime).help_out, name="calls", daemon=True).start()
