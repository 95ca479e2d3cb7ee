"""A worker with kombu's own channel, without our guard: `celery -A tests.worker.celery.unguarded worker`."""

import kombu.transport.redis as transport

from worker.celery.worker_app import app

__all__ = ["app"]

transport.Transport.Channel = transport.Channel
