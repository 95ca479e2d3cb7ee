"""Celery requests whose arguments are shown to nobody: not to Flower, not in events, not by `inspect`."""

from __future__ import annotations

from typing import Any

from celery import Celery, Task
from celery.app.amqp import AMQP
from celery.worker.request import Request

_HIDDEN_ARGS, _HIDDEN_KWARGS = "(…)", "{…}"


class PrivateArgsRequest(Request):
    """A foreign caller's message carries its arguments' text in its headers; here it ends."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._argsrepr, self._kwargsrepr = _HIDDEN_ARGS, _HIDDEN_KWARGS
        shown: dict[str, Any] = self._request_dict  # type: ignore[attr-defined]  # the stubs leave it out
        shown |= {"argsrepr": _HIDDEN_ARGS, "kwargsrepr": _HIDDEN_KWARGS}

    def info(self, safe: bool = False) -> Any:
        return {**super().info(safe=True), "args": _HIDDEN_ARGS, "kwargs": _HIDDEN_KWARGS}


class PrivateArgsAMQP(AMQP):
    """Messages whose headers show no argument: Flower, events and logs print what stands there."""

    def __init__(self, app: Celery) -> None:
        super().__init__(app)
        protocols: dict[int, Any] = self.task_protocols  # type: ignore[has-type]  # the stubs leave it out
        self.task_protocols = {**protocols, 2: self._as_quiet_task}

    def _as_quiet_task(self, *args: Any, **options: Any) -> Any:
        return super().as_task_v2(*args, **{**options, "argsrepr": "(…)", "kwargsrepr": "{…}"})


class PrivateArgsTask(Task[Any, Any]):
    """A task whose messages' arguments are shown nowhere, not even those of foreign callers."""

    Request = "tasks.private_args:PrivateArgsRequest"
    abstract = True
