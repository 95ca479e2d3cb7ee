"""Closing a job that has ended: its files, its source, and everyone who must be told.

Every step may be repeated after a kill. What is done is recorded with the move that ends a run of the closing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import structlog

from config.accounts import Confirm
from config.redaction import crash_site
from config.settings import Settings
from tasks.closing.callback import Callback
from tasks.closing.files import DocumentFiles
from tasks.closing.receipts import event_of
from tasks.closing.results import Results
from tasks.folders.job_json import JobFileTooNew
from tasks.folders.staging import is_staged
from tasks.ledger import moves
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.keys import CALLBACK_LANE
from tasks.ledger.lease import Lease, NotStarted
from tasks.ledger.ledger import Ledger
from tasks.ledger.moves import GIVEN_UP, ClosingDone, ShownOutcome
from tasks.ledger.redis import REDIS_ERRORS
from tasks.ledger.renewal import LeaseRenewer, Renewal
from tasks.model import backoff
from tasks.model.errors import DocumentRefused, LeaseLost, StepError
from tasks.model.job import Facts, Job, Record
from tasks.model.route import Stage, Step
from tasks.sources.documents import Documents

log = structlog.get_logger()

_MAY_BE_LEFT_OUT = ("source", "result", "callback")
"""Steps without which the outcome is on disk and in the ledger all the same."""
_PATIENCE = timedelta(days=1)
_SLOW_SECONDS = 3600.0


class _StepFailed(Exception):
    def __init__(self, step: str, error: Exception, done: ClosingDone) -> None:
        super().__init__(step)
        self.step = step
        self.error = error
        # What was done before.
        self.done = done


class Closing:
    def __init__(
        self,
        *,
        ledger: Ledger,
        lease_renewer: LeaseRenewer,
        files: DocumentFiles,
        documents: Documents,
        results: Results,
        callback: Callback,
        settings: Settings,
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._lease_renewer = lease_renewer
        self._documents = documents
        self._settings = settings
        # In this order, and recorded in the ledger under these names. What a step returns is recorded with it.
        self._steps: dict[str, Callable[[Lease], Facts | ShownOutcome | None]] = {
            # First: once the outcome is on disk the watcher does not open the job again, even if Redis is wiped.
            "files": lambda lease: files.close(lease.job),
            # Not before: until then the staged job.json is all that a wiped Redis would leave of the commit.
            "staged": lambda lease: files.unstage(lease.job),
            # Before callers are told: they may then use the path for their next document.
            "source": lambda lease: self._remove_source(lease.job),
            # Callers are told in the move that ends this run of the closing.
            "result": lambda lease: results.final(lease.job),
            # Nothing to do here: the event goes out in one move with the record that it is done, so never twice.
            "event": lambda lease: None,
            # Last: a caller that cannot be reached would hold up for a day whatever came after it.
            "callback": callback.post,
        }

    def run(self, job_id: str) -> None:
        """Start a job's closing, and do what is left of it. Raises Redis's errors, and LedgerRefused."""
        started = self._ledger.start(job_id, Step.NOTIFY)
        if isinstance(started, NotStarted):
            log.info("step_not_started", job=job_id, step=Step.NOTIFY, why=started.why)
            return
        self.close(started[0])

    def close(self, lease: Lease) -> None:
        """Do what is left of a job's closing, which this worker has begun. Raises Redis's errors, and LedgerRefused.

        An error that no step foresees counts towards its patience as any other: it is tried again at growing intervals.
        """
        job_id, known_delivered = lease.job.id, False
        with self._lease_renewer.renewing([lease]) as renewal:
            try:
                known_delivered = self._deliver_by_receipt(lease)
                if not known_delivered:
                    self._close(lease, renewal)
            except LeaseLost as error:
                log.info("lease_lost", job=job_id, step=Step.NOTIFY, why=str(error))
            except (*REDIS_ERRORS, LedgerRefused):
                raise
            except _StepFailed as failed:
                self._defer(lease, failed.step, failed.error, failed.done)
            except Exception as error:  # noqa: BLE001, outermost for one job; its words may name the patient
                self._defer(lease, "closing", error, ClosingDone(lease.job.closed))
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
            delivered = self._ledger.take_over(job, moves.resolve_delivered(job, record)) == "ok"
        else:
            delivered = self._ledger.apply(lease, moves.delivered(lease.job, record, 0, content.get("sha256")))
        if delivered:
            log.info("receipt_found", job=job.id, account=job.account, code=job.code)
        return delivered

    def _close(self, lease: Lease, renewal: Renewal) -> None:
        """Do each step that is not done, and record all in the move that ends the closing.

        After a kill before that move they are done again, which changes nothing: a source that is gone stays gone.
        """
        job, facts = lease.job, lease.job.facts
        done = ClosingDone(job.closed)
        for name, act in self._steps.items():
            if name in done.steps:
                continue
            renewal.check()
            if name == "callback" and job.document.callback_url and job.lane != CALLBACK_LANE:
                self._ledger.apply(lease, moves.callback_is_left(done))
                return
            lease, outcome = self._do(name, act, lease, done)
            done = replace(done, steps=done.steps | {name})
            if isinstance(outcome, ShownOutcome):
                done = replace(done, shows=outcome)
            elif outcome and outcome != facts:  # those that are told of the outcome next must hear of it, too
                lease = replace(lease, job=replace(lease.job, facts=outcome))
                done = replace(done, facts=outcome)
            if name == "event":
                done = replace(done, event=event_of(job))
            elif name == "source" and job.document.delete_source:
                # Before the caller is told: it may then put its next document there, which a repetition would remove.
                self._ledger.apply(lease, moves.closed(done))
        if job.stage is Stage.FAILED and job.dismissal is None:
            self._ledger.note_failure(job.id)
        if job.still_reconciling:
            account = self._settings.accounts.get(job.account)
            # Of an account that has left the settings nothing is searched for until it is back.
            cap_seconds = (account.confirm if account else Confirm()).cap_seconds
            self._ledger.apply(lease, moves.search_slowly(lease.job, cap_seconds, done))
        else:
            self._ledger.apply(lease, moves.finished(lease.job, done))
        log.info("job_closed", job=job.id, account=job.account, state=job.stage, code=job.code)

    def _do(
        self, name: str, act: Callable[[Lease], Facts | ShownOutcome | None], lease: Lease, done: ClosingDone
    ) -> tuple[Lease, Facts | ShownOutcome | None]:
        """Raises what ends the whole run, and _StepFailed. A step that may be left out is, after a day of errors."""
        try:
            return lease, act(lease)
        except (*REDIS_ERRORS, LedgerRefused, LeaseLost):
            raise
        except Exception as error:
            foreseen = isinstance(error, (StepError, OSError))
            if foreseen or name not in _MAY_BE_LEFT_OUT or not self._is_out_of_patience(lease):
                raise _StepFailed(name, error, done) from error
            # Nothing is lost: the files are closed, and `chartpost show` tells the outcome.
            log.error(
                "closing_step_given_up", job=lease.job.id, account=lease.job.account, step=name, **crash_site(error)
            )
            given_up = f"{name}: {type(error).__name__}{GIVEN_UP}"
            self._ledger.apply(lease, moves.closing_step_given_up(given_up))
            self._ledger.note_step_given_up(lease.job.id)
            return replace(lease, job=replace(lease.job, closing_error=given_up)), None

    def _is_out_of_patience(self, lease: Lease) -> bool:
        return lease.in_stage >= _PATIENCE

    def _defer(self, lease: Lease, step: str, error: Exception, done: ClosingDone) -> None:
        job, policy = lease.job, self._settings.retry
        # After a day nobody waits for it any more. It must not fill the log for ever.
        cap_seconds = max(policy.cap_seconds, _SLOW_SECONDS) if self._is_out_of_patience(lease) else policy.cap_seconds
        wait = backoff.delay(job.counts.failures + 1, policy.first_seconds, cap_seconds, random.random)
        # An OSError's words hold the path, and so the patient; those of an error that nobody foresaw may hold anything.
        told = isinstance(error, (StepError, JobFileTooNew))
        reason = str(error) if told else type(error).__name__
        if isinstance(error, OSError) and not told:
            reason = f"{reason} {error.errno or ''}"
        elif not told:
            log.error("closing_crashed", job=job.id, account=job.account, step=step, **crash_site(error))
        if is_staged(job) and job.document.home:
            # Only the watcher on that machine can close the files; it asks for the jobs that are left to it.
            self._ledger.leave_to(job.document.home, job.id)
        log.warning("closing_deferred", job=job.id, account=job.account, step=step, reason=reason, seconds=wait)
        try:
            self._ledger.apply(lease, moves.closing_deferred(wait, f"{step}: {type(error).__name__}", done))
        except LeaseLost as lost:  # whoever has the job closes it
            log.info("lease_lost", job=job.id, step=Step.NOTIFY, why=str(lost))

    def _remove_source(self, job: Job) -> None:
        """Remove the sender's own file or object, if the sender asked for it and the document has arrived."""
        if job.stage is not Stage.DELIVERED or not job.document.delete_source or job.document.door.has_folder:
            return
        try:
            self._documents.remove_source(job.document)
        except DocumentRefused as error:
            # No reason to repeat the closing: the document has arrived, and its source is the sender's.
            log.warning("source_not_removed", job=job.id, account=job.account, code=error.code)
