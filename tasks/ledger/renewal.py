"""Keeps the leases of this process's running steps alive, from one thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import redis
import structlog

from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.model.errors import LeaseLost
from tasks.model.times import steady_seconds

log = structlog.get_logger()


class Renewal:
    """The leases of one running step. The step asks it, before it goes on, whether it still has them all."""

    def __init__(self, leases: Sequence[Lease], lease_seconds: float) -> None:
        self.leases = leases
        self._lease_seconds = lease_seconds
        self._renewed_at = steady_seconds()
        self._lost = False

    def check(self) -> None:
        """Raises LeaseLost once a renewal was refused, or none has succeeded for a whole lease."""
        if self._lost:
            raise LeaseLost("The lease was lost: another worker holds the job.")
        # By our own clock: while Redis is away nothing tells that the lease has run out there.
        if steady_seconds() - self._renewed_at >= self._lease_seconds:
            raise LeaseLost("The lease ran out without being renewed: was the process or Redis stopped?")

    def renewed(self, at: float) -> None:
        self._renewed_at = at

    def lost(self) -> None:
        self._lost = True


class LeaseRenewer:
    """Renews every third of a lease. One per process; its thread starts with the first step."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._renewals: set[Renewal] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def renewing(self, leases: Sequence[Lease]) -> Iterator[Renewal]:
        """Keep these leases until the block ends."""
        renewal = Renewal(leases, self._ledger.lease_seconds)
        with self._lock:
            self._renewals.add(renewal)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease-renewer", daemon=True)
                self._thread.start()
        try:
            yield renewal
        finally:
            with self._lock:
                self._renewals.discard(renewal)

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        failing = False
        while not self._stopped.wait(self._ledger.lease_seconds / 3):
            with self._lock:
                renewals = list(self._renewals)
            try:
                self._renew(renewals)
                failing = False
            except redis.RedisError as error:
                # Once per outage. Steps find out by `check` when it lasts for a whole lease.
                if not failing:
                    log.warning("leases_not_renewed", error=type(error).__name__)
                failing = True

    def _renew(self, renewals: Sequence[Renewal]) -> None:
        pairs = [(renewal, (lease.job.id, lease.token)) for renewal in renewals for lease in renewal.leases]
        # Taken before Redis is asked: a lease runs from then at the latest, so ours never seems longer than it is.
        asked_at = steady_seconds()
        kept = self._ledger.renew(pair for _, pair in pairs)
        for (renewal, _), is_kept in zip(pairs, kept, strict=True):
            renewal.renewed(asked_at) if is_kept else renewal.lost()
