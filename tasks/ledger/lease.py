"""The lease that a worker has on a job while it runs one of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tasks.model.job import Job
from tasks.model.polling import Validation
from tasks.model.times import steady_seconds


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to move one job, until another worker starts the job or a person moves it.

    A lease that has run out and that no worker took still moves its job; `Renewal.check` stops a step earlier.
    Every move is checked in `scripts/move.lua`, which compares the fencing token.
    """

    # The job as it was when the step started.
    job: Job
    # The fencing token that proves the right. The ledger refuses the moves of every earlier one.
    token: str
    # When the step started, by the ledger's clock.
    now: datetime
    # That moment by the ledger's clock and by Redis's, in ms, as `move.lua` takes it; empty if they were not told.
    clock: str = ""
    # When Redis was asked for it, by `steady_seconds`: from then on it runs.
    taken_at: float = field(default_factory=steady_seconds)
    # As the ledger had them then: the records that prove a job of the same patient, and those jobs; None where they are
    # kept for the whole account.
    owners: Mapping[str, str] | None = None
    # The mark of the run of Redis (`folders.forgotten_commits`).
    run_mark: str = ""
    # How long the account's last validations took.
    validations: tuple[Validation, ...] = ()

    @property
    def in_stage(self) -> timedelta:
        """How long the job had been in its stage when the step started."""
        return self.now - (self.job.since.stage or self.now)


@dataclass(frozen=True, slots=True)
class NotStarted:
    """A step did not start."""

    # gone (no such job), moved (the step is done already), leased (another worker runs it) or elsewhere (its files lie
    # on another machine).
    why: str
