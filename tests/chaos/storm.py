"""Injects faults while documents flow: one kind that stops everything at a time, and failing processes beside it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.chaos.faults import Fault, Scene
from tests.chaos.recovery import Recoveries


@dataclass(slots=True)
class Injection:
    """One fault at work, and which documents were on their way when it came."""

    fault: Fault
    act: AbstractContextManager[Callable[[], bool] | None]
    ends_at: float
    over: Callable[[], bool] | None

    def may_end(self, now: float) -> bool:
        return now >= self.ends_at and (self.over is None or self.over())


@dataclass(slots=True)
class Met:
    """What one kind of fault has met: how often it came, and the documents on their way then."""

    times: int = 0
    in_flight: int = 0
    documents: set[int] = field(default_factory=set)


class Lane:
    """Faults one after the other, in an order that the seed decides; every kind comes before one comes again."""

    def __init__(self, faults: Sequence[Fault], gap_seconds: tuple[float, float], seed: str, brief: bool) -> None:
        self._faults = faults
        self._brief = brief
        self._gap_seconds = gap_seconds
        self._rng = random.Random(seed)
        self._deck: list[Fault] = []
        self._dealt = 0
        self._at = 0.0

    @property
    def all_dealt(self) -> bool:
        return self._dealt >= len(self._faults)

    def due(self, now: float) -> Fault | None:
        if now < self._at or not self._faults:
            return None
        if not self._deck:
            self._deck = self._rng.sample(self._faults, len(self._faults))
            self._deck.sort(key=lambda fault: fault.late, reverse=True)  # taken from the end
        return self._deck[-1]

    def take(self) -> tuple[Fault, float]:
        """The fault that is due, and for how long."""
        fault = self._deck.pop()
        self._dealt += 1
        return fault, self._within(fault.seconds)

    def rest(self, now: float) -> None:
        self._at = now + self._within(self._gap_seconds)

    def _within(self, seconds: tuple[float, float]) -> float:
        return seconds[0] if self._brief else self._rng.uniform(*seconds)


class Storm:
    """Lasts `seconds`, and on until every kind has come. `brief`: each no longer than it has to be."""

    def __init__(
        self, scene: Scene, recoveries: Recoveries, faults: Iterable[Fault], seconds: float, seed: int, *, brief: bool
    ) -> None:
        self._scene = scene
        self._recoveries = recoveries
        chosen = list(faults)
        self.met = {fault.name: Met() for fault in chosen}
        self._until = time.monotonic() + seconds
        everything = [fault for fault in chosen if fault.stops_all]
        processes = [fault for fault in chosen if not fault.stops_all]
        self._lanes = {
            True: Lane(everything, (0.8, 2.0), f"world {seed}", brief),
            False: Lane(processes, (1.5, 3.5), f"processes {seed}", brief),
        }
        self._active: list[Injection] = []
        self._looked_at = time.monotonic()

    @property
    def now_active(self) -> list[str]:
        return [injection.fault.name for injection in self._active]

    @property
    def over(self) -> bool:
        return not self._active and not self._goes_on

    @property
    def _goes_on(self) -> bool:
        return time.monotonic() < self._until or not all(lane.all_dealt for lane in self._lanes.values())

    def tick(self) -> None:
        """End what has lasted long enough, begin what is due."""
        now = time.monotonic()
        stopped = any(injection.fault.stops_all for injection in self._active)
        self._recoveries.tick(now - self._looked_at, stopped)
        self._looked_at = now
        for injection in [each for each in self._active if each.may_end(now)]:
            self._end(injection)
        if self._goes_on:
            for lane in self._lanes.values():
                self._begin_from(lane, now)

    def end_all(self) -> None:
        for injection in list(self._active):
            self._end(injection)

    def _begin_from(self, lane: Lane, now: float) -> None:
        fault = lane.due(now)
        taken = {target for injection in self._active for target in injection.fault.targets}
        if fault is None or fault.targets & taken:
            return
        fault, seconds = lane.take()
        on_their_way = self._scene.progress.in_flight()
        met = self.met[fault.name]
        met.times, met.in_flight = met.times + 1, met.in_flight + len(on_their_way)
        met.documents |= on_their_way
        act = fault.act(self._scene)
        over = act.__enter__()
        self._active.append(Injection(fault, act, time.monotonic() + seconds, over))
        if not fault.stops_all:
            lane.rest(time.monotonic())

    def _end(self, injection: Injection) -> None:
        self._active.remove(injection)
        injection.act.__exit__(None, None, None)
        fault = injection.fault
        self._recoveries.begin(fault.name, self._scene.parts.workers if fault.broker else ())
        if fault.stops_all:
            self._lanes[True].rest(time.monotonic())
