"""Why a document failed or waits, and why a clinic takes none, in the words of the person who looks."""

from __future__ import annotations

from dataclasses import replace

from tasks.accounts.status import AccountStatus
from tasks.closing.notes import facts_of
from tasks.dispatch.waiting import MachinesWaitedFor
from tasks.model.document import Document
from tasks.model.errors import DocumentRefused
from tasks.model.job import Failure, Job
from tasks.model.route import Stage, Step
from tasks.runtime import Runtime
from tasks.wording.explanation import Explanation
from tasks.wording.failures import FailureFacts, explain_failure
from tasks.wording.language import Words
from tasks.wording.waiting import WaitingFacts, WaitingReason, explain_waiting

Explained = Explanation

_REASONS = {
    "parked": WaitingReason.ACCOUNT_PARKED,
    "down": WaitingReason.ACCOUNT_DOWN,
    "throttled": WaitingReason.LIMIT_USED_UP,
}


class Explainer:
    """Good for one page: it asks Redis once for what all documents have in common."""

    def __init__(self, runtime: Runtime, language: str) -> None:
        self._runtime = runtime
        self._words = Words(language)
        self._machines = MachinesWaitedFor(runtime.redis, runtime.workers)

    def failure(self, job: Job) -> Explained:
        return explain_failure(self._words, facts_of(job, self._runtime.settings.accounts))

    def refusal(self, refusal: DocumentRefused, document: Document) -> Explained:
        """Of a document that did not even become a job."""
        account = self._runtime.settings.accounts[document.account]
        facts = FailureFacts.of(
            Failure(refusal.code, refusal.message, refusal.hint, refusal.detail, refusal.about),
            provider=account.provider,
            patient_id=document.patient_id,
            size_bytes=document.size_bytes,
            max_bytes=account.max_bytes,
        )
        return explain_failure(self._words, facts)

    def account(self, status: AccountStatus) -> Explained | None:
        """Why an account takes no documents for the moment; None if it does."""
        if status.provider is None:
            return explain_waiting(self._words, WaitingFacts(WaitingReason.NOT_IN_SETTINGS))
        reason = _REASONS.get(status.status)
        if reason is None:
            return None
        told = explain_waiting(self._words, WaitingFacts(reason, status.provider))
        return replace(told, what_to_do=told.what_to_do[:-1])  # the last is about one document

    def waiting(self, job: Job) -> Explained:
        return explain_waiting(self._words, WaitingFacts(self._reason(job), job.provider))

    def _reason(self, job: Job) -> WaitingReason:
        """What holds the whole account up comes before what holds this document up."""
        if job.account not in self._runtime.settings.accounts:
            return WaitingReason.NOT_IN_SETTINGS
        health = self._runtime.account_statuses.health(job.account)
        if health.status in _REASONS:
            return _REASONS[health.status]
        if self._machines.of_job(job):
            return WaitingReason.ANOTHER_MACHINE
        if job.uncertainty.unknown_since or job.uncertainty.earlier_sending_unknown:
            return WaitingReason.UNKNOWN_OUTCOME
        if job.step is Step.CONFIRM:
            return WaitingReason.VALIDATION
        holder = self._runtime.ledger.name_holder(job.document) if job.stage is Stage.RECEIVED else None
        if holder and holder != job.id:
            return WaitingReason.SAME_NAME
        return WaitingReason.TROUBLE if job.counts.failures else WaitingReason.IN_TURN
