"""What a provider is given in tests: a cache, a limiter, a gate, jobs."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.http.clients import Clients
from tasks.http.provider_clock import ProviderClock
from tasks.model.document import Document
from tasks.model.errors import RetryLater
from tasks.model.job import Facts, Job
from tasks.model.route import Stage, Step
from tasks.providers.connection import Connection
from tasks.sources.base import OpenSource

THEN = datetime(2026, 11, 21, 10, tzinfo=UTC)
_numbers = itertools.count(1)


class DictCache:
    """Implements `Cache` in a dict, by `clock`; a test may clear `values`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.values: dict[tuple[str, str], str] = {}
        self.seconds: list[float] = []
        self._put_at: dict[tuple[str, str], float] = {}
        self._until: dict[tuple[str, str], float] = {}
        self._turns: dict[tuple[str, str], threading.Lock] = {}

    def pass_seconds(self, seconds: float) -> None:
        """As if so much time had passed."""
        for entry in self._until:
            self._until[entry] -= seconds

    def get(self, topic: str, key: str) -> str | None:
        fresh = self.clock() < self._until.get((topic, key), 0.0)
        return self.values.get((topic, key)) if fresh else None

    def get_with_age(self, topic: str, key: str) -> tuple[str, float] | None:
        value = self.get(topic, key)
        return None if value is None else (value, self.clock() - self._put_at[topic, key])

    def put(self, topic: str, key: str, value: str, seconds: float) -> None:
        self.values[topic, key] = value
        self._put_at[topic, key] = self.clock()
        self._until[topic, key] = self.clock() + seconds
        self.seconds.append(seconds)

    def drop(self, topic: str, key: str) -> None:
        self.values.pop((topic, key), None)
        self._until.pop((topic, key), None)

    @contextmanager
    def lock_if_free(self, topic: str, key: str, seconds: float) -> Iterator[Callable[[], object] | None]:
        lock = self._turns.setdefault((topic, key), threading.Lock())
        if not lock.acquire(blocking=False):
            yield None
            return
        try:
            yield lambda: None
        finally:
            lock.release()

    def lock(self, topic: str, key: str, seconds: float) -> AbstractContextManager[None]:
        return self._turn(self._turns.setdefault((topic, key), threading.Lock()))

    @contextmanager
    def _turn(self, lock: threading.Lock) -> Iterator[None]:
        with lock:
            yield


class Slots:
    """A limiter with so many slots, and a count of the calls made."""

    def __init__(self) -> None:
        self.free = 1_000_000
        self.calls = 0
        # Of pages of lists after their first.
        self.free_pages = 1_000_000

    def take_page(self) -> None:
        if not self.free_pages:
            raise RetryLater("No page is free.", after_seconds=1)
        self.free_pages -= 1

    def take(self) -> None:
        if not self.free:
            raise RetryLater("No slot is free.", after_seconds=1)
        self.free -= 1

    def count(self) -> None:
        self.calls += 1


def connected(
    clients: Clients, slots: Slots, cache: DictCache, *, insecure: bool = True, clock: ProviderClock | None = None
) -> Connection:
    """A connection to servers on this machine."""
    return Connection(
        clients=clients,
        limiter=slots.take,
        list_limiter=slots.take_page,
        on_call=slots.count,
        cache=cache,
        insecure=insecure,
        clock=clock or ProviderClock(),
    )


def job(
    *,
    patient_id: str | None = "4711",
    file_name: str = "referral.pdf",
    size_bytes: int = 10,
    account: str = "north_clinic",
    **facts: Any,
) -> Job:
    """A job as the ledger gives it; later ones are younger."""
    number = next(_numbers)
    document = Document(account, patient_id, "file:///a", file_name, size_bytes)
    return Job(
        id=f"job-{number}",
        provider="pracsuite",
        stage=Stage.RECEIVED,
        step=Step.PRESIGN,
        document=document,
        facts=Facts(**facts),
        created_at=THEN + timedelta(seconds=number),
        updated_at=THEN,
    )


def clock_ahead(seconds: float) -> ProviderClock:
    """The provider's clock as a machine knows it whose own clock is so far ahead of the true time."""
    return ProviderClock(now=lambda: time.time() + seconds)


class CountingGate:
    """Counts its commits, beginning with those of the gate `before`; `open` returns a test's source."""

    def __init__(self, open_source: Callable[[], OpenSource] | None = None, before: CountingGate | None = None) -> None:
        self.commits: int = before.commits if before else 0
        self._open = open_source

    def open(self) -> OpenSource:
        assert self._open is not None, "this document cannot be opened"
        return self._open()

    def check(self) -> None:
        pass

    def commit(self) -> None:
        self.commits += 1


NO_GATE = CountingGate()
NO_OWNERS: Mapping[str, str] = {}
