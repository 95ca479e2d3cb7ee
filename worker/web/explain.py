"""Why a document failed or waits, and why a clinic takes none, in the words of the person who looks."""

from __future__ import annotations

from dataclasses import replace

from tasks.accounts.status import AccountStatus
from tasks.accounts.waiting import reason_of_account
from tasks.closing.notes import facts_of
from tasks.dispatch.waiting import MachinesWaitedFor
from tasks.ledger.clock import LedgerClock
from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused
from tasks.model.job import Failure, Job
from tasks.runtime import Runtime
from tasks.wording.explanation import Explanation
from tasks.wording.failures import FailureFacts, explain_failure
from tasks.wording.language import Words
from tasks.wording.waiting import WaitingFacts, WaitingReason, explain_waiting, until_when

Explained = Explanation


class Explainer:
    """Good for one page: it asks Redis once for what all documents have in common."""

    def __init__(self, runtime: Runtime, language: str) -> None:
        self._runtime = runtime
        self._words = Words(language)
        self._machines = MachinesWaitedFor(runtime.redis, runtime.workers)
        self._clock = LedgerClock(runtime.redis).read()
        self._reasons = runtime.waiting_reasons()

    def failure(self, job: Job, *, may_act: bool) -> Explained:
        """`may_act`: this person has the buttons. Who has none reads what the note beside the file says."""
        told = explain_failure(self._words, facts_of(job, self._runtime.settings.accounts))
        return told.for_page() if may_act else told

    def usual_title(self, account: str, code: str) -> str:
        """Why documents of an account fail with this code, in a few words; `code` is empty where none is known."""
        facts = FailureFacts(Code(code) if code else None, provider=self._runtime.settings.accounts[account].provider)
        return explain_failure(self._words, facts).title

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
        return explain_failure(self._words, facts).for_sending_page()

    def account(self, status: AccountStatus) -> Explained | None:
        """Why an account takes no documents for the moment; None if it does."""
        if status.provider is None:
            return explain_waiting(self._words, WaitingFacts(WaitingReason.NOT_IN_SETTINGS))
        reason = reason_of_account(status.status, status.reason)
        if reason is None:
            return None
        told = explain_waiting(self._words, WaitingFacts(reason, status.provider))
        return replace(told, what_to_do=told.what_to_do[:-1])  # the last is about one document

    def waiting(self, job: Job) -> Explained:
        """Why it waits, and until when it is tried."""
        facts = self._reasons.facts(job, self._clock, machine_is_idle=bool(self._machines.of_job(job)))
        told = explain_waiting(self._words, facts)
        return replace(told, what_to_do=(until_when(self._words, facts), *told.what_to_do))
