"""The documents that `chartpost retry` is asked to send again."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import click

from tasks.folders.outcomes import Outcomes
from tasks.ledger.ledger import Ledger
from tasks.ledger.queries import LedgerQueries, Wanted
from tasks.model.errors import UNCERTAIN_CODES, Code
from tasks.model.job import Job
from tasks.model.route import Stage
from worker.cli.job_search import AmbiguousJob, JobSearch
from worker.cli.lookup import JobNotFound, JobOnDisk


@dataclass(frozen=True, slots=True)
class Target:
    """A document by its job, or by what the job left on disk when it left Redis.

    If both are None, no such job is known.
    """

    job_id: str
    job: Job | None = None
    on_disk: JobOnDisk | None = None
    # Why none was found.
    problem: str = ""

    @property
    def account(self) -> str | None:
        return self.job.account if self.job else self._written("account")

    @property
    def code(self) -> str | None:
        return self.job.code if self.job else self._written("code")

    @property
    def patient_id(self) -> str | None:
        return self.job.document.patient_id if self.job else self._written("patient_id")

    @property
    def size_bytes(self) -> int | None:
        if self.job:
            return self.job.document.size_bytes
        value = self.on_disk.fields()["size_bytes"] if self.on_disk else None
        return value if isinstance(value, int) else None

    @property
    def failed_at(self) -> datetime | None:
        if self.job:
            return self.job.times.get(self.job.stage)
        with suppress(ValueError):
            return datetime.fromisoformat(self._written("at") or "")
        return None

    @property
    def dismissed(self) -> bool:
        """True if a person has dealt with the failure."""
        if self.job:
            return self.job.dismissal is not None
        return self.on_disk is not None and bool(self.on_disk.content.get("dismissed"))

    @property
    def delivered(self) -> bool:
        if self.job:
            return self.job.stage is Stage.DELIVERED
        return self.on_disk is not None and self.on_disk.believed and self.on_disk.delivered

    @property
    def needs_search_first(self) -> bool:
        """True if the chart must be searched before the document is sent again."""
        if self.code not in UNCERTAIN_CODES:
            return False
        # After a day of searching in vain, not_confirmed needs no further search.
        return self.job is None or self.code == Code.OUTCOME_UNKNOWN or self.job.still_reconciling

    def _written(self, field: str) -> str | None:
        value = self.on_disk.content.get(field) if self.on_disk else None
        return value if isinstance(value, str) else None


class TargetSearch:
    def __init__(self, ledger: Ledger, queries: LedgerQueries, outcomes: Outcomes, search: JobSearch) -> None:
        self._ledger = ledger
        self._queries = queries
        self._outcomes = outcomes
        self._search = search

    def named(self, names: Iterable[str]) -> list[Target]:
        """All of them, before anything is done: raises AmbiguousJob if one fits several jobs."""
        return [self._named(name) for name in names]

    def _named(self, name: str) -> Target:
        try:
            match = self._search.only(name)
        except AmbiguousJob:
            raise
        except JobNotFound:
            return Target(name)
        except click.ClickException as error:
            return Target(name, problem=error.message)
        return Target(match.job_id, match.job, match.on_disk)

    def all_failed(self, account: str | None, code: str | None) -> list[Target]:
        """All that have failed, in Redis and on disk. Cancelled ones only if `code` asks for them."""
        state = "cancelled" if code == Code.CANCELLED else "failed"
        wanted = Wanted(state, account, code)
        # As a list: a job that is sent again may fail again, and would be listed a second time. The oldest first, since
        # they have waited longest.
        targets = [Target(job.id, job) for job in reversed(list(self._queries.jobs(wanted)))]
        for closed in self._outcomes.error_files():
            error = closed.content
            if wanted.fits(error.get("state"), error.get("account"), error.get("code")):
                job_id = error["job_id"]
                if not self._ledger.known(job_id):
                    targets.append(Target(job_id, on_disk=JobOnDisk(job_id, error, closed.believed)))
        return targets
