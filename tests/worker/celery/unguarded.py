"""The worker's application as kombu would have it, without our guard: `celery -A tests.worker.unguarded worker`."""

import kombu.transport.redis as transport

from worker.celery import app

__all__ = ["app"]

transport.Transport.Channel = transport.Channel
