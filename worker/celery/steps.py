"""TODO"""

from __future__ import annotations

import os
import platform
import time
from typing import Any

import structlog
from celery import bootsteps, signals
from celery.worker import state

from tasks.dispatch.workers import Workers
from tasks.runtime import current
from worker.celery.watchdog import LivenessCheck, Watchdog, messages_in

log = structlog.get_logger()

_TICK_SECONDS = 1.0
_SILENCE_SECONDS = 5.0


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
        runtime = current()
        self._workers = Workers(runtime.redis, worker_name(), parent.concurrency, _pulse.alive)
        self._feeder = runtime.feeder(self._workers)
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
        runtime, queues = current(), tuple(parent.app.amqp.queues.consume_from)
        judge = LivenessCheck(
            waiting=lambda: messages_in(runtime.redis, queues),
            busy=lambda: len(state.active_requests) >= parent.concurrency,
            started=lambda: self._started,
            turns=_pulse.alive,
        )
        self._started = 0
        signals.task_prerun.connect(self._count)
        self._watchdog = Watchdog(judge, runtime.settings.worker.lease_seconds, runtime.stopping)
        self._watchdog.start()

    def stop(self, parent: Any) -> None:
        signals.task_prerun.disconnect(self._count)
        self._watchdog.stop()

    def _count(self, **_: Any) -> None:
        self._started += 1


def worker_name() -> str:
    return f"{platform.node()}:{os.getpid()}"
