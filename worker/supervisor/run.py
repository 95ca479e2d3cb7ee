"""`chartpost run`: the whole service on one machine, each part a child process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import redis
import structlog

from config.load import ensure_secret_key
from config.settings import Settings
from tasks.dispatch.workers import Workers
from tasks.ledger.redis import REDIS_ERRORS
from tasks.runtime import Runtime
from worker.reload.reloader import at_terminal
from worker.supervisor.children import SupervisedProcess
from worker.supervisor.valkey import EmbeddedValkey, ValkeyNotStarted

log = structlog.get_logger()

_CHECK_SECONDS = 0.25
_GRACE_SECONDS = 60.0
_VALKEY_RETRY_SECONDS = 2.0


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
        commands = ("watch", "intake", "worker") if settings.inbox.enabled else ("intake", "worker")
        # By now somebody has insisted on settings without an account.
        arguments = () if settings.accounts else ("--empty",)
        self._parts = [SupervisedProcess(command, *arguments) for command in commands]

    def run(self) -> None:
        """Raises ValkeyNotStarted, and LedgerRefused before any part is started."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        if not at_terminal():
            signal.signal(signal.SIGHUP, lambda *_: self.reload())
        try:
            if self._valkey:
                self._valkey.start()
            runtime, ready = Runtime(self._settings), False  # after Valkey's start, which writes its address down
            with contextlib.suppress(*REDIS_ERRORS):  # each part examines Redis too, once it is there
                runtime.ledger.identity.confirm()
            for part in self._parts:
                part.start()
            while not self._stop.wait(_CHECK_SECONDS):
                if self._valkey and not self._valkey.alive():
                    self._restart_valkey(self._valkey)
                for part in self._parts:
                    part.restart_if_ended()
                if not ready and is_consuming(runtime.workers):
                    ready = True
                    log.info("ready", parts=[part.name for part in self._parts], pid=os.getpid())
        finally:
            log.info("stopping")
            for part in self._parts:
                part.stop(_GRACE_SECONDS)
            if self._valkey:  # last: the parts write to it while they end
                self._valkey.stop()
            log.info("stopped")

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


def is_consuming(workers: Workers) -> bool:
    """True if Redis answers and a worker takes messages."""
    with contextlib.suppress(redis.RedisError):
        return workers.slots() > 0
    return False
