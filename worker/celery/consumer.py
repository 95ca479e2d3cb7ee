"""Celery's consumer, as patient as the rest of us: it waits for the broker as long as it takes, and says so once."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import structlog
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = structlog.get_logger()

# Short, since this is what a document waits for once Redis is back; Celery's own pauses grow to 30 seconds.
_PAUSES = {"interval_start": 1, "interval_step": 1, "interval_max": 3}


class PatientConsumer(Consumer):
    """Without gossip, which nothing here needs and which cannot be started again when its connection was lost."""

    def __init__(self, *args: Any, worker_options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        options = {**(worker_options or {}), "without_gossip": True, "without_mingle": True}
        super().__init__(*args, **{**kwargs, "worker_options": options})

    def ensure_connected(self, conn: Any) -> Any:
        said = False

        def say(error: Exception, _: float) -> None:
            nonlocal said
            if not said:
                log.warning("broker_unreachable", error=type(error).__name__, reason=str(error))
            said = True

        connected = conn.ensure_connection(say, None, callback=maybe_shutdown, **_PAUSES)
        self.first_connection_attempt = False
        return connected

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        with warnings.catch_warnings():
            # Of a default that Celery 6 changes; ours is chosen in config/celery.py.
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)


class ForeseenOutage(logging.Filter):
    """Celery's words about messages and clean-ups whose broker went away, as what they are: foreseen, no traceback.

    Nothing rests on these messages: the ledger sends a step again, and an entry message comes again.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (RedisError, OperationalError)):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.exc_info = None
        return logging.getLogger(record.name).isEnabledFor(record.levelno)


def say_outages_once() -> None:
    """Call it once logging is set up."""
    for name in ("celery.worker.request", "celery.app.trace", "celery.worker.loops", "celery.bootsteps"):
        logging.getLogger(name).addFilter(ForeseenOutage())
