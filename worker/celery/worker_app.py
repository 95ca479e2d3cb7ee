"""The Celery application of a worker process: `celery -A worker worker` finds `app` here.

Adds to `tasks.app` what only a worker needs: logging, the boot steps (feeder, watchdog, metrics), an orderly stop, a
consumer that waits for Redis, and guards against faults of kombu and Celery 5.7.0.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery import signals
from celery.apps import worker as celery_worker

from config.logs import configure_logs
from tasks.app import app as app
from tasks.ledger.identity import LedgerRefused, evicts
from tasks.ledger.redis import REDIS_ERRORS
from tasks.runtime import current
from worker.celery.build import dead_letter_keeper
from worker.celery.consumer import PatientConsumer, log_outages_as_info
from worker.celery.kombu_guard import GuardedChannel, guard_kombu
from worker.celery.steps import (
    REFUSED_EXIT_CODE,
    EventLoopMonitorStep,
    FeederStep,
    MachineQueueStep,
    MetricsStep,
    ReloadStep,
    RollUpStep,
    WatchdogStep,
)
from worker.celery.task_events import AccountNamingDispatcher, TaskEventsStep
from worker.reload.stop_deadline import WORKER_SECONDS, StopDeadline

log = structlog.get_logger()

guard_kombu()

_stop_deadline = StopDeadline(WORKER_SECONDS)

app.steps["consumer"].update((EventLoopMonitorStep, MachineQueueStep, TaskEventsStep))
app.events.dispatcher_cls = AccountNamingDispatcher  # type: ignore[assignment]  # a class as well as its name
app.steps["worker"].update((FeederStep, WatchdogStep, MetricsStep, ReloadStep, RollUpStep))


@signals.celeryd_init.connect
def prepare_worker(conf: Any, **_: Any) -> None:
    conf.worker_consumer = PatientConsumer
    # Celery's own handler for SIGHUP restarts the worker without a look at its settings, and not as it was started
    # (`python -m celery` ends with an ImportError then). Ours is worker/reload.
    celery_worker.install_worker_restart_handler = lambda worker: None  # type: ignore[attr-defined]  # not in the stubs
    GuardedChannel.writes = True


@signals.worker_init.connect
def refuse_what_is_not_ours(sender: Any, **_: Any) -> None:
    """Celery's own tasks (`celery.map`, `celery.chord_unlock` …) call others with this worker's rights."""
    GuardedChannel.keep_dead = staticmethod(dead_letter_keeper(current()))
    for name in [name for name in app.tasks if name.startswith("celery.")]:
        app.tasks.unregister(name)


@signals.setup_logging.connect
def set_up_logging(**_: Any) -> None:
    settings = current().settings
    configure_logs(settings.log.format, settings.log.level)
    log_outages_as_info()


@signals.worker_init.connect
def log_settings(**_: Any) -> None:
    settings = current().settings
    # Celery sends this signal before `setup_logging`: these lines would go to standard output, as text.
    configure_logs(settings.log.format, settings.log.level)
    file = settings.origin.file
    log.info("settings_read", file=str(file.absolute()) if file else None, accounts=len(settings.accounts))
    for warning in settings.warnings:
        log.warning("settings_warning", warning=warning)


@signals.worker_init.connect
def examine_redis(**_: Any) -> None:
    """Ends this process if Redis must not be used. While Redis is away, the feeder examines it once it is back."""
    runtime = current()
    try:
        runtime.ledger.identity.confirm()
        policy = evicts(runtime.redis)
    except LedgerRefused as refused:
        log.error("ledger_refused", reason=str(refused), exit=REFUSED_EXIT_CODE)
        raise SystemExit(REFUSED_EXIT_CODE) from refused
    except REDIS_ERRORS:
        return
    if policy:
        log.warning("redis_evicts", policy=policy, remedy="set maxmemory-policy to noeviction, or jobs may vanish")


@signals.worker_shutting_down.connect
def begin_stopping(**_: Any) -> None:
    """Hands back the running uploads that have not passed their commit point, so that the worker ends soon.

    Celery waits for every step that runs, and for a Redis that does not answer: it has a deadline for that.
    """
    GuardedChannel.ends_in_order = True
    current().stopping.set()
    _stop_deadline.begin()


@signals.task_prerun.connect
def bind_log_context(task_id: str, task: Any, **_: Any) -> None:
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(task=task.name, message=task_id)


@signals.task_postrun.connect
def clear_log_context(**_: Any) -> None:
    structlog.contextvars.clear_contextvars()
