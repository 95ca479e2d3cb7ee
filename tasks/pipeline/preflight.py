"""What is checked before a step sends anything: is the document allowed, its name free, and not delivered already?"""

from __future__ import annotations

from dataclasses import replace

import structlog

from tasks.accounts.account import Account
from tasks.ledger.lease import Lease
from tasks.ledger.renewal import Renewal
from tasks.model.errors import OutcomeUnknown
from tasks.model.job import Facts, Job
from tasks.model.route import Stage
from tasks.pipeline.step import StepContext, StepResult

log = structlog.get_logger()

_NAME_WAIT_SECONDS = 30.0


class Preflight:
    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._ledger = context.ledger

    def run(self, lease: Lease, account: Account, renewal: Renewal) -> StepResult | None:
        """Check a job before the first thing that is sent of it. None if the step may go on."""
        job = lease.job
        if job.stage is not Stage.RECEIVED:
            return None
        if self._context.forgotten and self._context.commit_log.needs_journal(job):
            self._context.forgotten.ensure_known()  # before any call: this job may be one that was sent already
        account.provider.check(job.document)
        # Two documents of one name for one patient are never sent at once: their records could not be told apart.
        holder = self._ledger.reserve_name(job)
        if holder != job.id:
            self._ledger.deferred(lease, _NAME_WAIT_SECONDS, account.counted())
            log.info("job_waits_for_name", job=job.id, account=job.account, holder=holder)
            return StepResult()
        skips_duplicates = account.settings.duplicates == "skip" or job.document.idempotency_key
        if skips_duplicates and not job.earlier_sending_unknown and self._is_duplicate(lease, account, renewal):
            return StepResult(finished=(job.id,))
        return None

    def facts_before_sending(self, job: Job, account: Account) -> Facts:
        """What a later search needs to know of the chart as it was before."""
        facts = account.provider.before_sending(job)
        if facts.snapshot is None:
            return facts
        # A snapshot may be some seconds old and shared. A record that proved another job since is not a candidate.
        return replace(facts, snapshot=tuple(sorted({*facts.snapshot, *self._ledger.record_owners(job)})))

    def ensure_not_sent(self, job: Job) -> None:
        """Raise OutcomeUnknown if an earlier try may have created something already."""
        if job.committed or self._may_have_committed(job):
            raise OutcomeUnknown("An earlier attempt may have passed the commit point.")

    def _is_duplicate(self, lease: Lease, account: Account, renewal: Renewal) -> bool:
        """Deliver the job as a duplicate if the same bytes, name and patient were delivered and still stand there."""
        document = lease.job.document
        if document.relabeling:
            return False
        deliveries = self._ledger.earlier_deliveries(document)
        if not deliveries:  # reading the whole document for its digest is worth it only if there is one
            return False
        earlier_id = deliveries.get(self._context.documents.sha256(document, renewal.check))
        earlier = self._ledger.get(earlier_id) if earlier_id else None
        if earlier is None or earlier.facts.record is None or earlier.id == lease.job.id:
            return False
        if not account.provider.still_there(document, earlier.facts.record):
            return False
        self._ledger.duplicate(lease, earlier, account.counted())
        log.info("job_skipped_as_duplicate", job=lease.job.id, account=lease.job.account, earlier=earlier.id)
        return True

    def _may_have_committed(self, job: Job) -> bool:
        """True if the ledger may have forgotten a commit: job.json knows, else a changed Redis is suspect."""
        on_disk = self._context.commit_log.committed_on_disk(job)
        if on_disk is not None:
            return on_disk
        return bool(job.redis_run) and job.redis_run != self._ledger.redis_run()
