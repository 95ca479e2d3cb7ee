"""The Celery worker process, and what other processes share with it. `celery -A worker worker` looks here for `app`."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "app":
        # On demand: it connects signals and patches kombu, which only a worker process wants. `chartpost intake`
        # imports this room for the backlog.
        from worker.celery.worker_app import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
