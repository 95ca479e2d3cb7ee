"""What a Celery worker process runs beside its tasks: the feeder, the watchdog, the roll-up and the metrics endpoint.

Each is a boot step, which Celery starts and stops with the worker:
https://docs.celeryq.dev/en/stable/userguide/extending.html
"""

from __future__ import annotations

import atexit
import os
import platform
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from celery import bootsteps, signals
from celery.worker import state

from config.celery import STAGE_QUEUE, machine_queue
from tasks.app import queue_of
from tasks.dispatch.workers import Workers
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.redis import REDIS_ERRORS
from tasks.runtime import current
from worker.celery.build import metrics_endpoint
from worker.celery.kombu_guard import GuardedChannel, stop_needless_timer
from worker.celery.watchdog import LivenessCheck, Watchdog, messages_in
from worker.reload.reloader import Reloader
from worker.reload.requests import ReloadRequests

if TYPE_CHECKING:  # it imports prometheus_client, which is for installations with metrics
    from worker.celery.metrics import MetricsEndpoint

log = structlog.get_logger()

_TICK_SECONDS = 2.0
_SILENCE_SECONDS = 5.0  # at each tick the event loop turns
REFUSED_EXIT_CODE = 2  # as for settings that cannot be used


class EventLoopMonitor:
    """Knows when the consumer's event loop last turned. While the broker is away it does not turn at all."""

    def __init__(self) -> None:
        self._turned_at = float("-inf")

    def note_turn(self) -> None:
        self._turned_at = time.monotonic()

    def is_turning(self) -> bool:
        return time.monotonic() - self._turned_at < _SILENCE_SECONDS


# Shared by the steps below. Celery makes each of them itself, so that one cannot be given to the other.
_event_loop = EventLoopMonitor()


class EventLoopMonitorStep(bootsteps.StartStopStep):
    """Notes the turns of the consumer's event loop. It belongs to the consumer: each reconnect starts it again."""

    requires = ("celery.worker.consumer.tasks:Tasks",)  # after the step that begins to consume

    def start(self, parent: Any) -> None:
        # At each turn; a timer of its own would make the loop turn for nothing else.
        parent.hub.on_tick.add(_event_loop.note_turn)
        _event_loop.note_turn()
        stop_needless_timer(parent.connection)

    def stop(self, parent: Any) -> None:
        parent.hub.on_tick.discard(_event_loop.note_turn)


class MachineQueueStep(bootsteps.StartStopStep):
    """Consumes the queue of this worker's machine too, also when the machine takes another name.

    It belongs to the consumer: each reconnect starts it again.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **_: Any) -> None:
        self._queue = ""

    def start(self, parent: Any) -> None:
        self._follow(parent)
        self._timer = parent.timer.call_repeatedly(_TICK_SECONDS, self._follow, (parent,))

    def stop(self, parent: Any) -> None:
        self._timer.cancel()

    def _follow(self, parent: Any) -> None:
        machine, queues = current().machine.name(), parent.app.amqp.queues
        # A worker that was told to consume other queues only (-Q) runs no steps.
        if machine is None or STAGE_QUEUE not in queues.consume_from:
            return
        queue = queue_of(parent.app, machine)
        if queue != self._queue:
            parent.add_task_queue(queue)
            if self._queue:
                parent.cancel_task_queue(self._queue)
            self._queue = queue


class FeederStep(bootsteps.StartStopStep):
    """Runs a feeder in every worker: any of them may end at any time."""

    def start(self, parent: Any) -> None:
        runtime, name = current(), f"{platform.node()}:{os.getpid()}"
        self._workers = Workers(
            runtime.redis,
            name,
            parent.concurrency,
            _event_loop.is_turning,
            machine=runtime.machine.name,
            staging=runtime.staging is not None,
        )
        self._feeder = runtime.feeder(self._workers, self.end_refused)
        self._feeder.start()
        signals.task_postrun.connect(self.poke_feeder)
        log.info("worker_started", worker=name, slots=parent.concurrency)

    def stop(self, parent: Any) -> None:
        signals.task_postrun.disconnect(self.poke_feeder)
        self._feeder.stop()
        self._workers.leave()

    def end_refused(self, refused: LedgerRefused) -> None:
        """Redis is not the one of the start any more: it was wiped, say, and another installation took it over."""
        log.error("ledger_refused", reason=str(refused), exit=REFUSED_EXIT_CODE)
        current().stopping.set()
        state.should_stop = REFUSED_EXIT_CODE  # type: ignore[assignment]  # the stubs know of None only

    def poke_feeder(self, **_: Any) -> None:
        """A slot is free: the next job can be sent now, without waiting for the feeder's next round."""
        self._feeder.poke()


class WatchdogStep(bootsteps.StartStopStep):
    """Ends this worker when its consumer is stuck."""

    def start(self, parent: Any) -> None:
        # The queues that the worker was started for. What it consumes from now is what may be wrong with it.
        runtime, queues = current(), tuple(parent.app.amqp.queues.consume_from)

        def waiting() -> int:
            machine = runtime.machine.name() if STAGE_QUEUE in queues else None
            return messages_in(runtime.redis, (*queues, machine_queue(machine)) if machine else queues)

        self._started_tasks = 0
        liveness = LivenessCheck(
            waiting=waiting,
            busy=lambda: len(state.active_requests) >= parent.concurrency,
            taken=lambda: self._started_tasks + GuardedChannel.taken,
            turning=_event_loop.is_turning,
            # A thread cannot be stopped. Their leases have run out, so that other workers have their jobs.
            hung=lambda: runtime.lease_renewer.hung() >= max(1, parent.concurrency // 4),
        )
        signals.task_prerun.connect(self.count_started_task)
        self._watchdog = Watchdog(liveness, runtime.settings.worker.lease_seconds, runtime.stopping)
        self._watchdog.start()

    def stop(self, parent: Any) -> None:
        signals.task_prerun.disconnect(self.count_started_task)
        self._watchdog.stop()

    def count_started_task(self, **_: Any) -> None:
        self._started_tasks += 1


class MetricsStep(bootsteps.StartStopStep):
    """Serves metrics where the settings name a port. The worker runs without them if no port is free."""

    _endpoint: MetricsEndpoint | None = None

    def include_if(self, parent: Any) -> bool:
        return current().settings.metrics.port > 0

    def start(self, parent: Any) -> None:
        settings = current().settings
        endpoint = metrics_endpoint(current())
        # Which of the processes has which port does not matter: its counters begin at 0 with the process.
        if not endpoint.open(settings.metrics.port, settings.metrics.address, ports=settings.worker.process_count):
            return
        self._endpoint = endpoint
        signals.task_postrun.connect(endpoint.counters.count_step)
        # First of all processors: a higher log level must not stop the counter. In the list itself: loggers that have
        # been used before keep a reference to it.
        structlog.get_config()["processors"].insert(0, endpoint.counters.count_logged)

    def stop(self, parent: Any) -> None:
        if self._endpoint:
            signals.task_postrun.disconnect(self._endpoint.counters.count_step)
            self._endpoint.close()


class RollUpStep(bootsteps.StartStopStep):
    """Counts each day that is over, for reports, in every worker: any of them may end at any time."""

    def start(self, parent: Any) -> None:
        self._chore = current().roll_up_chore()
        self._chore.start()

    def stop(self, parent: Any) -> None:
        self._chore.stop()


class ReloadStep(bootsteps.StartStopStep):
    """Begins this worker again with new settings, when that is asked for or a key's file has changed."""

    def start(self, parent: Any) -> None:
        runtime = current()
        self._reloader = Reloader(runtime.settings, "worker", ReloadRequests(runtime.redis), self.end)
        for account in self._reloader.changed_accounts:
            with suppress(*REDIS_ERRORS):  # it is probed later, then
                runtime.breaker.probe_soon(account)
        signals.worker_shutting_down.connect(self.end_for_good)
        # As the very last act, when tasks and threads have ended.
        atexit.register(self._reloader.restart_if_due)
        self._reloader.start()

    def stop(self, parent: Any) -> None:
        pass

    def end(self) -> None:
        """As SIGTERM does: uploads that have not passed their commit point are handed back."""
        GuardedChannel.ends_in_order = True
        current().stopping.set()
        state.should_stop = os.EX_OK  # type: ignore[assignment]  # the stubs know of None only

    def end_for_good(self, **_: Any) -> None:
        self._reloader.end_for_good()
