"""How soon documents flow again after a fault, and whether every worker takes messages again.

Time in which another fault stops everything does not count, since that fault is its cause.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

from celery import Celery

from tests.chaos.clients import UNREACHABLE
from tests.chaos.installation import ChaosInstallation
from tests.chaos.processes import SupervisedProcess
from tests.harness.installation import LEASE_SECONDS

CONSUMING_WITHIN_LEASES = 10
_PROBES = 4
_PROBE_SECONDS = 1.0


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
    """A worker that must take a message again; its log shows it."""

    fault: str
    process: SupervisedProcess
    log_bytes: int
    seconds: float = 0.0

    def seen(self) -> bool:
        with self.process.log_path.open("rb") as log:
            log.seek(self.log_bytes)
            return b'"task": "chartpost.' in log.read()


@dataclass
class Recoveries:
    """`longest` and `returned` are seconds by fault. `absent` names workers that did not take messages again."""

    flow: Callable[[], Flow]
    consuming_within_leases: int = CONSUMING_WITHIN_LEASES
    longest: dict[str, float] = field(default_factory=dict)
    returned: dict[str, float] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    _recovering: list[_Recovering] = field(default_factory=list)
    _returning: list[_Returning] = field(default_factory=list)

    def begin(self, fault: str, workers: Iterable[SupervisedProcess] = ()) -> None:
        """A fault has ended. `workers` are those that have to take a message again."""
        self._recovering.append(_Recovering(fault, self.flow()))
        self._returning += [_Returning(fault, process, process.log_path.stat().st_size) for process in workers]

    def tick(self, seconds: float, stopped: bool) -> None:
        """`seconds` have passed. `stopped`: a fault stopped everything meanwhile."""
        if stopped:
            return
        for waiting in self._recovering:
            waiting.seconds += seconds
        for returning in self._returning:
            returning.seconds += seconds if returning.process.able else 0.0

    def update(self) -> None:
        now = self.flow() if self._recovering else None
        for waiting in [each for each in self._recovering if now and now.has_moved_since(each.before)]:
            self._recovering.remove(waiting)
            self.longest[waiting.fault] = max(self.longest.get(waiting.fault, 0.0), waiting.seconds)
        for returning in list(self._returning):
            if returning.seen():
                self._returning.remove(returning)
                self.returned[returning.fault] = max(self.returned.get(returning.fault, 0.0), returning.seconds)
            elif returning.seconds > self.consuming_within_leases * LEASE_SECONDS:
                self._returning.remove(returning)
                self.absent.append(
                    f"{returning.process.name} took no message within {returning.seconds:.0f} s "
                    f"of the fault: {returning.fault}"
                )

    @property
    def workers_awaited(self) -> bool:
        return bool(self._returning)


class ProbeSender(threading.Thread):
    """Sends messages about jobs that do not exist, while a worker must show that it takes messages."""

    def __init__(self, installation: ChaosInstallation, wanted: Callable[[], bool]) -> None:
        super().__init__(name="probe-sender", daemon=True)
        self.stopped = threading.Event()
        self._wanted = wanted
        self._sender = Celery(broker=installation.redis_url, set_as_current=False)
        self._sender.conf.update(task_publish_retry=False, broker_transport_options={"socket_timeout": 3})

    def run(self) -> None:
        while not self.stopped.wait(_PROBE_SECONDS):
            if self._wanted():
                with suppress(*UNREACHABLE):
                    self._send_probes()

    def _send_probes(self) -> None:
        for _ in range(_PROBES):
            self._sender.send_task("chartpost.presign", args=(str(uuid4()),), queue="chartpost.stages")
