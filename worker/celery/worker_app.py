"""The process side of the Celery application: `celery -A worker worker` finds `app` here.

Adds to `tasks.app` what only a worker needs: logging, the feeder, a heartbeat, metrics, an orderly stop, a consumer
that waits for Redis, a watchdog, and guards against faults of Celery 5.7.0.
"""

from __future__ import annotations

import os
import platform
import time
from typing import Any

import structlog
from celery import bootsteps, signals
from celery.worker import state

from config.logs import configure_logs
from tasks.app import app, send_steps
from tasks.dispatch import Feeder
from tasks.process import Process, current
from tasks.workers import Workers
from worker.consumer import PatientConsumer, say_outages_once
from worker.guard import GuardedChannel, guard_kombu
from worker.metrics import MetricsStep
from worker.watchdog import Judge, Watchdog, messages_in

__all__ = ["app"]

log = structlog.get_logger()

_TICK_SECONDS = 1.0
_SILENCE_SECONDS = 5.0

guard_kombu()


class Pulse:
    """When the consumer's event loop last turned. While the broker is away it does not turn at all."""

    def __init__(self) -> None:
        self._turned_at = float("-inf")

    def turn(self) -> None:
        self._turned_at = time.monotonic()

    def alive(self) -> bool:
        return time.monotonic() - self._turned_at < _SILENCE_SECONDS


_pulse = Pulse()


class PulseStep(bootsteps.StartStopStep):
    """Lets the consumer's own event loop say that it turns; started again after each reconnect."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        self._timer = parent.timer.call_repeatedly(_TICK_SECONDS, _pulse.turn)
        _pulse.turn()

    def stop(self, parent: Any) -> None:
        self._timer.cancel()


class FeederStep(bootsteps.StartStopStep):
    """The feeder, in every worker."""

    def start(self, parent: Any) -> None:
        process = current()
        self._workers = Workers(process.redis, worker_name(), parent.concurrency, _pulse.alive)
        self._feeder = feeder_of(process, self._workers)
        self._feeder.start()
        signals.task_postrun.connect(self._poke)
        log.info("worker_started", worker=worker_name(), slots=parent.concurrency)

    def stop(self, parent: Any) -> None:
        signals.task_postrun.disconnect(self._poke)
        self._feeder.stop()
        self._workers.leave()

    def _poke(self, **_: Any) -> None:
        """A slot is free: the next job may be sent at once."""
        self._feeder.poke()


class WatchdogStep(bootsteps.StartStopStep):
    """Ends this worker when it is left behind. What it is to consume is what it was started for."""

    def start(self, parent: Any) -> None:
        process, queues = current(), tuple(parent.app.amqp.queues.consume_from)
        judge = Judge(
            waiting=lambda: messages_in(process.redis, queues),
            busy=lambda: len(state.active_requests) >= parent.concurrency,
            started=lambda: self._started,
            turns=_pulse.alive,
        )
        self._started = 0
        signals.task_prerun.connect(self._count)
        self._watchdog = Watchdog(judge, process.settings.worker.lease_seconds, process.stopping)
        self._watchdog.start()

    def stop(self, parent: Any) -> None:
        signals.task_prerun.disconnect(self._count)
        self._watchdog.stop()

    def _count(self, **_: Any) -> None:
        self._started += 1


app.steps["consumer"].add(PulseStep)
app.steps["worker"].add(FeederStep)
app.steps["worker"].add(WatchdogStep)
app.steps["worker"].add(MetricsStep)


def worker_name() -> str:
    return f"{platform.node()}:{os.getpid()}"


def feeder_of(process: Process, workers: Workers) -> Feeder:
    return Feeder(
        client=process.redis,
        gates=process.gates,
        accounts=process.accounts,
        workers=workers,
        lease_seconds=process.settings.worker.lease_seconds,
        jobs_days=process.settings.retention.jobs_days,
        send=send_steps,
    )


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
