"""A Celery consumer that waits for Redis as long as it takes, and logs an outage once."""

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

# Documents wait this long once Redis is back. kombu's own pauses grow to 30 seconds (Connection.ensure_connection).
_PAUSES = {"interval_start": 1, "interval_step": 1, "interval_max": 3}
# Celery's own is 2. Only Flower reads them, and takes a worker for gone after two that did not come.
_HEARTBEAT_SECONDS = 5.0
_NOISY_LOGGERS = ("celery.worker.request", "celery.app.trace", "celery.worker.loops", "celery.bootsteps")


class PatientConsumer(Consumer):
    def __init__(self, *args: Any, worker_options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        # Gossip and mingle let workers know of each other, which nothing here needs. With Celery 5.7.0 a consumer with
        # gossip (celery/worker/consumer/gossip.py) does not start again after a lost connection.
        options = {**(worker_options or {}), "without_gossip": True, "without_mingle": True}
        options["heartbeat_interval"] = options.get("heartbeat_interval") or _HEARTBEAT_SECONDS
        super().__init__(*args, **{**kwargs, "worker_options": options})

    def ensure_connected(self, conn: Any) -> Any:
        """Celery's own method logs an error at every try."""
        logged = False

        def log_once(error: Exception, _: float) -> None:
            nonlocal logged
            if not logged:
                log.warning("broker_unreachable", error=type(error).__name__, reason=str(error))
            logged = True

        # `None`: any number of tries. The callback lets a stop signal end the wait.
        connected = conn.ensure_connection(log_once, None, callback=maybe_shutdown, **_PAUSES)
        self.first_connection_attempt = False  # as Celery's own method does
        return connected

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        with warnings.catch_warnings():
            # Celery warns that version 6 changes a default (worker_cancel_long_running_tasks_on_connection_loss).
            # config/celery.py sets it.
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)


class OutageFilter(logging.Filter):
    """Makes Celery's errors about a broker that went away information, without a traceback.

    A lost message or acknowledgement changes nothing: the ledger sends a step again, and an entry message comes again.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (RedisError, OperationalError)):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.exc_info = None
        # The logger has checked the level before; it counts again with the new one.
        return logging.getLogger(record.name).isEnabledFor(record.levelno)


def log_outages_as_info() -> None:
    """Call it once logging is set up."""
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).addFilter(OutageFilter())
