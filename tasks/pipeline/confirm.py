"""Step confirm: ask the provider once for all documents of a patient that wait, and record those that arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from tasks.accounts.account import Account
from tasks.ledger.lease import Lease
from tasks.ledger.renewal import Renewal
from tasks.model.errors import LeaseLost, StepError
from tasks.model.job import Facts
from tasks.model.route import OnUnknownOutcome, Stage, Step
from tasks.pipeline.recovery import Recovery
from tasks.pipeline.step import StepContext, StepResult
from tasks.providers.base import Found

log = structlog.get_logger()


class Confirm:
    def __init__(self, context: StepContext, recovery: Recovery) -> None:
        self._context = context
        self._recovery = recovery
        self._reconciliation = recovery.reconciliation
        self._ledger = context.ledger
        self._commit_log = context.commit_log

    def run(self, leases: Sequence[Lease], account: Account, renewal: Renewal) -> StepResult:
        route = account.provider.route(leases[0].job.document)
        if route.on_unknown_outcome is not OnUnknownOutcome.RECONCILE:
            renewal.check()
            return StepResult(finished=self._record(leases, {}, account, renewal))
        # A job that would be sent again has a search of its own, which may take long and fail alone.
        last = [lease for lease in leases if self._reconciliation.is_last_search(lease, account)]
        others = [lease for lease in leases if lease not in last]
        finished = self._search(others, account, renewal) if others else ()
        for lease in last:
            account.start_counting()
            try:
                finished += self._search([lease], account, renewal, thorough=True)
            except StepError as error:
                if isinstance(error, LeaseLost):
                    raise
                finished += self._recovery.after(error, [lease], account)
        return StepResult(finished=finished)

    def _search(
        self, leases: Sequence[Lease], account: Account, renewal: Renewal, *, thorough: bool = False
    ) -> tuple[str, ...]:
        jobs = [lease.job for lease in leases]
        found = account.provider.find(jobs, self._ledger.record_owners(jobs[0]), thorough=thorough)
        renewal.check()
        return self._record(leases, found, account, renewal)

    def _record(
        self, leases: Sequence[Lease], found: Mapping[str, Found], account: Account, renewal: Renewal
    ) -> tuple[str, ...]:
        """Record what one search has found of these jobs. Returns the ids of those that have ended."""
        finished = []
        calls = account.counted()
        for lease in leases:
            calls_of_this, calls = calls, 0  # one search served them all: its calls are counted to the first
            try:
                if self._record_finding(lease, found.get(lease.job.id), account, renewal, calls_of_this):
                    finished.append(lease.job.id)
            except LeaseLost as error:
                log.info("lease_lost", job=lease.job.id, step=Step.CONFIRM, account=account.name, why=str(error))
        return tuple(finished)

    def _record_finding(
        self, lease: Lease, found: Found | None, account: Account, renewal: Renewal, calls: int
    ) -> bool:
        """Record what the search has found of a job. True when the job has ended."""
        job = lease.job
        if found and found.doubt:
            return self._reconciliation.after_empty_search(lease, account, calls, found.doubt)
        if found and found.fault:
            self._reconciliation.after_faulty_record(found.fault, lease, calls)
            return True
        if found:
            facts = replace(job.facts, record=found.record, remarks=found.remarks)
            if found.stage is Stage.DELIVERED:
                if self._ledger.delivered(lease, found.record, calls, self._sha256(lease, renewal), facts=facts):
                    log.info("job_delivered", job=job.id, account=account.name, record=found.record.id)
                    return True
            elif self._moved_on(lease, found, facts, account, calls):
                return False
        return self._reconciliation.after_empty_search(lease, account, calls)

    def _moved_on(self, lease: Lease, found: Found, facts: Facts, account: Account, calls: int) -> bool:
        """Move a job of unknown outcome on, if the search shows how far it had come."""
        job = lease.job
        if not job.unknown_step or job.stage.final:
            return False
        if found.stage is Stage.REGISTERED:
            moved = self._ledger.registered(lease, facts, account.settings.confirm.first_seconds, calls)
        else:
            self._commit_log.note_record(job, found.record)
            moved = self._ledger.record_found(lease, facts, calls)
            if not moved:
                self._commit_log.note_record_lost(job)
        if moved:
            log.info("job_found", job=job.id, account=account.name, stage=found.stage)
        return moved

    def _sha256(self, lease: Lease, renewal: Renewal) -> str | None:
        """The digest of what was sent; of the document as it lies there if the upload's answer was lost."""
        if lease.job.facts.stored:
            return lease.job.facts.stored.sha256
        try:
            return self._context.documents.sha256(lease.job.document, renewal.check)
        except LeaseLost:
            raise
        except StepError:
            return None
