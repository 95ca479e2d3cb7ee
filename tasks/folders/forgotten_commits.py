"""Finds the commits that a Redis has forgotten: it was restored from an older copy or wiped, or lost its last second.

Every commit has a number, which counts up in Redis. The documents of calls and stream messages are noted with it on the
disk of the machine that sent them (`commit_journal`). After a restart of Redis, or a wipe:

1.  The first that sees the new run notes how many commits it knows.
2.  Each machine tells it of those of its own that have a larger number. Their outcome is unknown: they are searched for
    before anything is sent. A job that Redis does not know either is remembered for when its message comes again.
3.  No such document is committed before every machine has reported, or ten seconds have passed: a machine that is gone
    must not hold up the others.

Documents in our care need none of this: they have their `job.json`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import structlog

from tasks.folders.commit_journal import CommitJournal
from tasks.folders.machines import Machine, known_machines
from tasks.ledger import keys
from tasks.ledger.keys import PREFIX
from tasks.ledger.ledger import Ledger
from tasks.ledger.script_loader import load_script
from tasks.ledger.seal import SealBroken
from tasks.model.document import Document
from tasks.model.errors import RetryLater
from tasks.model.job import Job
from tasks.model.route import Route

log = structlog.get_logger()

_PATIENCE_SECONDS = 10.0
_AGAIN_SECONDS = 1.0
_BATCH = 500
_LAST_SEEN_TOGETHER = timedelta(hours=1)


class ForgottenCommits:
    """`route` tells how its account's provider takes a document; KeyError if the settings do not name the account."""

    def __init__(
        self, ledger: Ledger, journal: CommitJournal, machine: Machine, route: Callable[[Document], Route]
    ) -> None:
        self._ledger = ledger
        self._journal = journal
        self._machine = machine
        self._route = route
        self._see_run = load_script(ledger.redis, "see_run")
        self._report_run = load_script(ledger.redis, "report_run")
        # The run id and the mark of a Redis that knows of every commit.
        self._complete = ("", "")
        self._lock = threading.Lock()

    def ensure_known(self, mark: str | None = None) -> str:
        """The mark of the run of a Redis that knows of every commit. Raises RetryLater while it does not yet.

        `mark` is the one that Redis has now, for who has just read it.
        """
        if mark is None:
            mark = str(self._ledger.redis.hget(keys.RUN, "mark") or "")
        # The mark too: a wipe (FLUSHALL) takes it away, and leaves the run id.
        run = self._ledger.redis_run(), mark
        if run != self._complete:
            with self._lock:
                if run != self._complete:
                    run = self._complete = run[0], self._told(run[0])
        return run[1]

    def _told(self, run: str) -> str:
        known, age_ms, reported, mark = self._see_run(args=[PREFIX, run, uuid4().hex])
        here = self._machine.name() or ""
        if here not in reported:
            self._report(str(mark), int(known), here)
        others = self._expected() - {here, *(str(name) for name in reported)}
        if others and int(age_ms) < _PATIENCE_SECONDS * 1000:
            reason = "Redis was restarted or wiped, and other machines may still know what it has forgotten."
            raise RetryLater(reason, after_seconds=_AGAIN_SECONDS)
        return str(mark)

    def _report(self, mark: str, known: int, here: str) -> None:
        forgotten = self._journal.entries(after=known, not_of_run=mark)
        for batch in (forgotten[at : at + _BATCH] for at in range(0, len(forgotten), _BATCH)):
            known_jobs = self._ledger.remember((commit.job_id, commit.step, commit.facts) for commit in batch)
            for commit in batch:
                job = self._job(commit.job_id) if commit.job_id in known_jobs else None
                if job:
                    self._ledger.remember_commit(job, commit.step, commit.facts, self._route(job.document))
        highest = max((commit.number for commit in forgotten), default=0)
        self._report_run(args=[PREFIX, mark, here, highest])
        if forgotten:
            log.warning("redis_is_older", forgotten_commits=len(forgotten))

    def _job(self, job_id: str) -> Job | None:
        """An open job that can be worked on here."""
        try:
            job = self._ledger.get(job_id)
            if job:
                self._route(job.document)
            return job
        except (SealBroken, KeyError):  # another installation's, or of an account that has left the settings
            return None

    def _expected(self) -> set[str]:
        """The machines that send documents, and were in use shortly before the last one was, by Redis's own times."""
        machines = {name: known for name, known in known_machines(self._ledger.redis).items() if known.sends}
        last = max((machine.seen_at for machine in machines.values()), default=None)
        return {name for name, known in machines.items() if last and last - known.seen_at < _LAST_SEEN_TOGETHER}
