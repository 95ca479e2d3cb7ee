"""One try at a step that creates something: its lease, its deadline, its document and its commit point."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from tasks.folders.commit_log import CommitLog
from tasks.folders.forgotten_commits import ForgottenCommits
from tasks.ledger import moves
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.ledger.renewal import Renewal
from tasks.model.errors import AccountBlocked, LeaseLost, OutcomeUnknown, RetryLater, StepError
from tasks.model.job import Facts
from tasks.sources.base import OpenSource
from tasks.sources.documents import Documents

log = structlog.get_logger()

_SLOWEST_BYTES_PER_SECOND = 50_000
_LEAST_SECONDS = 120


class CommitPoint:
    """Implements `providers.base.DocumentGate` for one job.

    `facts` are what a search would need; they are noted at the commit. With `creates` false, nothing that is sent
    makes a document in the chart, so there is nothing to commit.
    """

    def __init__(
        self,
        ledger: Ledger,
        commit_log: CommitLog,
        documents: Documents,
        *,
        lease: Lease,
        renewal: Renewal,
        stopping: threading.Event,
        facts: Facts | None = None,
        creates: bool = True,
        forgotten: ForgottenCommits | None = None,
    ) -> None:
        self._forgotten = forgotten
        self._number, self._run = 0, ""
        self._ledger = ledger
        self._commit_log = commit_log
        self._documents = documents
        self._lease = lease
        self._renewal = renewal
        self._stopping = stopping
        self._facts = facts
        self._creates = creates
        self._committed = False
        size = lease.job.document.size_bytes
        self._deadline = time.monotonic() + _LEAST_SECONDS + size / _SLOWEST_BYTES_PER_SECOND

    def open(self) -> OpenSource:
        """A fresh stream of the document. Raises DocumentRefused (missing, changed) and RetryLater."""
        return self._documents.open(self._lease.job.id, self._lease.job.document)

    def check(self) -> None:
        """Raises LeaseLost, and RetryLater when there is no time left; after the commit only LeaseLost."""
        self._renewal.check()
        if self._committed:
            return
        if self._stopping.is_set():
            raise RetryLater("The worker is stopping; another continues.", after_seconds=0)
        if time.monotonic() > self._deadline:
            raise RetryLater("The upload took too long and was cut.", unreachable=True)

    def commit(self) -> None:
        """Note in the ledger, then in job.json, that the document may arrive. The last block leaves only after that.

        Raises LeaseLost and RetryLater; the last block then stays here.
        """
        self.check()
        if not self._creates:
            return
        # Redis may have been restored since the step began, and this document sent before that.
        forgotten = self._forgotten if self._commit_log.needs_journal(self._lease.job) else None
        if forgotten:
            self._run = forgotten.ensure_known(self._lease.run_mark)
        asked_at = time.monotonic()
        number = self._ledger.commit(self._lease, self._facts, self._run)
        if number is None and forgotten:  # it is in another run by now
            self._run = forgotten.ensure_known()
            number = self._ledger.commit(self._lease, self._facts, self._run)
        if number is None:
            raise RetryLater("Redis was restarted or wiped a moment ago.", after_seconds=0)
        self._number = number
        self._committed = True
        # job.json knows no fencing tokens: after a slow commit another worker may have written into it.
        self._check_commit_was_quick(asked_at)
        try:
            facts = self._facts or self._lease.job.facts
            self._commit_log.note_commit(self._lease.job, facts, self._number, self._run)
        except OSError as error:
            what = "data_dir/commits" if self._commit_log.needs_journal(self._lease.job) else "job.json"
            raise RetryLater(f"{what} cannot be written ({type(error).__name__}); nothing was sent.") from error
        self._check_commit_was_quick(asked_at)

    def _check_commit_was_quick(self, asked_at: float) -> None:
        if time.monotonic() - asked_at > self._ledger.lease_seconds / 2:
            raise RetryLater("The commit took so long that the lease may be gone; nothing was sent.", after_seconds=0)

    @contextmanager
    def taking_back(self) -> Iterator[None]:
        """Take the commit back where the block ends in an error that says for certain: nothing was created."""
        try:
            yield
        except (OutcomeUnknown, LeaseLost):
            raise
        except StepError as error:
            if isinstance(error, AccountBlocked) and error.outcome_unknown:
                raise
            earlier = self._lease.job.uncertainty.perhaps_sent
            if self._committed and not earlier:  # else an earlier one may have created it
                self._take_back()
            raise

    def _take_back(self) -> None:
        """In the ledger first, which knows whose commit it is. Raises LeaseLost where it is another's."""
        self._ledger.apply(self._lease, moves.uncommitted())
        try:
            self._commit_log.note_commit_undone(self._lease.job, self._number, self._run)
        except OSError as error:
            # The disk that would not take the commit refuses this as well. Should the commit stand there all the same,
            # the next try searches before it sends, which costs only time.
            log.warning("commit_still_noted", job=self._lease.job.id, error=type(error).__name__)
