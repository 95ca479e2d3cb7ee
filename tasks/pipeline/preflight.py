"""What is checked before a step sends anything: is the document allowed, its name free, and not delivered already?"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import structlog

from tasks.accounts.account import Account
from tasks.ledger import moves
from tasks.ledger.lease import Lease
from tasks.ledger.renewal import Renewal
from tasks.model import backoff
from tasks.model.errors import OutcomeUnknown, RetryLater
from tasks.model.job import Facts, Job
from tasks.model.route import Stage
from tasks.pipeline.step import StepContext, StepResult
from tasks.providers.content_check import contradictions
from tasks.sources.base import incomplete, still_written
from tasks.sources.whole import Examination

log = structlog.get_logger()

_NAME_WAIT_SECONDS = 30.0
_WRITER_SECONDS = 1.0
_WRITER_PATIENCE = timedelta(seconds=10)
_SENT_AS_IT_IS = "It was sent as it is, as its sender asked: a {} whose end is missing."
_LOOKS_FOR_EARLIER = 5  # with the pauses of a poll between them: half a minute, as delivered


class Preflight:
    def __init__(self, context: StepContext, *, chance: Callable[[], float] = random.random) -> None:
        self._context = context
        self._ledger = context.ledger
        self._chance = chance

    def run(self, lease: Lease, account: Account, renewal: Renewal) -> StepResult | None:
        """Check a job before the first thing that is sent of it. None if the step may go on.

        Otherwise the job has been moved, and this is what the step leads to: the job waits for its name, looks again
        whether an earlier delivery still stands, or has ended as a duplicate of that one.

        Raises DocumentRefused and RetryLater.
        """
        job = lease.job
        if job.stage is not Stage.RECEIVED:
            return None
        if self._context.forgotten and self._context.commit_log.needs_journal(job):
            # Before any call: this job may be one that was sent already.
            self._context.forgotten.ensure_known(lease.run_mark)
        account.provider.check(job.document)
        # Two documents of one name for one patient are never sent at once: their records could not be told apart.
        name = self._ledger.reserve_name(job)
        if name.holder != job.id:
            self._ledger.apply(lease, moves.deferred(lease, _NAME_WAIT_SECONDS, account.counted()))
            log.info("job_waits_for_name", job=job.id, account=job.account, holder=name.holder)
            return StepResult()
        skips_duplicates = account.settings.duplicates == "skip" or job.document.idempotency_key
        if skips_duplicates and not job.uncertainty.earlier_sending_unknown:
            earlier = self._earlier(job, name.deliveries, renewal)
            return self._after_look(lease, earlier, account) if earlier else None
        return None

    def examined(self, lease: Lease) -> Lease:
        """The same lease, with what the receipt must say of the document's content.

        Raises DocumentRefused (`file_incomplete`) for a document that is not whole, unless its sender has said that it
        is right as it is. Raises RetryLater.
        """
        job = lease.job
        document = job.document
        # What an earlier try has sent was examined then.
        if job.stage is not Stage.RECEIVED or document.relabeling or job.uncertainty.perhaps_sent:
            return lease
        examination = self._context.documents.examine(job.id, document)
        if not document.as_it_is:
            self._check_whole(lease, examination)
        remarks = [_SENT_AS_IT_IS.format(examination.incomplete)] if examination.incomplete else []
        remarks += contradictions(document, examination.head)
        return replace(lease, job=replace(job, facts=replace(job.facts, content_remarks=tuple(remarks))))

    def _check_whole(self, lease: Lease, examination: Examination) -> None:
        job = lease.job
        if examination.incomplete:
            raise incomplete(examination.incomplete)
        # The inbox and `chartpost send` have looked for writers. Nobody else can open what lies in processing/.
        if not job.document.door.has_folder and self._context.documents.has_writer(job.document):
            if lease.in_stage < _WRITER_PATIENCE:
                # A child that its sender has just started may hold it open until it runs its own program.
                raise RetryLater("Another program has the file open for writing.", after_seconds=_WRITER_SECONDS)
            raise still_written("Close it, then send it again.")

    def _after_look(self, lease: Lease, earlier: Job, account: Account) -> StepResult | None:
        """Look whether the earlier record still stands: then this one is a duplicate. None if it may be sent."""
        job = lease.job
        assert earlier.facts.record is not None  # noqa: S101, see _earlier
        if account.provider.still_there(job.document, earlier.facts.record):
            self._ledger.apply(lease, moves.duplicate(lease.job, earlier, account.counted()))
            log.info("job_skipped_as_duplicate", job=job.id, account=job.account, earlier=earlier.id)
            return StepResult(to_close_by_message=(job.id,))
        if job.counts.searches >= _LOOKS_FOR_EARLIER - 1:
            return None
        # A list may hide a record for a moment, and then a second copy would be sent.
        confirm = account.settings.confirm
        wait = backoff.poll_delay(job.counts.searches, confirm.first_seconds, confirm.cap_seconds, self._chance)
        self._ledger.apply(lease, moves.deferred(lease, wait, account.counted(), found_nothing=True))
        log.info("job_looks_for_earlier", job=job.id, account=job.account, earlier=earlier.id, seconds=round(wait, 1))
        return StepResult()

    def facts_before_sending(self, lease: Lease, job: Job, account: Account) -> Facts:
        """What a later search needs to know of the chart as it was before."""
        facts = account.provider.before_sending(job)
        if facts.snapshot is None:
            return facts
        # A snapshot may be some seconds old and shared. A record that proved another job since is not a candidate.
        return replace(facts, snapshot=tuple(sorted({*facts.snapshot, *self._ledger.owners_at_start(lease)})))

    def ensure_not_sent(self, job: Job) -> None:
        """Raise OutcomeUnknown if an earlier try may have created something already."""
        if job.uncertainty.committed or self._may_have_committed(job):
            raise OutcomeUnknown("An earlier attempt may have passed the commit point.")

    def _earlier(self, job: Job, deliveries: Mapping[str, str], renewal: Renewal) -> Job | None:
        """The job that has delivered the same bytes with the same name for the same patient, with its record."""
        document = job.document
        # Reading the whole document for its digest is worth it only if there is one.
        if document.relabeling or not deliveries:
            return None
        earlier_id = deliveries.get(self._context.documents.sha256(job.id, document, renewal.check))
        earlier = self._ledger.get(earlier_id) if earlier_id else None
        return earlier if earlier and earlier.facts.record and earlier.id != job.id else None

    def _may_have_committed(self, job: Job) -> bool:
        """True if the ledger may have forgotten a commit: job.json knows, else a changed Redis is suspect."""
        on_disk = self._context.commit_log.committed_on_disk(job)
        if on_disk is not None:
            return on_disk
        run = job.uncertainty.redis_run
        return bool(run) and run != self._ledger.redis_run()
