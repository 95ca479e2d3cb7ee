"""Sends failed documents again: first a plan, which refuses what must not be sent, then its execution."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from tasks.accounts.account import Accounts
from tasks.folders.claims import NotBelieved
from tasks.intake.producers import Producers
from tasks.intake.relabeling import check_unblocking
from tasks.ledger import moves
from tasks.ledger.ledger import Ledger
from tasks.model.document import Document
from tasks.model.job import Job
from tasks.sources.documents import Documents
from worker.cli.commands.retry.failed_documents import FailedDocuments, NotRetried, WhyNot, refusals_as_not_retried
from worker.cli.commands.retry.targets import Target
from worker.inbox.claim import InboxClaims

_POLL_SECONDS = 0.1
_RECEIPT_NOT_BELIEVED = (
    "its receipt in delivered/ does not bear this installation's signature, so it proves nothing. Look into the chart; "
    "if the document is not there, move its file back to the inbox."
)


@dataclass(frozen=True, slots=True)
class Plan:
    target: Target
    # The chart is searched for the document, which is sent only if it is not there.
    search_first: bool
    # A person has decided that the earlier sending does not count.
    forget_sending: bool
    # A person has decided that a missing end does not matter.
    as_it_is: bool
    # A sender's own document as it is now. None: it lies in failed/, and must be brought back from there.
    document: Document | None


class Retries:
    def __init__(
        self,
        ledger: Ledger,
        accounts: Accounts,
        producers: Producers,
        documents: Documents,
        failed_documents: FailedDocuments,
        inbox_claims: InboxClaims,
        closing_seconds: float,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._producers = producers
        self._documents = documents
        self._failed_documents = failed_documents
        self._inbox_claims = inbox_claims
        self._closing_seconds = closing_seconds

    def plan(self, target: Target, *, send_again: bool, as_it_is: bool = False) -> Plan:
        """What would be done. Changes nothing. Raises NotRetried."""
        job = target.job
        if job is None and target.on_disk is None:
            raise NotRetried(target.problem or "no such job is known.")
        if target.on_disk and not target.on_disk.believed:
            reason = _RECEIPT_NOT_BELIEVED if target.on_disk.delivered else str(NotBelieved())
            raise NotRetried(reason, WhyNot.NOT_BELIEVED)
        if target.delivered:
            raise NotRetried("it has arrived.", WhyNot.CHANGED)
        if job and not job.stage.final:
            raise NotRetried("it is still on its way.", WhyNot.CHANGED)
        if target.account not in self._accounts:
            raise NotRetried("the settings no longer name its account.")
        document = job.document if job and not job.document.door.has_folder else None
        if job and document:
            # It may have been refused for what its producer may not do, and the settings may have changed since.
            with refusals_as_not_retried():
                self._producers.check(document)
                check_unblocking(document)
        if job and document and not document.relabeling:  # a relabeling has no file
            # The sender may have corrected the file since: it is taken as it is now.
            with refusals_as_not_retried():
                located = self._documents.locate(job.id, document)
            document = replace(
                document,
                size_bytes=located.size_bytes,
                identity=located.identity,
                as_it_is=as_it_is or document.as_it_is,
            )
        search_first = not send_again and target.needs_search_first
        return Plan(target, search_first, forget_sending=send_again, as_it_is=as_it_is, document=document)

    def rehearse(self, plan: Plan) -> None:
        """Whether the document's file could come back from failed/. Changes nothing. Raises NotRetried."""
        target = plan.target
        # A file that is still being moved to failed/ will be there.
        if plan.document is None and (target.job is None or "files" in target.job.closed):
            self._failed_documents.check(target.job_id, target.account or "", target.patient_id, target.job)

    def carry_out(self, plan: Plan) -> None:
        """Let the job begin again, or open it if it has left Redis. Raises NotRetried."""
        target, document = plan.target, plan.document
        if document is None:
            if target.job:
                self._wait_until_closed(target.job)
            claimed = self._failed_documents.reopen(target.job_id, target.account or "", target.patient_id, target.job)
            if plan.forget_sending:
                claimed = self._failed_documents.forget_sending(claimed)
            if plan.as_it_is:
                claimed = self._failed_documents.let_go_as_it_is(claimed)
            if target.job is None:
                self._inbox_claims.open_orphan(claimed)  # its job has left Redis; the new one keeps the id
                return
            document = self._failed_documents.locate(claimed)
        if target.job:
            self._restart(target.job, document, search_first=plan.search_first)

    def _wait_until_closed(self, job: Job) -> None:
        """A file that is still being moved to failed/ cannot come back from there. Raises NotRetried."""
        deadline = time.monotonic() + self._closing_seconds
        now: Job | None = job
        while now and "files" not in now.closed:
            if time.monotonic() > deadline:
                raise NotRetried("it is still being moved to failed/; try again in a moment.", WhyNot.BUSY)
            time.sleep(_POLL_SECONDS)
            now = self._ledger.get(job.id)

    def _restart(self, job: Job, document: Document, *, search_first: bool) -> None:
        first = self._accounts[document.account].provider.route(document).first
        restart = moves.retry_reconciling if search_first else moves.retry
        result = self._ledger.take_over(job, restart(job, document, first=first))
        if result == "ok":
            return
        # Another command or the watcher may have been faster: then the document is on its way, as was asked.
        now = self._ledger.get(job.id) if result == "moved" else None
        if now is None or now.stage.final:
            message = f"it was changed meanwhile; see `chartpost show {job.id}`, then repeat the command."
            raise NotRetried(message, WhyNot.CHANGED)
