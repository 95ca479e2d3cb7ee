"""Injects faults while documents flow: those that stop everything one at a time, and beside them failing processes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.chaos.faults import Fault, FaultContext
from tests.chaos.recovery import Recoveries


@dataclass(slots=True)
class ActiveFault:
    """A fault that has begun. `over` says whether it may end, where time alone does not."""

    fault: Fault
    injection: AbstractContextManager[Callable[[], bool] | None]
    ends_at: float
    over: Callable[[], bool] | None

    def may_end(self, now: float) -> bool:
        return now >= self.ends_at and (self.over is None or self.over())


@dataclass(slots=True)
class Exposure:
    """How often one kind of fault came, and which documents were on their way then."""

    times: int = 0
    in_flight: int = 0
    documents: set[int] = field(default_factory=set)


class FaultSequence:
    """Faults one after the other, in an order that the seed decides. Every kind comes before one comes again."""

    def __init__(self, faults: Sequence[Fault], gap_seconds: tuple[float, float], seed: str, brief: bool) -> None:
        self._faults = faults
        self._brief = brief
        self._gap_seconds = gap_seconds
        self._rng = random.Random(seed)
        self._left: list[Fault] = []
        self._taken = 0
        self._next_at = 0.0

    @property
    def all_taken(self) -> bool:
        return self._taken >= len(self._faults)

    def due(self, now: float) -> Fault | None:
        if now < self._next_at or not self._faults:
            return None
        if not self._left:
            self._left = self._rng.sample(self._faults, len(self._faults))
            self._left.sort(key=lambda fault: fault.late, reverse=True)  # taken from the end
        return self._left[-1]

    def take(self) -> tuple[Fault, float]:
        """The fault that is due, and for how long."""
        fault = self._left.pop()
        self._taken += 1
        return fault, self._within(fault.seconds)

    def rest(self, now: float) -> None:
        self._next_at = now + self._within(self._gap_seconds)

    def _within(self, seconds: tuple[float, float]) -> float:
        return seconds[0] if self._brief else self._rng.uniform(*seconds)


class Injector:
    """Injects faults for `seconds`, and longer until every kind has come. `brief`: each lasts its shortest time."""

    def __init__(
        self,
        context: FaultContext,
        recoveries: Recoveries,
        faults: Iterable[Fault],
        seconds: float,
        seed: int,
        *,
        brief: bool,
    ) -> None:
        self._context = context
        self._recoveries = recoveries
        chosen = list(faults)
        self.exposures = {fault.name: Exposure() for fault in chosen}
        self._until = time.monotonic() + seconds
        everything = [fault for fault in chosen if fault.stops_everything]
        processes = [fault for fault in chosen if not fault.stops_everything]
        self._sequences = {
            True: FaultSequence(everything, (0.8, 2.0), f"world {seed}", brief),
            False: FaultSequence(processes, (1.5, 3.5), f"processes {seed}", brief),
        }
        self._active: list[ActiveFault] = []
        self._ticked_at = time.monotonic()

    @property
    def now_active(self) -> list[str]:
        return [active.fault.name for active in self._active]

    @property
    def over(self) -> bool:
        return not self._active and not self._injecting

    @property
    def _injecting(self) -> bool:
        return time.monotonic() < self._until or not all(sequence.all_taken for sequence in self._sequences.values())

    def tick(self) -> None:
        """End what has lasted long enough, begin what is due."""
        now = time.monotonic()
        stopped = any(active.fault.stops_everything for active in self._active)
        self._recoveries.tick(now - self._ticked_at, stopped)
        self._ticked_at = now
        for active in [each for each in self._active if each.may_end(now)]:
            self._end(active)
        if self._injecting:
            for sequence in self._sequences.values():
                self._begin_from(sequence, now)

    def end_all(self) -> None:
        for active in list(self._active):
            self._end(active)

    def _begin_from(self, sequence: FaultSequence, now: float) -> None:
        fault = sequence.due(now)
        taken = {target for active in self._active for target in active.fault.targets}
        if fault is None or fault.targets & taken:
            return
        fault, seconds = sequence.take()
        in_flight = self._context.tracker.in_flight()
        exposure = self.exposures[fault.name]
        exposure.times, exposure.in_flight = exposure.times + 1, exposure.in_flight + len(in_flight)
        exposure.documents |= in_flight
        injection = fault.inject(self._context)
        over = injection.__enter__()
        self._active.append(ActiveFault(fault, injection, time.monotonic() + seconds, over))
        if not fault.stops_everything:
            sequence.rest(time.monotonic())

    def _end(self, active: ActiveFault) -> None:
        self._active.remove(active)
        active.injection.__exit__(None, None, None)
        fault = active.fault
        self._recoveries.begin(fault.name, self._context.processes.workers if fault.broker else ())
        if fault.stops_everything:
            self._sequences[True].rest(time.monotonic())
