"""`chartpost run`: the whole service on one machine, each part a child process.

Most of a start is imports. So `run` imports all that its parts need, and forks them before it makes any thread or
connection. A part that ends later is started as a new interpreter, from the code and settings of that time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from itertools import groupby

import redis
import structlog

from config.load import ensure_secret_key
from config.settings import Settings
from tasks.dispatch.workers import Workers
from tasks.ledger.redis import REDIS_ERRORS
from tasks.ledger_runtime import LedgerRuntime
from tasks.providers.table import KINDS
from worker.reload.reloader import at_terminal
from worker.supervisor.children import SupervisedProcess
from worker.supervisor.fork import may_fork
from worker.supervisor.signal_wait import SignalWait
from worker.supervisor.valkey import EmbeddedValkey, ValkeyNotStarted

log = structlog.get_logger()

_CHECK_SECONDS = 0.25
_REST_SECONDS = 5.0  # while all runs: a signal tells of an end, and this is for one that did not
_GRACE_SECONDS = 60.0
_VALKEY_RETRY_SECONDS = 2.0
# What the parts import. Not `worker.celery.worker_app`, which patches kombu and is for workers alone.
_IMPORTED_BY_PARTS = (
    "celery.apps.worker",
    "celery.backends.redis",
    "celery.bin.worker",
    "celery.concurrency.thread",
    "kombu.transport.redis",
    "tasks.celery_tasks",
    "worker.celery.build",
    "worker.celery.steps",
    "worker.celery.task_events",
    "worker.inbox.build",
    "worker.stream.build",
)


class Supervisor:
    """Starts the parts and keeps them running until SIGTERM or Ctrl-C. Valkey is one unless `redis.url` is set.

    Raises SettingsError if there is no secret key and none may be made.
    """

    def __init__(self, settings: Settings) -> None:
        # Before the server is started: its files beside a missing key are taken for an earlier ledger.
        self._settings = ensure_secret_key(settings)
        self._valkey = None if settings.redis.url else EmbeddedValkey(settings.data_dir)
        self._valkey_retry_at = 0.0
        self._stop = threading.Event()
        # In the order in which documents flow. They are stopped in this order too, so that a part ends before the one
        # that takes over its documents.
        commands = ("watch", "intake") if settings.inbox.enabled else ("intake",)
        # By now somebody has insisted on settings without an account.
        arguments = () if settings.accounts else ("--empty",)
        self._parts = [
            *(SupervisedProcess(command, *arguments) for command in commands),
            *(_worker(number, arguments) for number in range(1, settings.worker.process_count + 1)),
            *([SupervisedProcess("web", *arguments)] if settings.web.enabled else []),
        ]

    def run(self) -> Sequence[str] | None:
        """None when it has been stopped. In a child that has been forked: the command that it is to run, as a part.

        Raises ValkeyNotStarted, and LedgerRefused before any part is started.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._told_to_stop())
        if not at_terminal():
            signal.signal(signal.SIGHUP, lambda *_: self.reload())
        command = None
        try:
            if self._valkey:
                self._valkey.start()
            self._confirm_ledger()
            command = self._start_parts()
            if command is None:
                self._keep_running()
        finally:
            if command is None:  # else this is a part, and all that runs is its supervisor's
                self._end()
        return command

    def _confirm_ledger(self) -> None:
        """Its connection is closed again: the parts are forked next."""
        runtime = LedgerRuntime(self._settings)  # after Valkey's start, which writes its address down
        with contextlib.suppress(*REDIS_ERRORS):  # each part examines Redis too, once it is there
            runtime.ledger.identity.confirm()
        runtime.redis.close()

    def _start_parts(self) -> Sequence[str] | None:
        """In a forked child, the command that it is to run; None in the supervisor."""
        import_for_parts(self._settings)
        forking = may_fork()
        for part in self._parts:
            if not forking:
                part.start()
            elif part.fork():
                return part.arguments
        return None

    def _keep_running(self) -> None:
        runtime, ready = LedgerRuntime(self._settings), False
        with SignalWait() as signals:
            while not self._stop.is_set():
                if self._valkey and not self._valkey.alive():
                    self._restart_valkey(self._valkey)
                for part in self._parts:
                    part.restart_if_ended()
                if not ready and is_consuming(runtime.workers):
                    ready = True
                    log.info("ready", parts=[part.name for part in self._parts], pid=os.getpid())
                signals.wait(_REST_SECONDS if ready and self._all_run() else _CHECK_SECONDS)

    def _all_run(self) -> bool:
        return all(part.runs for part in self._parts) and (self._valkey is None or self._valkey.alive())

    def _end(self) -> None:
        log.info("stopping")
        for _, parts in groupby(self._parts, lambda part: part.command):
            ending = list(parts)
            for part in ending:  # all workers at the same time, or each might take its forty seconds
                part.send(signal.SIGTERM)
            for part in ending:
                part.wait(_GRACE_SECONDS)
        if self._valkey:  # last: the parts write to it while they end
            self._valkey.stop()
        log.info("stopped")

    def _told_to_stop(self) -> None:
        if self._stop.is_set():  # a second signal hastens each part
            for part in self._parts:
                part.send(signal.SIGTERM)
        self._stop.set()

    def reload(self) -> None:
        """Each part reads its settings again, and replaces itself where they differ. The server goes on."""
        for part in self._parts:
            part.send(signal.SIGHUP)

    def _restart_valkey(self, valkey: EmbeddedValkey) -> None:
        """Start the server again. Where it does not start, log that once and try again later: the disk may be full."""
        if time.monotonic() < self._valkey_retry_at:
            return
        first_try = not self._valkey_retry_at
        if first_try:
            log.error("valkey_ended")
        try:
            valkey.start()
        except (ValkeyNotStarted, OSError) as error:
            if first_try:
                log.error("valkey_not_started", reason=str(error))
            self._valkey_retry_at = time.monotonic() + _VALKEY_RETRY_SECONDS
        else:
            self._valkey_retry_at = 0.0
            log.info("valkey_started_again")


def _worker(number: int, arguments: Sequence[str]) -> SupervisedProcess:
    # Celery knows workers by their names, which are the host's without another word.
    name = () if number == 1 else ("-n", f"celery{number}@%h")
    return SupervisedProcess("worker", *name, *arguments, number=number)


def import_for_parts(settings: Settings) -> None:
    """Import what the parts would import, each for itself."""
    for name in _IMPORTED_BY_PARTS:
        import_module(name)
    if settings.metrics.port:
        import_module("worker.celery.metrics")
    if settings.web.enabled:
        import_module("worker.web.server")
    for kind in {account.provider for account in settings.accounts.values()}:
        KINDS[kind].provider()


def is_consuming(workers: Workers) -> bool:
    """True if Redis answers and a worker takes messages."""
    with contextlib.suppress(redis.RedisError):
        return workers.slots() > 0
    return False
