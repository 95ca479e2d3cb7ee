"""The Celery worker process. `celery -A worker worker` looks here for `app`."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Build the worker's application when it is asked for: other processes use this room without all of it."""
    if name == "app":
        from worker.celery.worker_app import app  # installs signal handlers and guards, which only a worker wants

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
