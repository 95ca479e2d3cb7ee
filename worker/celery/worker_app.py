"""The process side of the Celery application: `celery -A worker worker` finds `app` here.

Adds to `tasks.app` what only a worker needs: logging, the feeder, a heartbeat, metrics, an orderly stop, a consumer
that waits for Redis, a watchdog, and guards against faults of Celery 5.7.0.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery import signals

from config.logs import configure_logs
from tasks.app import app
from tasks.runtime import current
from worker.celery.consumer import PatientConsumer, say_outages_once
from worker.celery.kombu_guard import GuardedChannel, guard_kombu
from worker.celery.metrics import MetricsStep
from worker.celery.steps import FeederStep, PulseStep, WatchdogStep

__all__ = ["app"]

log = structlog.get_logger()


guard_kombu()


app.steps["consumer"].add(PulseStep)
app.steps["worker"].add(FeederStep)
app.steps["worker"].add(WatchdogStep)
app.steps["worker"].add(MetricsStep)


@signals.celeryd_init.connect
def _be_patient(conf: Any, **_: Any) -> None:
    conf.worker_consumer = PatientConsumer
    GuardedChannel.writes = True


@signals.setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    settings = current().settings
    configure_logs(settings.log.format, settings.log.level)
    say_outages_once()


@signals.worker_init.connect
def _say_warnings(**_: Any) -> None:
    for warning in current().settings.warnings:
        log.warning("settings_warning", warning=warning)


@signals.worker_shutting_down.connect
def _stop(**_: Any) -> None:
    """Running uploads that have not passed their commit point are handed back, so that the worker ends soon."""
    current().stopping.set()


@signals.task_prerun.connect
def _bind(task_id: str, task: Any, **_: Any) -> None:
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(task=task.name, message=task_id)


@signals.task_postrun.connect
def _unbind(**_: Any) -> None:
    structlog.contextvars.clear_contextvars()
