"""Why each unfinished job in a list waits, in a few words. `chartpost show` says more of a single one."""

from __future__ import annotations

from datetime import UTC, datetime

from tasks.accounts.status import AccountHealth
from tasks.dispatch.waiting import MachinesWaitedFor, waits_for
from tasks.ledger_runtime import LedgerRuntime
from tasks.model.job import Job
from tasks.model.route import Stage, Step
from worker.cli.times import age


class WhyWaiting:
    """Asks for each account and for the machines once: good for one command."""

    def __init__(self, runtime: LedgerRuntime) -> None:
        self._runtime = runtime
        self._machines = MachinesWaitedFor(runtime.redis, runtime.workers)
        self._health: dict[str, AccountHealth] = {}

    def of(self, job: Job) -> str:
        """A sentence; empty for a job that has ended, unless a machine must still file its document."""
        if machine := self._machines.of_job(job):
            return waits_for(machine)
        if job.stage.final:
            return ""
        if job.account not in self._runtime.settings.accounts:
            return "The settings no longer name its account."
        health = self._of_account(job.account)
        if health.status != "ok":
            return f"Its account is {health.status}: {health.reason}"
        uncertainty = job.uncertainty
        if uncertainty.unknown_since or uncertainty.earlier_sending_unknown:
            return f"An answer was lost: it searches for the record before it sends again{_next(job)}."
        if job.counts.failures:
            times = "once" if job.counts.failures == 1 else f"{job.counts.failures} times"
            return f"It has failed {times} and is tried again{_next(job)}."
        if job.step is Step.CONFIRM:
            return f"The provider has it, and has not shown its record yet: next look{_next(job) or ' at once'}."
        if job.stage is Stage.RECEIVED:
            holder = self._runtime.ledger.name_holder(job.document)
            if holder and holder != job.id:
                return f"Another of the same name and patient comes first: {holder[:8]}."
        return f"It waits for a free slot{_next(job)}."

    def _of_account(self, account: str) -> AccountHealth:
        if account not in self._health:
            self._health[account] = self._runtime.account_statuses.health(account)
        return self._health[account]


def _next(job: Job) -> str:
    seconds = (job.next_at - datetime.now(UTC)).total_seconds() if job.next_at else 0
    return f" in {age(seconds)}" if seconds >= 1 else ""
