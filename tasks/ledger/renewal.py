"""Keeps the leases of this process's running steps alive, from one thread, for as long as such a step may take."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import redis
import structlog

from config.redaction import crash_site
from config.vital_threads import start_vital
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import error_code, is_outage, log_redis_error
from tasks.model.errors import LeaseLost
from tasks.model.times import steady_seconds

log = structlog.get_logger()

LONGEST_SECONDS = 1800.0
"""Beside the time for a document's bytes, no step takes so long: each of its exchanges has a deadline, and a long list
is put off when its share of the rate limit is used up."""
_SLOWEST_BYTES_PER_SECOND = 25_000  # an upload is cut long before it is as slow as this
_PROMPT_BYTES_PER_SECOND = 250_000


class Renewal:
    """The leases of one running step. The step asks it, before it goes on, whether it still has them all."""

    def __init__(self, leases: Sequence[Lease], lease_seconds: float, longest_seconds: float = math.inf) -> None:
        self.leases = leases
        self._lease_seconds = lease_seconds
        self._longest_seconds = longest_seconds
        self.began_at = steady_seconds()
        # Their holder may have been stopped since they were taken, or have closed other jobs meanwhile.
        self._renewed_at = min(lease.taken_at for lease in leases)
        self._lost = False
        self.hung = False

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

    def end_if_hung(self) -> None:
        """A step that has run for longer than any can take is not renewed any more: another worker takes its jobs.

        Its thread, if it ever comes back, finds the lease lost.
        """
        if not self.hung and steady_seconds() - self.began_at > self._longest_seconds:
            self.hung = self._lost = True
            job = self.leases[0].job
            log.error(
                "step_hangs", job=job.id, account=job.account, step=job.step, seconds=round(self._longest_seconds)
            )


class LeaseRenewer:
    """Renews every third of a lease. One per process; its thread starts with the first step."""

    def __init__(self, ledger: Ledger, *, longest_seconds: float = LONGEST_SECONDS) -> None:
        self._ledger = ledger
        self._longest_seconds = longest_seconds
        self._renewals: set[Renewal] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def renewing(self, leases: Sequence[Lease]) -> Iterator[Renewal]:
        """Keep these leases until the block ends, or has run for longer than any step can take."""
        bytes_seconds = (leases[0].job.document.size_bytes or 0) / _SLOWEST_BYTES_PER_SECOND
        renewal = Renewal(leases, self._ledger.lease_seconds, self._longest_seconds + bytes_seconds)
        with self._lock:
            self._renewals.add(renewal)
            if self._thread is None:
                self._thread = start_vital(self._run, "lease-renewer")
        try:
            yield renewal
        finally:
            with self._lock:
                self._renewals.discard(renewal)

    def hung(self) -> int:
        """How many steps hang: each holds a slot of this process for ever."""
        with self._lock:
            return sum(renewal.hung for renewal in self._renewals)

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        failing = ""
        while not self._stopped.wait(self._ledger.lease_seconds / 3):
            with self._lock:
                renewals = list(self._renewals)
            for renewal in renewals:
                renewal.end_if_hung()
            try:
                self._renew([renewal for renewal in renewals if not renewal.hung])
                failing = ""
            except redis.RedisError as error:
                # Once while it lasts. Steps find out by `check` when it lasts for a whole lease.
                if failing != error_code(error):
                    log.warning("leases_not_renewed", error=type(error).__name__, code=error_code(error))
                    if not is_outage(error):
                        log_redis_error(error, part="leases")
                failing = error_code(error)
            except Exception as error:  # noqa: BLE001, outermost: such as no descriptor that is free
                log.error("leases_not_renewed", **crash_site(error))

    def _renew(self, renewals: Sequence[Renewal]) -> None:
        pairs = [(renewal, (lease.job.id, lease.token)) for renewal in renewals for lease in renewal.leases]
        # Taken before Redis is asked: a lease runs from then at the latest, so ours never seems longer than it is.
        asked_at = steady_seconds()
        slow = {renewal.leases[0].job.id for renewal in renewals if self.is_slow(renewal, asked_at)}
        kept = self._ledger.renew((pair for _, pair in pairs), slow)
        for (renewal, _), is_kept in zip(pairs, kept, strict=True):
            renewal.renewed(asked_at) if is_kept else renewal.lost()

    def is_slow(self, renewal: Renewal, now: float) -> bool:
        return now - renewal.began_at > prompt_seconds(renewal.leases[0], self._ledger.lease_seconds)


def prompt_seconds(lease: Lease, lease_seconds: float) -> float:
    """A step that has ended within this time has ended well within the time that it may take."""
    return lease_seconds / 3 + (lease.job.document.size_bytes or 0) / _PROMPT_BYTES_PER_SECOND
