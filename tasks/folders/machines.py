"""The machines that share one Redis: each is one `data_dir`, and holds its name in Redis as long as it is in use.

What a job's files need is done on the machine where they lie. A copy of a `data_dir` (a host made from another's image,
a restored backup) would bear the same name, and be given jobs whose files it does not have. So the name goes with a
mark that changes at each start of a service, in the file and in Redis. Folders whose mark is not the one in Redis are a
copy, or are what was copied: they take a new name. The watcher then binds the jobs in its `processing/` to it.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import redis

from config.late_log import LateLog
from tasks.folders.machine_name import (
    MachineName,
    machine_name,
    machine_name_locked,
    read_machine_name,
    write_machine_name,
)
from tasks.ledger import keys
from tasks.ledger.keys import PREFIX
from tasks.ledger.script_loader import load_script
from tasks.model.times import from_ms

log = LateLog(__name__)

_REREAD_SECONDS = 1.0
_BEAT_SECONDS = 2.0
_ALIVE_SECONDS = 10.0
# A sibling on a network share may have changed the mark a moment ago: only a mark that stays wrong is a copy's.
_TIMES_WRONG = 3


class Machine:
    """This machine, by its `data_dir`."""

    def __init__(self, client: redis.Redis, data_dir: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = client
        self._data_dir = data_dir
        self._clock = clock
        self._hold_machine = load_script(client, "hold_machine")
        self._lock = threading.Lock()
        self._name: str | None = None
        self._read_at = self._beaten_at = float("-inf")
        self._times_wrong = 0
        self._taken = self._warned = False

    def name(self) -> str | None:
        """The name; None where `data_dir` cannot be written and has none. Such a machine has no files in its care."""
        with self._lock:
            if self._clock() - self._read_at > _REREAD_SECONDS:
                try:
                    self._name = machine_name(self._data_dir)
                except OSError:
                    self._name = None
                self._read_at = self._clock()
            return self._name

    def beat(self, *, watches: bool = False) -> None:
        """Hold the name: of a service, at its start and every two seconds. `watches`: the service is a watcher.

        Raises Redis's errors. Where `data_dir` cannot be written the name stays as it is.
        """
        if self._clock() - self._beaten_at < _BEAT_SECONDS:
            return
        self._beaten_at = self._clock()
        try:
            if not self._taken:
                self._take_name()
                self._taken = True
            found = read_machine_name(self._data_dir)
            if found is None or not found.mark:
                return
            if watches:
                self._redis.set(keys.watcher(found.name), "1", px=int(_ALIVE_SECONDS * 1000))
            self._times_wrong = 0 if self._held(found) else self._times_wrong + 1
            if self._times_wrong >= _TIMES_WRONG:
                self._times_wrong = 0
                with machine_name_locked(self._data_dir):
                    # Unless a sibling has done so already.
                    if read_machine_name(self._data_dir) == found:
                        self._rename(found)
        except OSError as error:
            if not self._warned:
                log.warning("machine_not_marked", error=type(error).__name__)
            self._warned = True

    def _take_name(self) -> None:
        """At the start of a service: hold the name under a new mark, or take a new name if others hold this one."""
        machine_name(self._data_dir)
        with machine_name_locked(self._data_dir):
            found = read_machine_name(self._data_dir)
            if found is None:
                return
            marked = MachineName(found.name, uuid4().hex)
            if self._held(found, marked.mark):
                write_machine_name(self._data_dir, marked)
                self._held(marked)
            else:
                self._rename(found)

    def _held(self, machine: MachineName, next_mark: str = "") -> bool:
        args = [PREFIX, machine.name, machine.mark, next_mark, platform.node()]
        return bool(self._hold_machine(args=args))

    def _rename(self, found: MachineName) -> None:
        renamed = MachineName(str(uuid4()), uuid4().hex)
        write_machine_name(self._data_dir, renamed)
        self._held(renamed)
        self._read_at = float("-inf")
        log.warning("machine_renamed", machine=renamed.name, before=found.name)


@dataclass(frozen=True, slots=True)
class KnownMachine:
    """A machine as Redis knows it."""

    name: str
    # Where it was last in use.
    host: str
    seen_at: datetime
    # A watcher runs there.
    watches: bool
    # Workers have run there, and sent documents of calls or stream messages.
    sends: bool

    def __str__(self) -> str:
        """As sentences name it. Hosts of containers have chance names, so a part of its own name goes with it."""
        return f"{self.host} ({self.name[:8]})"


def known_machines(client: redis.Redis) -> dict[str, KnownMachine]:
    """Every machine that was in use within 31 days, by its name."""
    machines = {}
    for name in sorted(str(name) for name in client.smembers(keys.MACHINES)):
        host, seen_at, sends = client.hmget(keys.machine(name), "host", "seen_at", "sends")
        if seen_at is None:
            continue
        watches = bool(client.exists(keys.watcher(name)))
        machines[name] = KnownMachine(name, str(host), from_ms(float(seen_at)), watches, sends is not None)
    return machines
