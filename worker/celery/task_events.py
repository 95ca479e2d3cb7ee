"""What Flower sees of a task: its job's id and account, and how it ended. Nothing is sent while nobody watches."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery import bootsteps
from celery.events.dispatcher import EventDispatcher

from tasks.ledger import keys
from tasks.ledger.redis import REDIS_ERRORS
from tasks.runtime import current


class AccountNamingDispatcher(EventDispatcher):
    """Adds the account of a task's job to the event that a worker sends when it has received the task."""

    def send(self, type: str, *args: Any, **fields: Any) -> Any:  # noqa: A002, Celery's name
        if self._watched() and type == "task-received" and "account" not in fields.get("kwargs", ""):
            account = None
            with suppress(*REDIS_ERRORS):
                account = current().redis.hget(keys.job(str(fields.get("args"))), "account")
            if account:
                fields["kwargs"] = shown(str(account))
        return super().send(type, *args, **fields)

    def _watched(self) -> bool:
        """False while only the events of the worker itself are on, which Celery never turns off."""
        return self.enabled and (not self.groups or "task" in self.groups)


class TaskEventsStep(bootsteps.StartStopStep):
    """Lets steps that follow in one process be seen as tasks. It belongs to the consumer, as the dispatcher does."""

    requires = ("celery.worker.consumer.events:Events",)

    def start(self, parent: Any) -> None:
        current().send_task_event = parent.event_dispatcher.send

    def stop(self, parent: Any) -> None:
        current().send_task_event = lambda *event, **fields: None


def shown(account: str) -> str:
    """How an account is shown as a task's keyword arguments."""
    return f"{{'account': '{account}'}}"
