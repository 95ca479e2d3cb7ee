"""Closing a finished job: receipt or error file, file move, result, event, source removal, callback.

Every step may be repeated after a kill; what is done is recorded, and the rest is run again.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import structlog

from config.settings import Settings
from tasks.closing.callback import Callback
from tasks.closing.files import DocumentFiles
from tasks.closing.receipts import event_of, written
from tasks.closing.results import Results
from tasks.ledger.lease import Lease, NotStarted
from tasks.ledger.ledger import Ledger
from tasks.ledger.renewal import LeaseRenewer, Renewal
from tasks.model import backoff
from tasks.model.errors import DocumentRefused, LeaseLost, StageError
from tasks.model.job import Job, still_reconciling
from tasks.model.route import Stage, Step
from tasks.sources.sources import Sources

log = structlog.get_logger()


class Closing:
    def __init__(
        self,
        *,
        ledger: Ledger,
        lease_renewer: LeaseRenewer,
        files: DocumentFiles,
        sources: Sources,
        results: Results,
        callback: Callback,
        settings: Settings,
    ) -> None:
        self._ledger = ledger
        self._lease_renewer = lease_renewer
        self._files = files
        self._sources = sources
        self._results = results
        self._settings = settings
        # In this order: the files first, since they are what a human and a wiped Redis are left with.
        self._steps: dict[str, Callable[[Lease], None]] = {
            "files": lambda lease: self._files.close(lease.job, written(lease.job)),
            "staged": lambda lease: None if still_reconciling(lease.job) else self._files.unstage(lease.job),
            "source": lambda lease: self._remove_source(lease.job),
            "result": lambda lease: self._results.final(lease.job),
            "event": lambda lease: None,  # written in one move with the record that it is done
            "callback": callback.post,
        }

    def run(self, job_id: str) -> None:
        """Do what is left of a job's closing. Raises Redis's errors and what nobody foresaw."""
        started = self._ledger.start(job_id, Step.NOTIFY)
        if isinstance(started, NotStarted):
            log.info("step_not_started", job=job_id, step=Step.NOTIFY, why=started.why)
            return
        with self._lease_renewer.renewing(started) as renewal:
            try:
                self._close(started[0], renewal)
            except LeaseLost as error:
                log.info("lease_lost", job=job_id, step=Step.NOTIFY, why=str(error))
            except (StageError, OSError) as error:
                self._defer(started[0], error)

    def _close(self, lease: Lease, renewal: Renewal) -> None:
        done = set(lease.job.closed)
        for name, act in self._steps.items():
            if name in done:
                continue
            renewal.check()
            act(lease)
            done.add(name)
            self._ledger.closed(lease, done, event=event_of(lease.job) if name == "event" else None)
        if still_reconciling(lease.job):
            self._ledger.reconcile_slowly(lease, self._settings.accounts[lease.job.account].confirm.cap_seconds)
        else:
            self._ledger.finished(lease)
        log.info("job_closed", job=lease.job.id, account=lease.job.account, state=lease.job.stage, code=lease.job.code)

    def _defer(self, lease: Lease, error: StageError | OSError) -> None:
        policy = self._settings.retry
        wait = backoff.delay(lease.job.failures + 1, policy.first_seconds, policy.cap_seconds, random.random)
        # An OSError's words name the path, and so the patient.
        reason = str(error) if isinstance(error, StageError) else f"{type(error).__name__} {error.errno or ''}"
        if lease.job.document.home:
            self._ledger.leave_to(lease.job.document.home, lease.job.id)
        log.warning("closing_deferred", job=lease.job.id, account=lease.job.account, reason=reason, seconds=wait)
        self._ledger.closing_deferred(lease, wait)

    def _remove_source(self, job: Job) -> None:
        if job.stage is not Stage.DELIVERED or not job.document.delete_source or job.document.door.has_folder:
            return
        try:
            self._sources.remove(job.document.source, job.document.identity)
        except DocumentRefused as error:
            log.warning("source_not_removed", job=job.id, account=job.account, code=error.code)
