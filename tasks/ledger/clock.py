"""The ledger's clock, which nobody can set. `scripts/parts/clock.lua` says how it goes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from uuid import uuid4

import redis

from tasks.ledger import keys
from tasks.ledger.keys import PREFIX
from tasks.ledger.script_loader import load_script
from tasks.model.times import from_ms, steady_seconds

_MANY_BOOTS = 100


@dataclass(frozen=True, slots=True)
class ClockReading:
    """Both clocks at one moment, in ms since 1970."""

    # The ledger's: for leases, due times and budgets.
    now_ms: int
    # Redis's own: for people.
    wall_ms: int

    @property
    def ahead_ms(self) -> int:
        """How far the ledger's clock is ahead of Redis's: 0 unless that was set, or nobody worked for a while."""
        return self.now_ms - self.wall_ms

    def for_people(self, ledger_ms: float | str) -> datetime:
        """When a moment of the ledger's clock is by Redis's."""
        return from_ms(float(ledger_ms) - self.ahead_ms)


class LedgerClock:
    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._read = load_script(client, "read_clock")

    def read(self) -> ClockReading:
        now_ms, wall_ms = self._read(args=[PREFIX])
        return ClockReading(int(now_ms), int(wall_ms))

    def note_set(self, clock: ClockReading, by_ms: int) -> None:
        """Note, for people, that Redis's clock was set while a worker ran, and by how much."""
        self._redis.hset(keys.CLOCK, mapping={"set_at": clock.wall_ms, "set_by": by_ms})

    def forget_boots(self) -> None:
        """Forget the boots of machines when there are many; those that run are noted again at once."""
        names = [str(name) for name in self._redis.hkeys(keys.CLOCK) if str(name).startswith("boot:")]
        if len(names) > _MANY_BOOTS:
            self._redis.hdel(keys.CLOCK, *names)

    def last_set(self) -> tuple[datetime, int] | None:
        """When Redis's clock was last seen to be set, by itself, and by how many ms."""
        at, by_ms = self._redis.hmget(keys.CLOCK, "set_at", "set_by")
        return (from_ms(str(at)), int(by_ms)) if at and by_ms else None


@cache
def boot() -> str:
    """Names the time since which `since_boot_ms` counts: the same in all processes of a machine, until it is restarted.

    Where the system does not tell, it names this process.
    """
    try:
        machine_boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # Containers may have a time namespace, in which that clock shows another time: time_namespaces(7).
        return f"{machine_boot}:{Path('/proc/self/ns/time').stat().st_ino}"
    except OSError:
        return str(uuid4())


def since_boot_ms() -> int:
    return int(steady_seconds() * 1000)
