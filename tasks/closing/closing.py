"""Closing a job that has ended: its files, its source, and everyone who must be told.

Every step may be repeated after a kill. A step is recorded when it is done, and the next run begins after it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import structlog

from config.accounts import Confirm
from config.settings import Settings
from tasks.closing.callback import Callback
from tasks.closing.files import DocumentFiles
from tasks.closing.receipts import event_of
from tasks.closing.results import Results
from tasks.folders.staging import is_staged
from tasks.ledger.lease import Lease, NotStarted
from tasks.ledger.ledger import Ledger
from tasks.ledger.renewal import LeaseRenewer, Renewal
from tasks.model import backoff
from tasks.model.errors import DocumentRefused, LeaseLost, StepError
from tasks.model.job import Facts, Job, Record, still_reconciling
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
        self._files = files
        self._lease_renewer = lease_renewer
        self._sources = sources
        self._settings = settings
        # In this order, and recorded in the ledger under these names. A step may return facts that it has changed.
        self._steps: dict[str, Callable[[Lease], Facts | None]] = {
            # First: once the outcome is on disk the watcher does not open the job again, even if Redis is wiped.
            "files": lambda lease: files.close(lease.job),
            # Not before: until then the staged job.json is all that a wiped Redis would leave of the commit.
            "staged": lambda lease: files.unstage(lease.job),
            # Before callers are told: they may then use the path for their next document.
            "source": lambda lease: self._remove_source(lease.job),
            "result": lambda lease: results.final(lease.job),
            # Nothing to do here: `_close` writes the event in one move with the record that it is done, so never twice.
            "event": lambda lease: None,
            # Last: a caller that cannot be reached would hold up for a day whatever came after it.
            "callback": callback.post,
        }

    def run(self, job_id: str) -> None:
        """Do what is left of a job's closing. Raises Redis's errors, and any that no step foresees."""
        started = self._ledger.start(job_id, Step.NOTIFY)
        if isinstance(started, NotStarted):
            log.info("step_not_started", job=job_id, step=Step.NOTIFY, why=started.why)
            return
        with self._lease_renewer.renewing(started) as renewal:
            lease, known_delivered = started[0], False
            try:
                known_delivered = self._deliver_by_receipt(lease)
                if not known_delivered:
                    self._close(lease, renewal)
            except LeaseLost as error:
                log.info("lease_lost", job=job_id, step=Step.NOTIFY, why=str(error))
            except (StepError, OSError) as error:
                self._defer(lease, error)
        if known_delivered:
            self.run(job_id)

    def _deliver_by_receipt(self, lease: Lease) -> bool:
        """Let a failed job be delivered if its receipt lies in delivered/: its ledger is older than its delivery."""
        job = lease.job
        content = None if "files" in job.closed else self._files.earlier_receipt(job)
        if content is None:
            return False
        noted = content.get("record") or {}
        record = Record(noted["id"], noted.get("url")) if noted.get("id") else None
        if content.get("resolved_by") or record is None:
            delivered = self._ledger.resolve_delivered(job, record) == "ok"
        else:
            delivered = self._ledger.delivered(lease, record, 0, content.get("sha256"))
        if delivered:
            log.info("receipt_found", job=job.id, account=job.account, code=job.code)
        return delivered

    def _close(self, lease: Lease, renewal: Renewal) -> None:
        job, done = lease.job, set(lease.job.closed)
        for name, act in self._steps.items():
            if name in done:
                continue
            renewal.check()
            facts = act(lease)
            changed = facts if facts != lease.job.facts else None
            if changed:  # those that are told of the outcome next must hear of it, too
                lease = replace(lease, job=replace(lease.job, facts=changed))
            done.add(name)
            self._ledger.closed(lease, done, event=event_of(job) if name == "event" else None, facts=changed)
        if still_reconciling(job):
            account = self._settings.accounts.get(job.account)
            # Of an account that has left the settings nothing is searched for until it is back.
            self._ledger.search_slowly(lease, (account.confirm if account else Confirm()).cap_seconds)
        else:
            self._ledger.finished(lease)
        log.info("job_closed", job=job.id, account=job.account, state=job.stage, code=job.code)

    def _defer(self, lease: Lease, error: StepError | OSError) -> None:
        job, policy = lease.job, self._settings.retry
        wait = backoff.delay(job.failures + 1, policy.first_seconds, policy.cap_seconds, random.random)
        # An OSError's words hold the path, and so the patient.
        reason = str(error) if isinstance(error, StepError) else f"{type(error).__name__} {error.errno or ''}"
        if is_staged(job) and job.document.home:
            # Only the watcher on that machine can close the files; it asks for the jobs that are left to it.
            self._ledger.leave_to(job.document.home, job.id)
        log.warning("closing_deferred", job=job.id, account=job.account, reason=reason, seconds=wait)
        self._ledger.closing_deferred(lease, wait)

    def _remove_source(self, job: Job) -> None:
        """Remove the sender's own file or object, if the sender asked for it and the document has arrived."""
        if job.stage is not Stage.DELIVERED or not job.document.delete_source or job.document.door.has_folder:
            return
        try:
            self._sources.remove(job.document.source, job.document.identity)
        except DocumentRefused as error:
            # No reason to repeat the closing: the document has arrived, and its source is the sender's.
            log.warning("source_not_removed", job=job.id, account=job.account, code=error.code)
