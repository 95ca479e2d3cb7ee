"""Ends a worker that is alive and does nothing, so that its supervisor starts another.

After a lost connection, Celery 5.7.0's consumer can get stuck in two ways, and logs nothing about either: its event
loop turns but it takes no messages although slots are free, or its event loop stands still.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

import redis
import structlog
from celery.worker import state

from config.celery import lists_of
from config.vital_threads import EXIT_CODE, start_vital
from tasks.ledger import keys
from tasks.ledger.redis import REDIS_ERRORS

log = structlog.get_logger()

CHECKS = 8  # this many in a row must find the same fault

# How long a fault must last, all checks together. Several leases: a healthy worker has started a task by then.
_PATIENCE_LEASES, _LEAST_PATIENCE_SECONDS = 4, 10.0


class LivenessCheck:
    """Finds from repeated checks whether this worker is stuck.

    Checks are counted, not seconds: a process that was stopped for an hour has not been idle for an hour. `waiting` is
    how many messages wait in the queues that this worker must consume; it raises Redis's errors, also when Redis
    takes no writes. `busy` is True while all slots are taken, `taken` counts what it has taken so far, also messages
    that become no task. `turning` is True while the consumer's event loop turns. `hung` is True while steps that never
    end hold a quarter of the slots.
    """

    def __init__(
        self,
        *,
        waiting: Callable[[], int],
        busy: Callable[[], bool],
        taken: Callable[[], int],
        turning: Callable[[], bool],
        hung: Callable[[], bool] = lambda: False,
    ) -> None:
        self._waiting = waiting
        self._busy = busy
        self._taken = taken
        self._turning = turning
        self._hung = hung
        self._idle_checks = self._frozen_checks = 0
        self._taken_before = -1

    def check(self) -> str | None:
        """Why this worker should end; None while it should not."""
        try:
            waiting = self._waiting()
        except REDIS_ERRORS:
            self._idle_checks = self._frozen_checks = 0  # without Redis no worker could work
            return None
        taken, taken_before = self._taken(), self._taken_before
        self._taken_before = taken
        idle = waiting and taken == taken_before and not self._busy()
        self._idle_checks = self._idle_checks + 1 if idle else 0
        self._frozen_checks = 0 if self._turning() else self._frozen_checks + 1
        if self._hung():
            return "Steps hang, and hold a quarter of its slots."
        if self._frozen_checks >= CHECKS:
            return "Its event loop stands still although Redis is there."
        if self._idle_checks >= CHECKS:
            return "Messages wait and slots are free, but it takes none."
        return None


class Watchdog:
    """Checks in a thread of its own, from the worker's start until its stop."""

    def __init__(self, liveness: LivenessCheck, lease_seconds: float, stopping: threading.Event) -> None:
        self._liveness = liveness
        self._patience_seconds = max(_PATIENCE_LEASES * lease_seconds, _LEAST_PATIENCE_SECONDS)
        self._stopping = stopping
        self._stopped = threading.Event()

    def start(self) -> None:
        start_vital(self.run, "watchdog")

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.wait(self._patience_seconds / CHECKS):
            if self._stopping.is_set():
                return
            why = self._liveness.check()
            if why:
                self._end_worker(why)

    def _end_worker(self, why: str) -> NoReturn:
        """End the process as SIGTERM does, with an exit code of its own; by force if it does not end."""
        log.error("worker_ends_itself", reason=why, exit=EXIT_CODE)
        self._stopping.set()
        state.should_stop = EXIT_CODE  # type: ignore[assignment]  # the stubs know of None only
        # An event loop that stands still never reads `should_stop`. `stop` need not interrupt this sleep: when the
        # worker does end, this daemon thread ends with its process.
        time.sleep(self._patience_seconds / 2)
        log.error("worker_ended_by_force", exit=EXIT_CODE)
        os._exit(EXIT_CODE)


def messages_in(client: redis.Redis, queues: Sequence[str]) -> int:
    """How many messages wait. Raises Redis's errors, also when Redis answers but takes no writes."""
    with client.pipeline(transaction=False) as pipe:
        pipe.set(keys.WRITE_TEST, "1", px=1000)
        for queue in queues:
            for name in lists_of(queue):
                pipe.llen(name)
        return sum(pipe.execute()[1:])
