"""Ends a worker that is alive and does nothing, so that its supervisor starts another.

Two ways are known in which Celery's consumer is left behind after a connection was lost: it turns and takes no messages
though it has room, or its event loop stands still. Neither says anything by itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

import redis
import structlog
from celery.worker import state

from tasks.ledger.redis import REDIS_ERRORS, WRITE_TEST_KEY

log = structlog.get_logger()

EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h
LOOKS = 8  # in a row, each with the same finding
_PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")  # the lists of one queue, as kombu names them
_LEASES, _LEAST_SECONDS = 4, 10.0


class LivenessCheck:
    """Finds out from one look after the other what is wrong with this worker.

    Looks are counted, not seconds: a process that was stopped for an hour has not been idle for an hour. `waiting` is
    how many messages wait in the queues that this worker is to consume; it raises Redis's errors, also when Redis
    takes no writes. `busy` tells whether all slots are taken, `started` how many tasks have been started so far.
    """

    def __init__(
        self,
        *,
        waiting: Callable[[], int],
        busy: Callable[[], bool],
        started: Callable[[], int],
        turns: Callable[[], bool],
    ) -> None:
        self._waiting, self._busy, self._started, self._turns = waiting, busy, started, turns
        self._idle = self._still = 0
        self._started_before = -1

    def look(self) -> str | None:
        """Why this worker should end, if it should."""
        try:
            waiting = self._waiting()
        except REDIS_ERRORS:
            self._idle = self._still = 0  # nobody could work
            return None
        started, before = self._started(), self._started_before
        self._started_before = started
        self._idle = self._idle + 1 if waiting and started == before and not self._busy() else 0
        self._still = 0 if self._turns() else self._still + 1
        if self._still >= LOOKS:
            return "Its event loop stands still although Redis is there."
        if self._idle >= LOOKS:
            return "Messages wait and slots are free, but it takes none."
        return None


class Watchdog:
    """Looks in a thread of its own, from the worker's start until it is told to stop."""

    def __init__(self, liveness: LivenessCheck, lease_seconds: float, stopping: threading.Event) -> None:
        self._liveness = liveness
        self._patience = max(_LEASES * lease_seconds, _LEAST_SECONDS)
        self._stopping = stopping
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._patience / LOOKS):
            if self._stopping.is_set():
                return
            why = self._liveness.look()
            if why:
                self._end(why)
                return

    def _end(self, why: str) -> None:
        """As SIGTERM does, with an exit code that tells of it; by force if that leads to nothing."""
        log.error("worker_ends_itself", reason=why, exit=EXIT_CODE)
        self._stopping.set()
        state.should_stop = EXIT_CODE  # type: ignore[assignment]  # the stubs know of None only
        threading.Event().wait(self._patience / 2)
        log.error("worker_ended_by_force", exit=EXIT_CODE)
        os._exit(EXIT_CODE)


def messages_in(client: redis.Redis, queues: Sequence[str]) -> int:
    """How many messages wait. Raises Redis's errors, also when it answers but takes no writes."""
    with client.pipeline(transaction=False) as pipe:
        pipe.set(WRITE_TEST_KEY, "1", px=1000)
        for queue in queues:
            for priority in _PRIORITIES:
                pipe.llen(queue + priority)
        return sum(pipe.execute()[1:])
