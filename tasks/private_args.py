"""Keeps the arguments of tasks out of Flower, Celery's events, `inspect` and logs: they hold patient data.

Only the job's id is shown.

Celery writes the arguments as text into each message's headers (argsrepr, kwargsrepr), and every tool shows that text.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, Task
from celery.app.amqp import AMQP
from celery.worker.request import Request

from tasks.model.job_id import is_uuid

CALLS = ("chartpost.upload", "chartpost.relabel")
HIDDEN = {"argsrepr": "(…)", "kwargsrepr": "{…}"}


class PrivateArgsRequest(Request):
    """A received message. A foreign caller's headers hold the text of its arguments, so it is replaced here."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The job's id, by which `chartpost show` finds it, is all that is shown of the arguments.
        self._argsrepr, self._kwargsrepr = self._job_id() or HIDDEN["argsrepr"], HIDDEN["kwargsrepr"]
        # Celery keeps the text twice: for events and logs, and in the context that the task sees.
        context: dict[str, Any] = self._request_dict  # type: ignore[attr-defined]  # missing in the stubs
        context |= HIDDEN
        # The body is parsed already (worker/celery/kombu_guard.py). As text, each thread would parse it again.
        request: Any = self  # missing in the stubs
        if isinstance(request.body, bytes):
            request._body, request._content_type, request._content_encoding = request._payload, None, None

    def _job_id(self) -> str:
        """Of a step, its argument; of a call, its own id. Empty if that is no UUID: it may be anything."""
        args: Any = self.args  # missing in the stubs
        is_call = self.name in CALLS  # whose arguments are a stranger's, and may be a patient's id
        text = str(self.id) if is_call or len(args) != 1 else str(args[0])
        return text if is_uuid(text) else ""

    def info(self, safe: bool = False) -> Any:
        # `inspect active` asks for the arguments themselves, so the text alone does not hide them.
        return {**super().info(safe=True), "args": self._argsrepr, "kwargs": self._kwargsrepr}


class PrivateArgsAMQP(AMQP):
    """Builds the messages that we send, without the text of their arguments."""

    def __init__(self, app: Celery) -> None:
        super().__init__(app)
        protocols: dict[int, Any] = self.task_protocols  # type: ignore[has-type]  # missing in the stubs
        self.task_protocols = {**protocols, 2: self._as_private_task}

    def _as_private_task(self, *args: Any, **options: Any) -> Any:
        return super().as_task_v2(*args, **{**options, **HIDDEN})


class PrivateArgsTask(Task[Any, Any]):
    """The base of all our tasks. A worker receives their messages as PrivateArgsRequest."""

    Request = "tasks.private_args:PrivateArgsRequest"
    abstract = True
