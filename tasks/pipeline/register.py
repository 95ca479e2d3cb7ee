"""Step register: tell the provider of the document, which makes its record; or replace a document's labels."""

from __future__ import annotations

from dataclasses import replace

import structlog

from tasks.accounts.account import Account
from tasks.ledger import moves
from tasks.ledger.lease import Lease
from tasks.ledger.renewal import Renewal
from tasks.model.errors import OutcomeUnknown
from tasks.model.job import Facts, Record
from tasks.model.route import OnUnknownOutcome, Stage
from tasks.pipeline.looks import looks_of
from tasks.pipeline.preflight import Preflight
from tasks.pipeline.step import StepContext, StepResult, able
from tasks.providers.base import Registers, Relabels

log = structlog.get_logger()


class Register:
    def __init__(self, context: StepContext, preflight: Preflight) -> None:
        self._context = context
        self._preflight = preflight
        self._ledger = context.ledger

    def run(self, lease: Lease, account: Account, renewal: Renewal) -> StepResult:
        lease = self._preflight.examined(lease)
        job = lease.job
        if (held_up := self._preflight.run(lease, account, renewal)) is not None:
            return held_up
        if job.document.relabeling:
            return self._relabel(lease, account, renewal)
        provider = able(account.provider, Registers)
        if account.provider.route(job.document).on_unknown_outcome is not OnUnknownOutcome.RESEND:
            self._preflight.ensure_not_sent(job)
        facts = account.provider.before_sending(job) if job.stage is Stage.RECEIVED else job.facts
        commit_point = self._context.commit_point(lease, renewal, facts)
        with commit_point.taking_back():
            registered = provider.register(replace(job, facts=facts), commit_point)
        facts = replace(
            facts,
            record=registered.record,
            remarks=registered.remarks,
            stored=registered.stored or facts.stored,
        )
        if registered.processed:
            return self._delivered(lease, account, facts, registered.record)
        move = moves.registered(facts, looks_of(account, lease).first(), account.counted())
        move = replace(move, shows=self._context.results.progress(job, Stage.REGISTERED))
        if not self._ledger.apply(lease, move):
            raise OutcomeUnknown("The record that the provider named proves another document.")
        log.info("job_registered", job=job.id, account=job.account, record=registered.record.id)
        return StepResult(forward=True)

    def _delivered(self, lease: Lease, account: Account, facts: Facts, record: Record) -> StepResult:
        """The answer to the registering was already the provider's record, or its final acceptance."""
        sha256 = facts.stored.sha256 if facts.stored else None
        passed = Stage.REGISTERED
        move = moves.delivered(lease.job, record, account.counted(), sha256, facts=facts, passed=passed)
        if (result := self._context.end(lease, move)) is None:
            raise OutcomeUnknown("The record that the provider named proves another document.")
        log.info("job_delivered", job=lease.job.id, account=account.name, record=record.id)
        return result

    def _relabel(self, lease: Lease, account: Account, renewal: Renewal) -> StepResult:
        """Set the whole new list of labels. Repeating it after a lost answer changes nothing."""
        job, provider = lease.job, able(account.provider, Relabels)
        # The commit point keeps out a worker that has lost its lease: a later list may have been set by then.
        commit_point = self._context.commit_point(lease, renewal)
        with commit_point.taking_back():
            relabeled = provider.relabel(job, commit_point)
        facts = replace(job.facts, remarks=relabeled.remarks)
        move = moves.delivered(lease.job, relabeled.record, account.counted(), None, facts=facts)
        result = self._context.end(lease, move)
        log.info("job_relabeled", job=job.id, account=account.name)
        return result or StepResult()
