"""Keeps the arguments of tasks out of Flower, Celery's events, `inspect` and logs: they hold patient data.

Celery writes the arguments as text into each message's headers (argsrepr, kwargsrepr), and every tool shows that text.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, Task
from celery.app.amqp import AMQP
from celery.worker.request import Request

_HIDDEN = {"argsrepr": "(…)", "kwargsrepr": "{…}"}


class PrivateArgsRequest(Request):
    """A received message. A foreign caller's headers hold the text of its arguments, so it is replaced here."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Celery keeps the text twice: for events and logs, and in the context that the task sees.
        self._argsrepr, self._kwargsrepr = _HIDDEN["argsrepr"], _HIDDEN["kwargsrepr"]
        context: dict[str, Any] = self._request_dict  # type: ignore[attr-defined]  # missing in the stubs
        context |= _HIDDEN

    def info(self, safe: bool = False) -> Any:
        # `inspect active` asks for the arguments themselves, so the text alone does not hide them.
        return {**super().info(safe=True), "args": _HIDDEN["argsrepr"], "kwargs": _HIDDEN["kwargsrepr"]}


class PrivateArgsAMQP(AMQP):
    """Builds the messages that we send, without the text of their arguments."""

    def __init__(self, app: Celery) -> None:
        super().__init__(app)
        protocols: dict[int, Any] = self.task_protocols  # type: ignore[has-type]  # missing in the stubs
        self.task_protocols = {**protocols, 2: self._as_private_task}

    def _as_private_task(self, *args: Any, **options: Any) -> Any:
        return super().as_task_v2(*args, **{**options, **_HIDDEN})


class PrivateArgsTask(Task[Any, Any]):
    """The base of all our tasks. A worker receives their messages as PrivateArgsRequest."""

    Request = "tasks.private_args:PrivateArgsRequest"
    abstract = True
