"""How soon documents flow again after a fault, and whether every worker takes messages again.

Time in which another fault stops everything does not count: it would be charged to the wrong one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

from celery import Celery

from tests.chaos.doors import AWAY
from tests.chaos.parts import Part
from tests.chaos.place import LEASE_SECONDS, Place

CONSUMING_WITHIN_LEASES = 10
_NUDGES = 4
_NUDGE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Flow:
    """How many uploads storage has taken, and how many documents have an outcome."""

    stored: int
    settled: int

    def has_moved_since(self, before: Flow) -> bool:
        return self.stored > before.stored and self.settled > before.settled


@dataclass(slots=True)
class _Recovering:
    fault: str
    before: Flow
    seconds: float = 0.0


@dataclass(slots=True)
class _Returning:
    """A worker that has to take a message, seen by what its log has gained."""

    fault: str
    part: Part
    log_bytes: int
    seconds: float = 0.0

    def seen(self) -> bool:
        with self.part.log_path.open("rb") as log:
            log.seek(self.log_bytes)
            return b'"task": "chartpost.' in log.read()


@dataclass
class Recoveries:
    """`longest` and `returned` are seconds by fault; `absent` the workers that were not seen again."""

    flow: Callable[[], Flow]
    longest: dict[str, float] = field(default_factory=dict)
    returned: dict[str, float] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    _recovering: list[_Recovering] = field(default_factory=list)
    _returning: list[_Returning] = field(default_factory=list)

    def begin(self, fault: str, workers: Iterable[Part] = ()) -> None:
        """A fault has ended. `workers` are those that have to take a message again."""
        self._recovering.append(_Recovering(fault, self.flow()))
        self._returning += [_Returning(fault, part, part.log_path.stat().st_size) for part in workers]

    def tick(self, seconds: float, stopped: bool) -> None:
        """So much time has passed; `stopped`: while a fault stopped everything."""
        if stopped:
            return
        for waiting in self._recovering:
            waiting.seconds += seconds
        for returning in self._returning:
            returning.seconds += seconds if returning.part.able else 0.0

    def look(self) -> None:
        now = self.flow() if self._recovering else None
        for waiting in [each for each in self._recovering if now and now.has_moved_since(each.before)]:
            self._recovering.remove(waiting)
            self.longest[waiting.fault] = max(self.longest.get(waiting.fault, 0.0), waiting.seconds)
        for returning in list(self._returning):
            if returning.seen():
                self._returning.remove(returning)
                self.returned[returning.fault] = max(self.returned.get(returning.fault, 0.0), returning.seconds)
            elif returning.seconds > CONSUMING_WITHIN_LEASES * LEASE_SECONDS:
                self._returning.remove(returning)
                self.absent.append(
                    f"{returning.part.name} took no message within {returning.seconds:.0f} s "
                    f"of the fault: {returning.fault}"
                )

    @property
    def workers_awaited(self) -> bool:
        return bool(self._returning)


class Nudger(threading.Thread):
    """While a worker is awaited: messages about jobs that do not exist, which any worker may take and drop."""

    def __init__(self, place: Place, wanted: Callable[[], bool]) -> None:
        super().__init__(name="nudger", daemon=True)
        self.stopped = threading.Event()
        self._wanted = wanted
        self._sender = Celery(broker=place.url, set_as_current=False)
        self._sender.conf.update(task_publish_retry=False, broker_transport_options={"socket_timeout": 3})

    def run(self) -> None:
        while not self.stopped.wait(_NUDGE_SECONDS):
            if self._wanted():
                with suppress(*AWAY):
                    self._nudge()

    def _nudge(self) -> None:
        for _ in range(_NUDGES):
            self._sender.send_task("chartpost.presign", args=(str(uuid4()),), queue="chartpost.stages")
