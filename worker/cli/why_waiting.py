"""Why each unfinished job in a list waits, in a few words. `chartpost show` says more of a single one."""

from __future__ import annotations

from datetime import UTC, datetime

from tasks.dispatch.waiting import MachinesWaitedFor, waits_for
from tasks.ledger_runtime import LedgerRuntime
from tasks.model.job import Job
from tasks.wording.waiting import WaitingReason
from worker.cli.times import age


class WhyWaiting:
    """Asks for each account and for the machines once: good for one command."""

    def __init__(self, runtime: LedgerRuntime) -> None:
        self._reasons = runtime.waiting_reasons()
        self._machines = MachinesWaitedFor(runtime.redis, runtime.workers)

    def of(self, job: Job) -> str:
        """A sentence; empty for a job that has ended."""
        if job.stage.final:
            return ""
        machine = self._machines.of_job(job)
        wait = self._reasons.why(job, machine_is_idle=bool(machine))
        if wait.health:
            return f"Its account is {wait.health.status}: {wait.health.reason}"
        match wait.reason:
            case WaitingReason.NOT_IN_SETTINGS:
                return "The settings no longer name its account."
            case WaitingReason.ANOTHER_MACHINE:
                return waits_for(machine)
            case WaitingReason.UNKNOWN_OUTCOME:
                return f"An answer was lost: it searches for the record before it sends again{_next(job)}."
            case WaitingReason.VALIDATION if not job.counts.failures:
                return f"The provider has it, and has not shown its record yet: next look{_next(job) or ' at once'}."
            case WaitingReason.VALIDATION | WaitingReason.TROUBLE:
                times = "once" if job.counts.failures <= 1 else f"{job.counts.failures} times"
                return f"It has failed {times} and is tried again{_next(job)}."
            case WaitingReason.SAME_NAME:
                return f"Another of the same name and patient comes first: {wait.holder[:8]}."
        return f"It waits for a free slot{_next(job)}."


def _next(job: Job) -> str:
    seconds = (job.next_at - datetime.now(UTC)).total_seconds() if job.next_at else 0
    return f" in {age(seconds)}" if seconds >= 1 else ""
