"""`chartpost run`: everything on one machine, each part a child process that is started again when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import redis
import structlog

from config.settings import Settings
from tasks.runtime import Runtime
from worker.supervisor.children import Child
from worker.supervisor.valkey import EmbeddedValkey, ValkeyNotStarted

log = structlog.get_logger()

_LOOK_SECONDS = 0.25
_FIRST_RESTART_SECONDS = 0.5
_LONGEST_RESTART_SECONDS = 30.0
_STEADY_SECONDS = 60.0
_GRACE_SECONDS = 60.0
_REVIVE_SECONDS = 2.0


@dataclass
class Part:
    """One child: `python -m worker <command>`. Started again with growing pauses; a steady run resets them."""

    command: Sequence[str]
    child: Child | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    pause: float = field(default=_FIRST_RESTART_SECONDS)

    @property
    def name(self) -> str:
        return self.command[0]

    def start(self) -> None:
        self.child = Child(["worker", *self.command])
        self.started_at = time.monotonic()

    def look(self) -> None:
        """Notice that the child has ended, and start it again when its pause is over."""
        now = time.monotonic()
        exit_code = self.child.exit_code() if self.child else None
        if exit_code is not None:
            if now - self.started_at > _STEADY_SECONDS:
                self.pause = _FIRST_RESTART_SECONDS
            log.error("part_ended", part=self.name, exit=exit_code, restart_seconds=self.pause)
            self.child, self.restart_at = None, now + self.pause
            self.pause = min(self.pause * 2, _LONGEST_RESTART_SECONDS)
        if self.child is None and now >= self.restart_at:
            self.start()

    def stop(self, grace_seconds: float) -> None:
        if self.child and self.child.stop(grace_seconds) is None:
            log.warning("part_killed", part=self.name, grace_seconds=grace_seconds)


class Run:
    """Starts the parts, keeps them running, and stops them in the order in which documents flow."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._valkey = None if settings.redis.url else EmbeddedValkey(settings.data_dir)
        self._stop = threading.Event()
        self._ready_said = False
        self._revive_at = 0.0
        inbox = [Part(["watch"])] if settings.inbox.enabled else []
        self._parts = [*inbox, Part(["intake"]), Part(["worker"])]

    def run(self) -> None:
        """Until SIGTERM or Ctrl-C."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        try:
            if self._valkey:
                self._valkey.start()
            for part in self._parts:
                part.start()
            consuming = consuming_check(Runtime(self._settings))
            while not self._stop.wait(_LOOK_SECONDS):
                self._look(consuming)
        finally:
            self._end()

    def _look(self, consuming: Callable[[], bool]) -> None:
        if self._valkey and not self._valkey.alive():
            self._revive(self._valkey)
        for part in self._parts:
            part.look()
        if not self._ready_said and consuming():
            self._ready_said = True
            log.info("ready", parts=[part.name for part in self._parts], pid=os.getpid())

    def _revive(self, valkey: EmbeddedValkey) -> None:
        """Start the server again. Where it cannot be started, say so once and come back: the disk may be full."""
        if time.monotonic() < self._revive_at:
            return
        if not self._revive_at:
            log.error("valkey_ended")
        try:
            valkey.start()
        except (ValkeyNotStarted, OSError) as error:
            if not self._revive_at:
                log.error("valkey_not_started", reason=str(error))
            self._revive_at = time.monotonic() + _REVIVE_SECONDS
        else:
            self._revive_at = 0.0
            log.info("valkey_started_again")

    def _end(self) -> None:
        log.info("stopping")
        for part in self._parts:
            part.stop(_GRACE_SECONDS)
        if self._valkey:
            self._valkey.stop()
        log.info("stopped")


def consuming_check(process: Runtime) -> Callable[[], bool]:
    """Tells whether a worker consumes and Redis answers; made once, asked often."""

    def consuming() -> bool:
        with contextlib.suppress(redis.RedisError):
            return process.workers.slots() > 0
        return False

    return consuming
