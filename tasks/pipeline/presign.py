"""Step presign: obtain the form for the upload, and seal it in the ledger."""

from __future__ import annotations

from dataclasses import replace

import structlog

from tasks.accounts.account import Account
from tasks.ledger import moves
from tasks.ledger.lease import Lease
from tasks.ledger.renewal import Renewal
from tasks.model.errors import OutcomeUnknown
from tasks.model.route import Stage
from tasks.pipeline.preflight import Preflight
from tasks.pipeline.step import StepContext, StepResult, able
from tasks.providers.base import TakesForms

log = structlog.get_logger()


class Presign:
    def __init__(self, context: StepContext, preflight: Preflight) -> None:
        self._context = context
        self._preflight = preflight
        self._ledger = context.ledger
        self._commit_log = context.commit_log

    def run(self, lease: Lease, account: Account, renewal: Renewal) -> StepResult:
        lease = self._preflight.examined(lease)
        job = lease.job
        provider = able(account.provider, TakesForms)
        if (held_up := self._preflight.run(lease, account, renewal)) is not None:
            return held_up
        if provider.presign_creates:
            # A second record would be a second document: go on with the one that was made for the job. Without one,
            # raise OutcomeUnknown if an earlier try may have made it.
            record = job.facts.record or self._commit_log.record_on_disk(job)
            if record is None:
                self._preflight.ensure_not_sent(job)
            job = replace(job, facts=replace(job.facts, record=record))
        facts = self._preflight.facts_before_sending(lease, job, account)
        renewal.check()
        commit_point = self._context.commit_point(lease, renewal, facts)
        with commit_point.taking_back():
            form = provider.presign(replace(job, facts=facts), commit_point)
        facts = replace(facts, form=form, key=form.key, record=form.record)
        # job.json knows no fencing tokens, so only a holder of the lease may write into it.
        renewal.check()
        if form.record and form.record != job.facts.record:
            self._commit_log.note_record(job, form.record)
        move = moves.presigned(facts, self._ledger.redis_run(), account.counted())
        move = replace(move, shows=self._context.results.progress(job, Stage.PRESIGNED))
        if (result := self._context.go_on(lease, move)) is None:
            self._commit_log.note_record_lost(job)
            raise OutcomeUnknown("The record that was made for it is another job's by now.")
        log.info("job_presigned", job=job.id, account=job.account)
        return result
