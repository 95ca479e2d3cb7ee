"""Which documents wait for a worker on a machine where none consumes."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import redis

from tasks.dispatch.workers import Workers
from tasks.folders.machines import known_machines
from tasks.ledger import keys
from tasks.model.job import Job
from tasks.model.route import Step


class MachinesWaitedFor:
    """Read once, at the first question: good for one command."""

    def __init__(self, client: redis.Redis, workers: Workers) -> None:
        self._redis = client
        self._with_workers = {worker.machine for worker in workers.live().values()}
        self._known = known_machines(client)

    def of_job(self, job: Job) -> str:
        """The machine for whose workers this job waits, as a sentence names it; '' if it waits for none."""
        machine = job.document.bound_to
        if machine is None or job.step is Step.NONE or job.stage.final or machine in self._with_workers:
            return ""
        return self._spoken(machine)

    def documents(self) -> dict[str, Counter[str]]:
        """Account -> machine, as sentences name it -> how many of its documents wait for a worker there."""
        waiting: dict[str, Counter[str]] = {}
        # Every machine that a document has named, whether or not a service has run there.
        machines = {str(name) for name in self._redis.smembers(keys.MACHINES)} - self._with_workers
        for account in sorted(str(name) for name in self._redis.smembers(keys.ACCOUNTS)):
            for machine in sorted(str(name) for name in machines):
                count = 0
                with suppress(redis.ResponseError):  # a key of the wrong type, of which `check` has a line of its own
                    count = int(self._redis.zcard(keys.due(account, machine)))
                if count:
                    waiting.setdefault(account, Counter())[self._spoken(machine)] += count
        return waiting

    def _spoken(self, machine: str) -> str:
        known = self._known.get(machine)
        return str(known) if known else machine[:8]


def waits_for(machine: str) -> str:
    """Why a document waits, and what to do. `machine` as sentences name it."""
    return f"It waits for a worker on machine {machine}, where its file lies: start `chartpost worker` there."
