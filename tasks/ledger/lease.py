"""The lease that a worker has on a job while it runs one of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tasks.model.job import Job


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


@dataclass(frozen=True, slots=True)
class NotStarted:
    """A step did not start."""

    # gone (no such job), moved (the step is done already), leased (another worker runs it) or elsewhere (its files lie
    # on another machine).
    why: str
