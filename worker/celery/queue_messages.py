"""What stands in a queue was written by somebody else: of each entry only what the white list names goes on to Celery.

Celery and kombu do as a message's headers say: they wait until its `eta`, unpack it, put it back into the queue that
it names, call what is linked to it. So they never see a foreign message. `read_message` takes from an entry the task,
the id and the arguments, and `QueueMessage.rebuilt` makes a message of our own of these.

The format of messages: https://docs.celeryq.dev/en/stable/internals/protocol.html (version 2, and the older 1).
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from config.celery import ENTRY_TASKS, STAGE_QUEUE
from tasks.model.job_id import is_uuid
from tasks.model.route import Step
from tasks.private_args import HIDDEN

LARGEST_BYTES = 256 * 1024
"""Of a call's arguments."""

MOST_RETURNS = 5
"""A message that has come back so often, since each worker that had it died, is not tried again."""

LARGEST_ENTRY_BYTES = 1024 * 1024  # base64 and a sender's headers, which may hold its arguments once more
_DEEPEST = 32  # as for messages of the stream; what reads the arguments later recurses with less room
_MOST_STEPS = 8  # of one chain; no route has more
_STAGE_TASKS = frozenset(f"chartpost.{step}" for step in Step if step)
_UTF8 = (None, "utf-8", "utf8", "us-ascii")
_RETURNS = "returns"  # our header: how often a message has come back
# What a caller may have asked for that Celery would do at another time, or after the task. The task ends as soon as the
# job is open, so all of these would do less than the caller expects.
_TIMES = {"eta": "a time (eta, countdown)", "expires": "an expiry (expires)"}
_LINKS = {
    "callbacks": "a link (link)",
    "errbacks": "an error link (link_error)",
    "chain": "a chain",
    "chord": "a chord",
}
# Ids under which a result may be stored although they are no UUIDs: the public contract promises the refusal there.
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}")


class Unfit(Exception):
    """An entry that is no message for us; `args` are (code, reason).

    `code` is one of the words in docs/contract.md. `task_id` is the id that the entry gives, if a result can be stored
    under it.
    """

    def __init__(self, code: str, reason: str, task_id: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.task_id = task_id


class RebuiltMessage(dict[str, Any]):
    """A message as kombu takes it, made by us. `body` is its body once more, so that nobody has to parse it again."""

    body: list[Any]


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """What counts of an entry."""

    # One of ours: entry tasks from the entry queues, steps from the queues of steps.
    task: str
    # A UUID.
    id: str
    args: list[Any]
    kwargs: dict[str, Any]
    # How often it has come back to its queue because its worker ended badly.
    returns: int = 0
    # The steps that follow it: (task, id) each, the next one last, as Celery has them.
    chain: list[tuple[str, str]] = field(default_factory=list)

    def rebuilt(self, queue: str, priority: int = 0) -> RebuiltMessage:
        """A message with these parts and none of the sender's headers. `queue`: where it was found.

        It returns there and nowhere else: without an exchange, kombu looks up no bindings, which others can write.
        """
        body = [self.args, self.kwargs, {"chain": self._signatures(queue)} if self.chain else {}]
        message = RebuiltMessage(
            body=json.dumps(body),
            headers={"task": self.task, "id": self.id, "root_id": self.id, _RETURNS: self.returns, **HIDDEN},
            properties={
                "correlation_id": self.id,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "delivery_tag": str(uuid4()),
                "priority": priority,
            },
        )
        message["content-type"], message["content-encoding"] = "application/json", "utf-8"
        message.body = body
        return message

    def _signatures(self, queue: str) -> list[dict[str, Any]]:
        # A machine's steps stay in that machine's queue.
        options = {} if queue == STAGE_QUEUE else {"queue": queue}
        return [
            {
                "task": task,
                "args": self.args,
                "kwargs": {},
                "options": {"task_id": task_id, **options},
                "subtask_type": None,
                "immutable": True,
            }
            for task, task_id in self.chain
        ]


def read_message(raw: bytes, queue: str) -> QueueMessage:
    """What counts of the bytes of an entry. Raises Unfit, and nothing else, whatever the bytes are."""
    if len(raw) > LARGEST_ENTRY_BYTES:
        raise Unfit("too_large", f"The message is larger than {LARGEST_ENTRY_BYTES} bytes.")
    try:
        envelope = json.loads(raw)
        headers, properties = envelope.get("headers") or {}, envelope.get("properties") or {}
        task_id = _tellable(headers.get("id"))
        body = properties.get("body_encoding"), envelope["body"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unfit("not_a_message", "It is not a Celery message.") from None
    try:
        return _read(envelope, headers, _parsed_body(envelope, headers, *body), queue)
    except Unfit as unfit:
        unfit.task_id = unfit.task_id or task_id
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unfit("not_a_message", "Its body is not that of a Celery message.", task_id) from None


def came_back(payload: object) -> None:
    """Note in a message that it goes back to its queue because its worker ended badly."""
    headers = payload.get("headers") if isinstance(payload, dict) else None
    if isinstance(headers, dict):
        headers[_RETURNS] = _returns(headers) + 1


def _parsed_body(envelope: Mapping[str, Any], headers: Mapping[str, Any], encoding: object, body: object) -> Any:
    if headers.get("compression"):
        raise Unfit("foreign_format", "It is compressed: send it without compression.")
    if envelope.get("content-type") != "application/json":
        raise Unfit("foreign_format", "Its serializer is not JSON: send it with serializer='json'.")
    charset = envelope.get("content-encoding")
    if (charset.lower() if isinstance(charset, str) else charset) not in _UTF8:
        raise Unfit("foreign_format", "It is not in UTF-8.")
    if not isinstance(body, str):
        raise Unfit("not_a_message", "Its body is not text.")
    if encoding not in (None, "base64", "utf-8"):
        raise Unfit("foreign_format", "Its body is neither plain text nor base64.")
    try:
        text = b64decode(body, validate=True) if encoding == "base64" else body
    except binascii.Error:
        raise Unfit("not_a_message", "Its body is not base64.") from None
    if len(text) > LARGEST_BYTES:
        raise Unfit("too_large", f"Its arguments are larger than {LARGEST_BYTES} bytes.")
    return json.loads(text)


def _read(envelope: Mapping[str, Any], headers: Mapping[str, Any], body: Any, queue: str) -> QueueMessage:
    if isinstance(body, dict):  # version 1, all in the body; and 4.0's mixture of both, in which the headers count
        fields = {**body, **headers}
        args, kwargs, embed = body.get("args"), body.get("kwargs"), body
    else:
        args, kwargs, embed = body
        fields = dict(headers)
    task_id = fields.get("id")
    try:
        return _message(fields, args, kwargs, embed or {}, queue)
    except Unfit as unfit:
        unfit.task_id = _tellable(task_id)
        raise


def _message(fields: Mapping[str, Any], args: Any, kwargs: Any, embed: Mapping[str, Any], queue: str) -> QueueMessage:
    is_step = is_stage_queue(queue)
    task, task_id = fields.get("task"), fields.get("id")
    if not isinstance(task_id, str) or not is_uuid(task_id):
        raise Unfit("no_uuid", "The task id must be a UUID: it becomes the job's id.")
    if not isinstance(task, str) or task not in (_STAGE_TASKS if is_step else ENTRY_TASKS):
        known = "chartpost's own steps" if is_step else " and ".join(ENTRY_TASKS)
        raise Unfit("unknown_task", f"There is no such task for this queue: it is for {known}.")
    args, kwargs = args or [], kwargs or {}
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise Unfit("not_a_message", "Its arguments are not a list and an object.")
    if "self" in kwargs:  # Celery itself passes the task under this name, and would fail without a result
        raise Unfit("not_a_message", "There is no argument `self`.")
    returns = _returns(fields)
    if is_step:
        return QueueMessage(task, task_id, _job_of(args), {}, returns, _steps_after(embed.get("chain") or []))
    asked = [words for name, words in _TIMES.items() if fields.get(name)]
    asked += [words for name, words in _LINKS.items() if embed.get(name)]
    if asked:
        raise Unfit(
            "unsupported_option",
            f"It asks for {' and '.join(asked)}, which chartpost does not do: send it without, and when it is due.",
        )
    if _deeper_than(_DEEPEST, [args, kwargs]):
        raise Unfit("not_a_message", f"Its arguments are nested more than {_DEEPEST} deep.")
    # Python's reader takes NaN and half a surrogate pair. Neither could be written to Redis or to a provider.
    json.dumps([args, kwargs], ensure_ascii=False, allow_nan=False).encode()
    if returns >= MOST_RETURNS:
        raise Unfit("redelivered", f"{MOST_RETURNS} workers in a row ended while they had it.")
    return QueueMessage(task, task_id, args, kwargs, returns)


def is_stage_queue(queue: str) -> bool:
    """True for the queues of our own steps. Every other queue of tasks is for calls from outside."""
    return queue == STAGE_QUEUE or queue.startswith(STAGE_QUEUE + ".")


def _job_of(args: list[Any]) -> list[Any]:
    if len(args) == 1 and isinstance(args[0], str) and is_uuid(args[0]):
        return args
    raise Unfit("not_a_message", "A step has one argument, its job's id.")


def _steps_after(chain: Any) -> list[tuple[str, str]]:
    steps = [(each["task"], each["options"]["task_id"]) for each in chain]
    if len(steps) > _MOST_STEPS or not all(
        isinstance(task, str) and task in _STAGE_TASKS and isinstance(task_id, str) and is_uuid(task_id)
        for task, task_id in steps
    ):
        raise Unfit("unknown_task", "What follows it is not chartpost's own steps.")
    return steps


def _returns(headers: Mapping[str, Any]) -> int:
    count = headers.get(_RETURNS)
    return min(max(count, 0), MOST_RETURNS) if type(count) is int else 0


def _tellable(task_id: object) -> str:
    return task_id if isinstance(task_id, str) and _PLAIN_ID.fullmatch(task_id) else ""


def _deeper_than(levels: int, value: object) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return bool(inner) and (levels == 0 or any(_deeper_than(levels - 1, each) for each in inner))
