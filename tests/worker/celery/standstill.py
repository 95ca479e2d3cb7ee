"""A worker whose event loop stands still soon: `celery -A tests.worker.celery.standstill worker`."""

import threading
from typing import Any

from celery import bootsteps

from worker.celery.worker_app import app

__all__ = ["app"]


class Standstill(bootsteps.StartStopStep):
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        parent.timer.call_after(1.0, threading.Event().wait)


app.steps["consumer"].add(Standstill)
