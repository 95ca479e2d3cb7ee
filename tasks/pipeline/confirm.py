"""Step confirm: ask the provider once for all documents of a patient that wait, and record those that arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from tasks.accounts.account import Account
from tasks.ledger import moves
from tasks.ledger.lease import Lease
from tasks.ledger.renewal import Renewal
from tasks.model.errors import LeaseLost, StepError
from tasks.model.job import Facts
from tasks.model.polling import Looks
from tasks.model.route import OnUnknownOutcome, Stage, Step
from tasks.pipeline import reconciliation
from tasks.pipeline.consequences import Consequences
from tasks.pipeline.looks import looks_of, validation_of
from tasks.pipeline.step import StepContext, StepResult
from tasks.providers.base import Found

log = structlog.get_logger()

_CLOSED_HERE = 4
"""So many of the jobs that one search has delivered are closed by its worker, one by one; the others by messages."""


class Confirm:
    def __init__(self, context: StepContext, consequences: Consequences) -> None:
        self._context = context
        self._consequences = consequences
        self._ledger = context.ledger
        self._commit_log = context.commit_log

    def run(self, leases: Sequence[Lease], account: Account, renewal: Renewal) -> StepResult:
        route = account.provider.route(leases[0].job.document)
        if route.on_unknown_outcome is not OnUnknownOutcome.RECONCILE:
            renewal.check()
            return self._record(leases, {}, account, renewal)
        # A job that would be sent again has a search of its own, which may take long and fail alone.
        last = [lease for lease in leases if reconciliation.is_last_search(self._consequences.case(lease, account))]
        others = [lease for lease in leases if lease not in last]
        # What has ended is not closed here while searches go on: it would hold leases and slots meanwhile.
        result = self._search(others, account, renewal, close_here=not last) if others else StepResult()
        for lease in last:
            account.start_counting()
            try:
                result += self._search([lease], account, renewal, thorough=True)
            except StepError as error:
                if isinstance(error, LeaseLost):
                    raise
                result += StepResult(to_close_by_message=self._consequences.of_error(error, [lease], account))
        return result

    def _search(
        self,
        leases: Sequence[Lease],
        account: Account,
        renewal: Renewal,
        *,
        thorough: bool = False,
        close_here: bool = False,
    ) -> StepResult:
        jobs = [lease.job for lease in leases]
        found = account.provider.find(jobs, self._ledger.owners_at_start(leases[0]), thorough=thorough)
        renewal.check()
        return self._record(leases, found, account, renewal, close_here=close_here)

    def _record(
        self,
        leases: Sequence[Lease],
        found: Mapping[str, Found],
        account: Account,
        renewal: Renewal,
        *,
        close_here: bool = False,
    ) -> StepResult:
        """Record what one search has found of these jobs."""
        result = StepResult()
        calls = account.counted()
        looks = looks_of(account, leases[0])
        for lease in leases:
            calls_of_this, calls = calls, 0  # one search served them all: its calls are counted to the first
            try:
                here = close_here and len(result.to_close_here) < _CLOSED_HERE
                finding = found.get(lease.job.id)
                result += self._record_finding(lease, finding, account, looks, renewal, calls_of_this, close_here=here)
            except LeaseLost as error:
                log.info("lease_lost", job=lease.job.id, step=Step.CONFIRM, account=account.name, why=str(error))
        return result

    def _record_finding(
        self,
        lease: Lease,
        found: Found | None,
        account: Account,
        looks: Looks,
        renewal: Renewal,
        calls: int,
        *,
        close_here: bool,
    ) -> StepResult:
        """Record what the search has found of a job."""
        job = lease.job
        if found and not (found.doubt or found.fault):
            facts = replace(job.facts, record=found.record, remarks=found.remarks, assurance=found.assurance)
            if found.stage is Stage.DELIVERED:
                sha256, validation = self._sha256(lease, renewal), validation_of(lease, looks)
                move = moves.delivered(job, found.record, calls, sha256, facts=facts, validation=validation)
                if delivered := self._context.end(lease, move, here=close_here):
                    log.info("job_delivered", job=job.id, account=account.name, record=found.record.id)
                    return delivered
            elif self._moved_on(lease, found, facts, account, calls):
                # Not `forward`: its next step has a due entry, and a feeder sends it. A search goes on with no job.
                return StepResult()
        if found and found.fault and not found.doubt:
            decision = reconciliation.after_faulty_record(found.fault, job)
        else:
            case = self._consequences.case(lease, account)
            decision = reconciliation.after_empty_search(case, looks, found.doubt if found else "")
        ended = self._consequences.carry_out(decision, lease, account, calls)
        return StepResult(to_close_by_message=(job.id,)) if ended else StepResult()

    def _moved_on(self, lease: Lease, found: Found, facts: Facts, account: Account, calls: int) -> bool:
        """Move a job of unknown outcome on, if the search shows how far it had come."""
        job = lease.job
        if not job.uncertainty.outcome_unknown or job.stage.final:
            return False
        if found.stage is Stage.REGISTERED:
            moved = self._ledger.apply(lease, moves.registered(facts, account.settings.confirm.first_seconds, calls))
        else:
            self._commit_log.note_record(job, found.record)
            moved = self._ledger.apply(lease, moves.record_found(facts, calls))
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
            return self._context.documents.sha256(lease.job.id, lease.job.document, renewal.check)
        except LeaseLost:
            raise
        except StepError:
            return None
