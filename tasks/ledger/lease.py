"""TODO"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tasks.model.job import Job


@dataclass(frozen=True, slots=True)
class Lease:
    """A job that this process works on, as it was at the start, and the token that proves it. `now` is Redis's."""

    job: Job
    token: str
    now: datetime


@dataclass(frozen=True, slots=True)
class NotStarted:
    """Why a step did not start: gone, moved (it was done already) or leased (another worker is at it)."""

    why: str
