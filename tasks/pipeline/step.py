"""What the steps of the pipeline share: their collaborators, and what running one leads to."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TypeVar

from tasks.closing.results import Results
from tasks.folders.commit_log import CommitLog
from tasks.folders.forgotten_commits import ForgottenCommits
from tasks.folders.staging import is_staged
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.ledger.moves import Move
from tasks.ledger.renewal import Renewal
from tasks.model.errors import AccountBlocked
from tasks.model.job import Facts
from tasks.pipeline.commit_point import CommitPoint
from tasks.providers.base import Provider
from tasks.sources.documents import Documents

Able = TypeVar("Able")


@dataclass(frozen=True, slots=True)
class StepResult:
    """What running a step has led to. All empty: the job waits for its next due entry, or another worker has it."""

    # The job has moved on.
    forward: bool = False
    # The job itself, whose next step this worker goes on with.
    goes_on: Lease | None = None
    # Jobs that ended, and whose closing this worker goes on with.
    to_close_here: tuple[Lease, ...] = ()
    # The ids of jobs that ended; a message must be sent that closes each.
    to_close_by_message: tuple[str, ...] = ()

    def __add__(self, other: StepResult) -> StepResult:
        """What both have ended. `forward` and `goes_on` are dropped: of many jobs a worker goes on with none."""
        return StepResult(
            to_close_here=self.to_close_here + other.to_close_here,
            to_close_by_message=self.to_close_by_message + other.to_close_by_message,
        )


@dataclass(frozen=True, slots=True)
class StepContext:
    """The collaborators of every step. `stopping` is set when the process has been asked to end."""

    ledger: Ledger
    commit_log: CommitLog
    documents: Documents
    results: Results
    stopping: threading.Event
    # None where Redis cannot have forgotten anything, as in tests.
    forgotten: ForgottenCommits | None = None

    def go_on(self, lease: Lease, move: Move) -> StepResult | None:
        """Carry out a move forward, and go on with its next step unless the process has been asked to end.

        None if the move needs a record that proves another job. Raises LeaseLost.
        """
        if self.stopping.is_set():
            return StepResult(forward=True) if self.ledger.apply(lease, move) else None
        next_lease = self.ledger.go_on(lease, move)
        return StepResult(forward=True, goes_on=next_lease) if next_lease else None

    def end(self, lease: Lease, move: Move, *, here: bool = True) -> StepResult | None:
        """Carry out a move that delivers the job. Its closing is gone on with here, unless it may take long.

        Without `here` a message begins it in any case. None if the move needs a record that proves another job. Raises
        LeaseLost.
        """
        job = lease.job
        at_storage = job.document.delete_source and job.document.source.lower().startswith("s3://")
        if not here or job.document.callback_url or is_staged(job) or at_storage or self.stopping.is_set():
            return StepResult(to_close_by_message=(job.id,)) if self.ledger.apply(lease, move) else None
        closing = self.ledger.go_on(lease, move)
        return StepResult(to_close_here=(closing,)) if closing else None

    def commit_point(
        self, lease: Lease, renewal: Renewal, facts: Facts | None = None, *, creates: bool = True
    ) -> CommitPoint:
        """The commit point of one try. `facts` are what a search would need; they are noted at the commit."""
        return CommitPoint(
            self.ledger,
            self.commit_log,
            self.documents,
            lease=lease,
            renewal=renewal,
            stopping=self.stopping,
            facts=facts,
            creates=creates,
            forgotten=self.forgotten,
        )


def able(provider: Provider, ability: type[Able]) -> Able:
    """The provider as one that has this kind of step. Raises AccountBlocked if it has not.

    That happens when the settings give an account another provider while its documents wait.
    """
    if isinstance(provider, ability):
        return provider
    raise AccountBlocked(
        f"This document was accepted for another provider than {provider.kind}: correct the account's provider, "
        "or cancel the document and send it again."
    )
