"""The circuit breaker of each account, in Redis and shared by all workers.

Closed: the account works (`ok`). Open: nothing is sent (`parked`: credentials or set-up were refused; `down`: the
provider does not answer), and a probe tries it at growing intervals. Half-open: a probe has succeeded, and documents
go one at a time until one is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import redis

from tasks.ledger import keys
from tasks.ledger.clock import LedgerClock
from tasks.ledger.keys import PREFIX
from tasks.ledger.script_loader import load_script
from tasks.model.job import Job
from tasks.model.times import from_ms

_REMARK_SECONDS = 900  # longer than the longest back-off, after which it is said again
_FAILURES_UNTIL_DOWN = 5  # in a row: single failures are common, and each is retried anyway


@dataclass(frozen=True, slots=True)
class OpenCircuit:
    """Why an account is not used."""

    # parked or down
    status: str
    reason: str
    # The job that parked the account. Empty if it is down, or a person parked it.
    job_id: str
    # By Redis's clock, as people read it: since when, and when the next probe is due.
    since: datetime
    probe_at: datetime


class CircuitBreaker:
    """The pipeline and the probes report to it. `take_due.lua` reads its state before jobs are sent."""

    def __init__(self, client: redis.Redis, *, probe_first_seconds: float, probe_cap_seconds: float) -> None:
        self._redis = client
        self._probe_first_ms = int(probe_first_seconds * 1000)
        self._probe_cap_ms = int(probe_cap_seconds * 1000)
        self._clock = LedgerClock(client)
        self._open_circuit = load_script(client, "open_circuit")
        self._take_probe = load_script(client, "take_probe")
        self._half_open = load_script(client, "half_open")

    def park(self, account: str, reason: str, job_id: str = "") -> str:
        """Credentials or set-up are wrong: nothing is sent until a probe succeeds. Returns the account's state."""
        return self._open(account, "parked", reason, job_id)

    def unreachable(self, account: str, reason: str) -> str:
        """The provider did not answer. After several times in a row the account is down. Returns its state."""
        return self._open(account, "down", reason, "")

    def remark(self, account: str, sentence: str) -> None:
        """Say it with the account's status for a while. Nothing is stopped: it concerns few documents."""
        self._redis.set(keys.remark(account), sentence, ex=_REMARK_SECONDS)

    def remarked(self, account: str) -> str:
        """What was said of the account within the last while; else empty."""
        return str(self._redis.get(keys.remark(account)) or "")

    def take_probe(self, account: str) -> bool:
        """True if the caller must probe this account now. Of all workers, one gets this answer."""
        return bool(self._take_probe(args=[PREFIX, account, self._probe_cap_ms]))

    def probe_soon(self, account: str) -> None:
        """Make the next probe due now: its keys have changed. Nothing happens to an account that is well."""
        if self.state(account):
            # The interval begins at the first one again: what made it grow was another key.
            changes = {"probe_at": self._clock.read().now_ms, "interval": self._probe_first_ms}
            self._redis.hset(keys.account(account), mapping=changes)  # type: ignore[arg-type]  # numbers do too

    def half_open(self, account: str) -> bool:
        """A probe has succeeded: send documents one at a time. False if the account was not parked or down."""
        # Not closed yet: a document needs more than a probe, such as a destination that exists. One failure opens the
        # circuit again, for longer. One document that the provider takes closes it (`provider_answered` of its move).
        return bool(self._half_open(args=[PREFIX, account]))

    def progress_since(self, account: str, moment: datetime) -> bool:
        """True if a document of this account has been stored or delivered since then, by the ledger's clock."""
        at = self._row(account).get("progress_at")
        return at is not None and from_ms(at) > moment

    def unusable_seconds(self, account: str, now: datetime) -> float:
        """How long the account has been parked or down in total, until `now` by the ledger's clock."""
        row = self._row(account)
        current = (now - from_ms(row["since"])).total_seconds() if "since" in row else 0.0
        return float(row.get("sick_ms", 0)) / 1000 + max(0.0, current)

    def waited(self, job: Job, now: datetime, since: datetime) -> timedelta:
        """How long a job has waited since then, without the time in which its account was parked or down."""
        excused = self.unusable_seconds(job.account, now) - job.since.unusable_seconds_before
        return now - since - timedelta(seconds=max(0.0, excused))

    def state(self, account: str) -> OpenCircuit | None:
        """Why the account is parked or down; None if it is neither."""
        row = self._row(account)
        if row.get("state") not in ("parked", "down"):
            return None
        clock = self._clock.read()
        return OpenCircuit(
            status=row["state"],
            reason=row.get("reason", ""),
            job_id=row.get("job", ""),
            since=clock.for_people(row["since"]),
            probe_at=clock.for_people(row["probe_at"]),
        )

    def _open(self, account: str, state: str, reason: str, job_id: str) -> str:
        args: list[str | int] = [PREFIX, account, state, reason, job_id, self._probe_first_ms, _FAILURES_UNTIL_DOWN]
        return str(self._open_circuit(args=args))

    def _row(self, account: str) -> dict[str, str]:
        row: dict[Any, Any] = self._redis.hgetall(keys.account(account))
        return {str(field): str(value) for field, value in row.items()}
